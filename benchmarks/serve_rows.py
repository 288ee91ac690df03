"""The measurements of benchmarks/serve.py, one function per row of its table.

Each returns a dictionary of figures. `us` are microseconds of the server's processor time per step:
unlike wall times they hardly depend on how busy the machine is.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import load_generator as load
import numpy as np
import serve_clients as sessions
import torch
from server_process import Server

import memorycell

TOLERANCE = 1e-5
BODY_OURS, BODY_PEER = sessions.HEADER.size, 4
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How long and how much.

    seconds   of one slice of load
    rounds    alternating slices of which the median is given
    server    cores of the servers; the load generator has another
    many      number of connections where the table says 1,000
    """

    folder: Path
    seconds: float
    rounds: int
    server: set[int]
    many: int
    frames: int
    open_sessions: int
    kills: int
    reloads: int
    total_steps: int
    peer: bool

    def onnx(self, hidden: int) -> Path:
        """The layer that every server runs, with I = H, as an ONNX file."""
        import onnx

        from memorycell.exchange.onnx_export import export

        path = self.folder / f"lstm{hidden}.onnx"
        if not path.exists():
            onnx.save(export(layer(hidden)), path)
        return path


def layer(hidden: int) -> memorycell.LSTM:
    torch.manual_seed(hidden)
    return memorycell.LSTM(hidden, hidden, batch_first=True)


@dataclass
class Contender:
    """Clients of a server, and the number of steps that a message carries."""

    server: Server
    clients: Sequence[load.Client]
    steps: int = 1


def throughput(plan: Plan, contenders: dict[str, Contender]) -> dict[str, Row]:
    """All connections busy: medians of alternating slices."""
    samples: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
    for name, each in contenders.items():
        load.closed_loop(each.clients, plan.seconds / 5)  # warm
        samples[name].clear()
    for _ in range(plan.rounds):
        for name, each in contenders.items():
            cpu = each.server.processor_seconds()
            began = time.perf_counter()
            run = load.closed_loop(each.clients, plan.seconds)
            wall = time.perf_counter() - began
            cpu = each.server.processor_seconds() - cpu
            steps = len(run.latencies_s) * each.steps
            samples[name].append((1e6 * cpu / steps, steps / wall, 1e6 * run.client_s / steps))
    rows = {}
    for name, values in samples.items():
        us, rate, client_us = (statistics.median(column) for column in zip(*values, strict=True))
        rows[name] = {
            "us": round(us, 2),
            "steps_per_core_second": round(1e6 / us),
            "steps_per_wall_second": round(rate),
            "client_us": round(client_us, 2),
        }
    return rows


def compare(
    ours: Sequence[load.Client], theirs: Sequence[load.Client], x: np.ndarray, hidden: int
) -> float:
    """The largest difference of the first outputs from PyTorch's, of ours and of the peer's; it
    must be small for anything to be timed.
    """
    rounds = 3
    with torch.no_grad():
        expected, _ = layer(hidden)(torch.from_numpy(x[:, :rounds]))
    truth = expected.numpy().transpose(1, 0, 2).reshape(rounds, -1)
    worst = 0.0
    for clients, body in ((ours, BODY_OURS), (theirs, BODY_PEER)):
        if clients:
            found = sessions.outputs(clients, rounds, body).reshape(rounds, -1)
            worst = max(worst, float(np.abs(found - truth).max()))
    if not worst <= TOLERANCE:
        raise SystemExit(f"outputs differ by {worst:g}: not timed")
    return worst


