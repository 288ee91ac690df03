"""serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import app
from memorycell.cli.console import put
from memorycell.cli.options import key_values


@app.command()
def serve(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Model files, or NAME=FILE.")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(help="Recurrent layers: .onnx, .keras, or weights as .safetensors or .pt."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="[default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="[default: 8000]")] = None,
    state: Annotated[
        Path | None, typer.Option(help="A folder for sessions that survive a restart.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="redis://HOST: sessions that other servers can take over.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Tokens that callers need.")] = None,
    new_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a new token and its line, and end.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. [default: 1]")] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo", help="Train and serve small models.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the server."),
    ] = None,
) -> None:
    """Serve models: many live sessions over HTTP and WebSockets, and a page to look inside them.

    Settings are listed in docs/serve.md; SIGTERM ends it orderly.
    """
    from memorycell.server.auth import new_token as make_token
    from memorycell.server.config import parsed_settings, read_config
    from memorycell.server.running import run

    if new_token is not None:
        put("\n".join(make_token(new_token)))
        return
    given = {
        "files": files,
        "modules": module,
        "host": host,
        "port": port,
        "state": None if state is None else str(state),
        "store": store,
        "token_file": None if token_file is None else str(token_file),
        "workers": workers,
        "demo": demo,
        **parsed_settings(key_values(settings)),
    }
    run(read_config({name: value for name, value in given.items() if value is not None}, config))
