"""Running a server until it is asked to end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from memorycell.errors import UserError
from memorycell.server.app import App, build
from memorycell.server.config import ServerConfig, read_config
from memorycell.server.direct_websocket import DirectWebSocket

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BACKLOG = 4096


def run(config: ServerConfig) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `UserError` where it cannot start."""
    set_up_logging(config.log)
    app = build(config)
    listening = _listen(config)
    server = _Server(app, _uvicorn_config(app, config))
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.run_until_stopped(listening))
    finally:
        listening.close()
    if server.failure is not None:
        raise server.failure


def serve(*models: str | Path, config: str | Path | None = None, **settings: Any) -> None:
    """Serve model files until the process is asked to end: many live sessions over HTTP and
    WebSockets, see docs/serve.md. `memorycell.settings` of `ServerConfig` are keyword arguments.

    models   model files, FILE or NAME=FILE
    config   a TOML file with settings; arguments override it

    Raises `UserError`.
    """
    given: dict[str, Any] = dict(settings)
    if models:
        given["files"] = [str(model) for model in models]
    run(read_config(given, None if config is None else Path(config)))


def _listen(config: ServerConfig) -> socket.socket:
    """The socket of a configuration. Raises `UserError`, such as for a port that is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host, config.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise UserError(
            f"{config.host}:{config.port}: cannot listen ({error.strerror or error}); choose"
            " another --port"
        ) from None
    return listening


def _uvicorn_config(app: App, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ws=DirectWebSocket,
        ws_per_message_deflate=False,
        ws_max_size=int(config.max_message_mb * 1e6),
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key,
        timeout_graceful_shutdown=max(1, round(config.drain_s)),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        proxy_headers=False,
    )


class _Server(uvicorn.Server):
    """uvicorn's server that asks the clients of sockets to connect again before it ends."""

    def __init__(self, app: App, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self.failure: BaseException | None = None

    async def run_until_stopped(self, listening: socket.socket) -> None:
        """Load the models, answer, drain."""
        host, port = listening.getsockname()[:2]
        try:
            async with self._app.lifespan() as hub:
                scheme = "https" if self.config.ssl_certfile else "http"
                names = ", ".join(hub.registry.versions) or "no model"
                where = f"[{host}]" if ":" in host else host
                logging.getLogger("memorycell.server").info(
                    "serving %s on %s://%s:%d", names, scheme, where, port
                )
                if host not in LOOPBACK and not self._app.tokens.required:
                    logging.getLogger("memorycell.server").warning(
                        "everybody who reaches %s may use the models; give --token-file", host
                    )
                await self.serve(sockets=[listening])
        except UserError as error:
            self.failure = error

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        for server in self.servers:
            server.close()
        await self._app.drain()
        await super().shutdown(sockets)
        self._captured_signals.clear()  # else it would end by the signal, not orderly


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
