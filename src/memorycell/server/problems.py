"""Errors as JSON problems (RFC 9457, 2023): each says what is wrong and how to fix it."""

from __future__ import annotations

from typing import Any

from memorycell.errors import DataError, ModelFileError, StateError, UserError

TITLES: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be read"),
    "unauthorised": (401, "A token is needed"),
    "forbidden": (403, "This is not allowed"),
    "no-such-model": (404, "No such model"),
    "no-such-session": (404, "No such session"),
    "no-such-route": (404, "No such route"),
    "method-not-allowed": (405, "The method is not allowed"),
    "session-exists": (409, "The session exists"),
    "session-in-use": (409, "The session is in use"),
    "steps-differ": (409, "The session has read another number of items"),
    "too-large": (413, "Too large"),
    "bad-media-type": (415, "The content type is not supported"),
    "unusable-input": (422, "The input cannot be used"),
    "state-refused": (422, "The state cannot be used"),
    "too-many-requests": (429, "Too many requests"),
    "too-many-sessions": (429, "Too many sessions"),
    "internal": (500, "Internal error"),
    "not-ready": (503, "Not ready"),
    "draining": (503, "The server is shutting down"),
    "store-unavailable": (503, "The store of sessions cannot be reached"),
    "deadline": (504, "The deadline has passed"),
    "store-full": (507, "The store of sessions is full"),
}
"""Slug -> (status, title)."""


class Problem(Exception):
    """An answer other than success.

    detail        what is wrong and how to fix it
    extra         further members of the JSON object
    retry_after   seconds, for the header Retry-After
    allow         methods, for the header Allow
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        retry_after: float | None = None,
        allow: str | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.slug, self.detail, self.extra = slug, detail, extra
        self.retry_after, self.allow = retry_after, allow
        self.status, self.title = TITLES[slug]

    def to_json(self, request_id: str = "") -> dict[str, Any]:
        """The JSON object of the problem."""
        problem: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        if request_id:
            problem["request_id"] = request_id
        return problem

    @property
    def headers(self) -> dict[str, str]:
        """Headers of its HTTP answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after)))
        if self.allow is not None:
            headers["allow"] = self.allow
        if self.status == 401:
            headers["www-authenticate"] = 'Bearer realm="memorycell"'
        return headers


def problem_of(error: BaseException) -> Problem | None:
    """The problem of an exception that is the user's; None for a defect of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StateError):
        return Problem("state-refused", str(error))
    if isinstance(error, (DataError, ModelFileError)):
        return Problem("unusable-input", _for_clients(str(error)))
    if isinstance(error, UserError):
        return Problem("bad-request", _for_clients(str(error)))
    if isinstance(error, MemoryError):
        return Problem("too-large", "not enough memory for this request; send less at a time")
    return None


def _for_clients(message: str) -> str:
    """The message of a session, which names the command line's input, for a client."""
    return message.replace("stdin, line", "line").replace("stdin:", "input:")


INTERNAL = (
    "an unexpected error, which is logged with this request id; the session is unchanged or closed;"
    " please report it"
)


def internal_problem() -> Problem:
    """The problem of a defect."""
    return Problem("internal", INTERNAL)
