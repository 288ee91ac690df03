"""What it costs when a session lives in another worker than the connection reached."""

import http.client
import json
import statistics
from collections.abc import Sequence

import load_generator as load
import numpy as np
import serve_clients as sessions
from serve_rows import Contender, Plan, Row, compare, throughput
from server_process import Server

from memorycell.server.placement import owner

HIDDEN, WORKERS, LINKS, REQUESTS = 64, 2, 16, 2000
PATH = f"/v1/models/{sessions.MODEL}/sessions"


def relayed(plan: Plan) -> Row:
    """Processor time per step of all workers together, where the session is in the worker that the
    connection reached (near) and where it is in the other one (far).
    """
    words = ["--workers", str(WORKERS)]
    x = sessions.inputs(LINKS, HIDDEN)
    with sessions.ours(plan.onnx(HIDDEN), plan.folder, plan.server, words) as server:
        clients = {place: _sockets(server.port, x, place) for place in ("near", "far")}
        for each in clients.values():
            compare(each, [], x, HIDDEN)
        rows = throughput(plan, {name: Contender(server, each) for name, each in clients.items()})
        result: Row = {f"WebSocket, {name}": row["us"] for name, row in rows.items()}
        result["WebSocket, times"] = round(rows["far"]["us"] / rows["near"]["us"], 2)
        rest = _rest(plan, server)
    result |= {f"REST, {name}": round(us, 1) for name, us in rest.items()}
    result["REST, times"] = round(rest["far"] / rest["near"], 2)
    return result


def _id(home: str, place: str, number: int) -> str:
    """An id that belongs to the worker of the session `home` (near), or to another one (far)."""
    at = owner(sessions.MODEL, home, WORKERS)
    ids = (f"{place}-{number}-{k}" for k in range(1000))
    return next(i for i in ids if (owner(sessions.MODEL, i, WORKERS) == at) == (place == "near"))


def _sockets(port: int, x: np.ndarray, place: str) -> Sequence[load.Client]:
    clients = []
    for number, rows in enumerate(x):
        link = sessions.Link(port)
        opened = link.ask({"op": "open", "model": sessions.MODEL, "input": "tensors"})
        link.open([_id(opened["session"]["id"], place, number)])
        clients.append(link.client(rows[None]))
    return clients


def _rest(plan: Plan, server: Server) -> dict[str, float]:
    """Microseconds per step over one connection."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def post(path: str, body: bytes) -> dict[str, object]:
        link.request("POST", path, body)
        answer: dict[str, object] = json.loads(link.getresponse().read())
        return answer

    body = json.dumps([0.1] * HIDDEN).encode()
    home = str(post(PATH, b"{}")["id"])
    paths = {}
    for place in ("near", "far"):
        name = _id(home, place, LINKS)
        post(PATH, json.dumps({"id": name}).encode())
        paths[place] = f"{PATH}/{name}/step"
        post(paths[place], body)
    samples: dict[str, list[float]] = {place: [] for place in paths}
    count = max(100, round(REQUESTS * min(1.0, plan.seconds)))
    for _ in range(plan.rounds):
        for place, path in paths.items():
            began = server.processor_seconds()
            for _ in range(count):
                post(path, body)
            samples[place].append(1e6 * (server.processor_seconds() - began) / count)
    link.close()
    return {place: statistics.median(values) for place, values in samples.items()}
