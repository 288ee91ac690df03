"""Running a server until it is asked to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memorycell.server.config import ServerConfig, read_config
from memorycell.server.listening import check_tls, listen
from memorycell.server.logs import set_up_logging
from memorycell.server.redistributing import distribute
from memorycell.server.supervisor import run_workers


def run(config: ServerConfig) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `UserError` where it cannot start."""
    set_up_logging(config.log)
    check_tls(config)
    if config.workers > 1:
        run_workers(config)
        return
    # The supervisor of workers does without PyTorch.
    from memorycell.server.app import build
    from memorycell.server.serving import serve_app

    distribute(config)
    app = build(config)
    listening = listen(config)
    try:
        serve_app(app, config, listening)
    finally:
        listening.close()


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
