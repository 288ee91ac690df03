"""A worker process, started by the supervisor: `python -m memorycell.server.worker`.

Reads its plan as a line of JSON from stdin, which stays open for as long as the supervisor lives,
and writes a line to stdout when it is ready or cannot start.
"""

from __future__ import annotations

import socket
import sys

import orjson

from memorycell.errors import UserError
from memorycell.server.app import build
from memorycell.server.config import ServerConfig
from memorycell.server.logs import set_up_logging
from memorycell.server.placement import Place
from memorycell.server.serving import serve_app
from memorycell.setting_fields import from_json


def main() -> int:
    """Serve; the exit status."""
    plan = orjson.loads(sys.stdin.readline())
    config = from_json(ServerConfig, plan["config"])
    set_up_logging(config.log)
    listening = socket.socket(fileno=plan["fd"])
    try:
        serve_app(build(config, place=Place(**plan["place"])), config, listening)
    except UserError as error:
        print(orjson.dumps({"error": str(error)}).decode(), flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
