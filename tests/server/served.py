"""A server in a thread of the test's process, on a free port of the loopback interface."""

import contextlib
import threading
import time

import uvicorn

from memorycell.server.app import build


@contextlib.contextmanager
def served(config, port=0):
    """Gives its address."""
    server = uvicorn.Server(
        uvicorn.Config(
            build(config),
            host="127.0.0.1",
            port=port,
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(120)
        assert not thread.is_alive(), "the server did not end"
