"""A TCP proxy whose connections can be cut, also with an answer that was under way."""

import contextlib
import socket
import threading

MESSAGES = (0x81, 0x82)
"""First bytes of WebSocket messages, as text and as bytes; HTTP and pings begin otherwise."""


class Proxy:
    """`with Proxy(port) as proxy`: forwards proxy.port to port. With `lose_answer` all connections
    are cut when the server next sends a message to a WebSocket, which is lost.
    """

    def __init__(self, target):
        self.target, self.lose_answer = target, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.links, self.lock = [], threading.Lock()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.listener.close()
        self.cut()

    def cut(self):
        """Close all connections, as a network does that fails."""
        with self.lock:
            links, self.links = self.links, []
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            with self.lock:
                self.links += [near, far]
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _loses(self):
        with self.lock:
            loses, self.lose_answer = self.lose_answer, False
        return loses

    def _pump(self, source, sink, answers):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and data[0] in MESSAGES and self._loses():
                    self.cut()
                    return
                sink.sendall(data)
        for link in (source, sink):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
