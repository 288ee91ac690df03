"""Bearer tokens: who may use which model for what.

The token file has a JSON object per line. It holds SHA-256 hashes of the tokens, not the tokens:
`memorycell serve --new-token NAME` prints a token once and the line to append.

    {"name": "plant-3", "sha256": "9f86d0…", "models": ["pumps", "valves"], "scopes": ["step"]}

Tokens are random and long, so a plain hash is enough; hashes are compared in constant time, each
with all lines.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from memorycell.errors import UserError
from memorycell.server.problems import Problem
from memorycell.setting_fields import from_json

SCOPES = ("step", "read", "admin")
"""step: sessions and predictions; read: lists, descriptions and states; admin: reload, upload."""
TOKEN_BYTES = 32
MAX_TOKEN_CHARS = 512


@dataclass(frozen=True)
class _Line:
    name: str
    sha256: str
    models: tuple[str, ...] = ("*",)
    scopes: tuple[str, ...] = ("step", "read")


@dataclass(frozen=True)
class Caller:
    """Who sent a request. `name` owns the sessions that it opens."""

    name: str
    models: frozenset[str]
    scopes: frozenset[str]

    def may(self, scope: str, model: str | None = None) -> bool:
        """Whether the caller has a scope for a model, or for some model."""
        return scope in self.scopes and (
            model is None or "*" in self.models or model in self.models
        )

    def check(self, scope: str, model: str | None = None) -> None:
        """Raises `Problem` 403."""
        if not self.may(scope, model):
            where = "" if model is None else f" for the model {model}"
            raise Problem(
                "forbidden",
                f"the token {self.name} does not have the scope {scope}{where}; ask for a token"
                " that has it",
            )


EVERYBODY = Caller("", frozenset("*"), frozenset(SCOPES))
"""The caller of a server without tokens."""


class Tokens:
    """The tokens of a file; None: everybody may do everything."""

    def __init__(self, path: Path | None) -> None:
        self._callers: list[tuple[bytes, Caller]] = []
        self.required = path is not None
        if path is not None:
            self._callers = _read(path)

    def caller(self, token: str | None) -> Caller:
        """The caller of a token. Raises `Problem` 401."""
        if not self.required:
            return EVERYBODY
        if token is None:
            raise Problem("unauthorised", "send the header Authorization: Bearer TOKEN")
        digest = _digest(token[:MAX_TOKEN_CHARS])
        found = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, digest):
                found = caller
        if found is None:
            raise Problem("unauthorised", "the token is not known; ask for a new one")
        return found

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller of a request. Raises `Problem` 401."""
        if not self.required:
            return EVERYBODY
        for name, value in headers:
            if name == b"authorization":
                kind, _, token = value.decode("latin-1").partition(" ")
                return self.caller(token.strip() if kind.lower() == "bearer" else None)
        return self.caller(None)


def new_token(name: str) -> tuple[str, str]:
    """(token, line for the token file)."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    line = {
        "name": name,
        "sha256": _digest(token).hex(),
        "models": ["*"],
        "scopes": ["step", "read"],
    }
    return token, orjson.dumps(line).decode()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _read(path: Path) -> list[tuple[bytes, Caller]]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    callers = []
    for number, text in enumerate(lines, 1):
        if not text.strip() or text.startswith("#"):
            continue
        try:
            line = from_json(_Line, orjson.loads(text))
            digest = bytes.fromhex(line.sha256)
            if len(digest) != 32:
                raise ValueError("sha256: expected 64 hexadecimal digits")
            unknown = set(line.scopes) - set(SCOPES)
            if unknown:
                raise ValueError(f"scopes: expected {', '.join(SCOPES)}")
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: not a token ({error}); memorycell serve --new-token NAME"
                " prints one"
            ) from None
        caller = Caller(line.name, frozenset(line.models), frozenset(line.scopes))
        callers.append((digest, caller))
    if not callers:
        raise UserError(f"{path}: no token; memorycell serve --new-token NAME prints one")
    return callers
