"""Where a server listens."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence

from memorycell.errors import UserError
from memorycell.server.config import ServerConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BACKLOG = 4096


def listen(config: ServerConfig, *, shared: bool = False) -> socket.socket:
    """The socket of a configuration; `shared`: one of several on its port. Raises `UserError`, such
    as for a port that is taken.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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


def check_tls(config: ServerConfig) -> None:
    """Raises `UserError` for files that are no certificate and its key."""
    if config.tls_cert is None or config.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:  # `SSLError` is one
        raise UserError(
            f"tls_cert={config.tls_cert}, tls_key={config.tls_key}: expected a certificate and its"
            f" key as PEM files ({error.strerror or error})"
        ) from None


def announce(config: ServerConfig, listening: socket.socket, models: Sequence[str]) -> None:
    """Log where a server answers."""
    log = logging.getLogger("memorycell.server")
    host, port = listening.getsockname()[:2]
    scheme = "https" if config.tls_cert else "http"
    names = ", ".join(models) or "no model"
    where = f"[{host}]" if ":" in host else host
    workers = f" with {config.workers} workers" if config.workers > 1 else ""
    log.info("serving %s on %s://%s:%d%s", names, scheme, where, port, workers)
    if host not in LOOPBACK and config.token_file is None:
        log.warning("everybody who reaches %s may use the models; give --token-file", host)
