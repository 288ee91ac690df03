"""How a server runs: flags, environment variables and a TOML file, in this order of precedence.

An environment variable is the name of a setting in capitals after MEMORYCELL_SERVE_: for example
MEMORYCELL_SERVE_PORT=9000. The TOML file has the same names: port = 9000.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from memorycell.errors import UserError
from memorycell.setting_fields import check_choices, check_ranges, from_json, suggestion

PREFIX = "MEMORYCELL_SERVE_"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Settings of a server.

    host, port            where it listens; loopback by default
    files                 model files, FILE or NAME=FILE
    modules               recurrent layers without an application, NAME=FILE (.onnx, .keras,
                          .safetensors or .pt with the weights of torch's layers)
    state                 folder for sessions that survive; none: they end with the process
    store                 redis://… for sessions that another server can take over
    token_file            tokens that callers need; see `server.auth`
    tls_cert, tls_key     files for HTTPS
    demo                  train and serve small models
    workers               processes; a session lives in one of them
    carry                 sessions of a model file that is replaced: "none" (they continue on the
                          old version) or "state" (they continue on the new one where the
                          architecture and the codec are the same)
    reload_s              seconds between looks at the model files; 0: never
    window_ms             longest wait for a batch to fill, under load; 0: none
    drain_s               seconds for requests to end at a shutdown
    max_body_mb           of a request's body; max_message_mb: of a WebSocket message
    max_queue             steps of a model that wait
    max_prediction        length, count or similar option of a prediction or a session; their
                          product may be a hundred times as large
    max_sessions          open sessions; max_resident: of them in memory, with a store
    max_sessions_per_token
    ttl_s                 seconds without a request after which a session is closed; 0: never
    interval_s            of sessions opened with durable=interval
    log                   "text" or "json"
    """

    host: str = "127.0.0.1"
    port: int = 8000
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    state: str | None = None
    store: str | None = None
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    demo: bool = False
    workers: int = 1
    carry: str = "none"
    reload_s: float = 1.0
    window_ms: float = 0.0
    drain_s: float = 10.0
    max_body_mb: float = 64.0
    max_message_mb: float = 16.0
    max_queue: int = 65_536
    max_prediction: int = 10_000
    max_sessions: int = 1_000_000
    max_resident: int = 100_000
    max_sessions_per_token: int = 1_000_000
    ttl_s: float = 3600.0
    interval_s: float = 1.0
    log: str = "text"

    def __post_init__(self) -> None:
        check_choices(self, carry=("none", "state"), log=("text", "json"))
        check_ranges(
            self,
            port=(0, 65_535),
            workers=(1, 256),
            reload_s=(0, 3600),
            window_ms=(0, 2),
            drain_s=(0, 600),
            max_body_mb=(0.001, 4096),
            max_message_mb=(0.001, 1024),
            max_queue=(1, 10_000_000),
            max_prediction=(1, 10_000_000),
            max_sessions=(1, 10_000_000),
            max_resident=(1, 10_000_000),
            max_sessions_per_token=(1, 10_000_000),
            ttl_s=(0, 1e9),
            interval_s=(0.01, 3600),
        )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert, tls_key: expected both or neither")


def read_config(
    given: Mapping[str, Any], path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> ServerConfig:
    """The configuration of flags that were given, the environment and a TOML file. Raises
    `UserError`.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values |= _read_toml(path)
    names = {field.name: field for field in fields(ServerConfig)}
    for name in names:
        text = environment.get(PREFIX + name.upper())
        if text is not None:
            values[name] = _parsed(name, text)
    values |= given
    for name in values:
        if name not in names:
            where = "" if path is None else f"{path}: "
            raise UserError(f"{where}{name}: no such setting; {suggestion(name, names)}")
    try:
        return from_json(ServerConfig, values)
    except ValueError as error:
        raise UserError(f"serve: {error}") from None


def parsed_settings(texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings as texts, such as those of --set. Raises `UserError`."""
    return {name: _parsed(name, text) for name, text in texts.items()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _parsed(name: str, text: str) -> Any:
    default = getattr(ServerConfig, name, None)
    try:
        if isinstance(default, bool):
            if text.lower() not in ("1", "0", "true", "false", "yes", "no"):
                raise ValueError(f"expected yes or no, got {text!r}")
            return text.lower() in ("1", "true", "yes")
        if isinstance(default, tuple):
            return [part for part in text.split(os.pathsep) if part]
        if isinstance(default, (int, float)):
            return type(default)(text)
    except ValueError as error:
        raise UserError(f"{name}={text}: {error}") from None
    return text