@contextlib.contextmanager
def _servers(plan: Plan, onnx: Path) -> Iterator[tuple[Server, Server | None]]:
    """Ours and, if it is measured, the peer, on the same core."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(sessions.ours(onnx, plan.folder, plan.server))
        peer = None
        if plan.peer:
            peer = stack.enter_context(sessions.peer(onnx, plan.folder, plan.server))
        yield ours, peer


def messages(plan: Plan) -> Row:
    """One-step messages at 64 connections, H = 64, compared with the transport's own echo; and
    frames that carry many sessions.
    """
    hidden = 64
    onnx = plan.onnx(hidden)
    x = sessions.inputs(64, hidden)
    with _servers(plan, onnx) as (our_server, peer_server):
        ours = sessions.our_clients(our_server.port, x)
        theirs = [] if peer_server is None else sessions.peer_clients(peer_server.port, x)
        worst = compare(ours, theirs, x, hidden)
        many = sessions.inputs(plan.frames * 4, hidden)
        frames = sessions.our_clients(our_server.port, many, plan.frames, "f")
        compare(frames, [], many, hidden)
        contenders = {
            "one step per message": Contender(our_server, ours),
            f"{plan.frames} sessions per frame": Contender(our_server, frames, plan.frames),
        }
        if peer_server is not None:
            echo = sessions.peer_clients(peer_server.port, x, "/echo")
            contenders["echo"] = Contender(peer_server, echo)
            contenders["peer"] = Contender(peer_server, theirs)
        rows = throughput(plan, contenders)
    return {"max_diff": worst, **rows}


def busy(plan: Plan, count: int) -> Row:
    """All of `count` sessions busy, H = 256, compared with the peer."""
    hidden = 256
    onnx = plan.onnx(hidden)
    x = sessions.inputs(count, hidden)
    with _servers(plan, onnx) as (our_server, peer_server):
        ours = sessions.our_clients(our_server.port, x)
        theirs = [] if peer_server is None else sessions.peer_clients(peer_server.port, x)
        worst = compare(ours[:64], theirs[:64], x[:64], hidden)
        per_frame = min(64, count // 4)
        whole = count // per_frame * per_frame
        frames = sessions.our_clients(our_server.port, x[:whole], per_frame, "f")
        contenders = {
            "one session per connection": Contender(our_server, ours),
            f"{per_frame} sessions per frame": Contender(our_server, frames, per_frame),
        }
        if peer_server is not None:
            contenders["peer"] = Contender(peer_server, theirs)
        rows = throughput(plan, contenders)
    for name, row in rows.items():
        if name != "peer" and "peer" in rows:
            row["times_the_peer"] = round(rows["peer"]["us"] / row["us"], 2)
    return {"max_diff": worst, **rows}


def latency(plan: Plan) -> Row:
    """Latencies of 64 connections at half of the throughput of each and at half of the lower one,
    and of many connections at 10 steps/s.
    """
    hidden = 256
    onnx = plan.onnx(hidden)
    result: Row = {}
    with _servers(plan, onnx) as (our_server, peer_server):
        makers: dict[str, tuple[Server, Callable[..., list[load.Client]]]] = {
            "ours": (
                our_server,
                lambda port, x: sessions.our_clients(port, x, prefix=f"{len(x)}-"),
            ),
        }
        if peer_server is not None:
            makers["peer"] = (peer_server, sessions.peer_clients)
        x = sessions.inputs(64, hidden)
        links = {name: make(server.port, x) for name, (server, make) in makers.items()}
        full = throughput(
            plan, {n: Contender(makers[n][0], clients) for n, clients in links.items()}
        )
        half = {name: row["steps_per_wall_second"] / 2 for name, row in full.items()}
        result["64 at 50%"] = _paced(plan, links, half)
        if peer_server is not None:
            lowest = dict.fromkeys(links, min(half.values()))
            result["64 at the lower 50%"] = _paced(plan, links, lowest)
        for clients in links.values():
            sessions.close(clients)
        x = sessions.inputs(plan.many, hidden)
        links = {name: make(server.port, x) for name, (server, make) in makers.items()}
        for clients in links.values():
            load.closed_loop(clients, plan.seconds / 5)  # warm
        result[f"{plan.many} at 10/s"] = _paced(plan, links, dict.fromkeys(links, 10 * plan.many))
        for clients in links.values():
            sessions.close(clients)
    return result


def _paced(plan: Plan, links: dict[str, list[load.Client]], rates: dict[str, float]) -> Row:
    """Latencies at a number of steps per second; medians of alternating slices."""
    runs: dict[str, list[load.Load]] = {name: [] for name in links}
    for _ in range(plan.rounds):
        for name, clients in links.items():
            runs[name].append(load.paced(clients, rates[name] / len(clients), plan.seconds))
    return {
        name: {
            "steps_per_second": round(rates[name]),
            "p50_ms": round(statistics.median(r.quantile_ms(0.5) for r in each), 2),
            "p99_ms": round(statistics.median(r.quantile_ms(0.99) for r in each), 2),
        }
        for name, each in runs.items()
    }


def overhead(plan: Plan) -> Row:
    """Processor time per step in frames of 64 sessions, more than that of `Pool.step`."""
    hidden, batch = 64, 64
    x = sessions.inputs(batch, hidden)
    pool = memorycell.Pool(layer(hidden), capacity=batch)
    slots = pool.open_many(batch)
    batches = [np.ascontiguousarray(x[:, k]) for k in range(sessions.INPUTS)]
    alone = []
    with sessions.ours(plan.onnx(hidden), plan.folder, plan.server) as server:
        clients = sessions.our_clients(server.port, x, batch)
        compare(clients, [], x, hidden)
        served = []
        for _ in range(plan.rounds):
            began, count = time.process_time(), 0
            while time.process_time() - began < plan.seconds / 2:
                for rows in batches:
                    pool.step(slots, rows)
                count += sessions.INPUTS * batch
            alone.append(1e6 * (time.process_time() - began) / count)
            contender = {"frames": Contender(server, clients, batch)}
            served.append(throughput(replaced(plan, rounds=1), contender)["frames"]["us"])
        sessions.close(clients)
    return {
        "pool_us": round(statistics.median(alone), 2),
        "served_us": round(statistics.median(served), 2),
        "overhead_us": round(statistics.median(np.subtract(served, alone)), 2),
    }


def replaced(plan: Plan, **changes: Any) -> Plan:
    """The plan with other values."""
    from dataclasses import replace

    return replace(plan, **changes)
