"""Log records as text or JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import orjson


def set_up_logging(kind: str) -> None:
    """Write log records to stderr, as text or as a JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if kind == "json" else _TextFormatter())
    for name in ("memorycell.server", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "memorycell.server" else logging.WARNING)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")


class _JsonFormatter(logging.Formatter):
    FIELDS = ("request_id", "status", "ms")

    def format(self, record: logging.LogRecord) -> str:
        """A line."""
        values: Mapping[str, Any] = vars(record)
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: values[name] for name in self.FIELDS if name in values},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()
