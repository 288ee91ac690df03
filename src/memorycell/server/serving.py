"""An application on uvicorn: start, answer, drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import orjson
import uvicorn

from memorycell.errors import UserError
from memorycell.server.app import App
from memorycell.server.collecting import rare_collections
from memorycell.server.config import ServerConfig
from memorycell.server.direct_websocket import DirectWebSocket
from memorycell.server.hops import HopServer
from memorycell.server.listening import announce

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve_app(app: App, config: ServerConfig, listening: socket.socket) -> None:
    """Serve until the process is asked to end. Raises `UserError`."""
    server = Server(app, _uvicorn_config(app, config))
    if app.place is not None:
        server.end_with_stdin()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.run_until_stopped(listening))
    if server.failure is not None:
        raise server.failure


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


class Server(uvicorn.Server):
    """uvicorn's server that asks the clients of sockets to connect again before it ends."""

    def __init__(self, app: App, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self._hops: HopServer | None = None
        self.failure: BaseException | None = None

    async def run_until_stopped(self, listening: socket.socket) -> None:
        """Load the models, answer, drain."""
        try:
            async with self._app.lifespan() as hub:
                if self._app.place is None:
                    announce(self._app.config, listening, list(hub.registry.versions))
                else:  # for the supervisor
                    print(orjson.dumps({"ready": list(hub.registry.versions)}).decode(), flush=True)
                with rare_collections():
                    await self.serve(sockets=[listening])
        except UserError as error:
            self.failure = error

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; a worker also listens to its peers."""
        await super().startup(sockets)
        place = self._app.place
        if place is not None:
            self._hops = HopServer(self._app, self._app.on_hop_socket, place.secret)
            await self._hops.start(place.path(place.worker))

    def end_with_stdin(self) -> None:
        """Shut down when the supervisor has ended, which holds the other end of stdin."""

        def wait() -> None:
            while os.read(0, 1):  # sys.stdin's lock would disturb the end of the process
                pass
            self.should_exit = True

        threading.Thread(target=wait, daemon=True).start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        for server in self.servers:
            server.close()
        await self._app.drain()
        if self._hops is not None:
            await self._hops.close(self._app.config.drain_s)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down at a signal and return, where uvicorn's own would end by the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._end) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT  # Ctrl-C twice
        self.should_exit = True
