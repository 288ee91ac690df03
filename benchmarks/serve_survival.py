"""The measurements of benchmarks/serve.py about what survives: durable steps, kill -9, reloads,
many open sessions and long runs.
"""

import os
import shutil
import statistics
import threading
import time

import load_generator as load
import numpy as np
import serve_clients as sessions
import torch
from serve_rows import Contender, Plan, Row, compare, layer, throughput

import memorycell

HIDDEN = 64


def durable(plan: Plan) -> Row:
    """Throughput of sessions whose every answered step is on disk, compared with others'."""
    x = sessions.inputs(64, HIDDEN)
    state = ["--state", str(plan.folder / "durable")]
    with sessions.ours(plan.onnx(HIDDEN), plan.folder, plan.server, state) as server:
        links = {
            kind: sessions.our_clients(server.port, x, 1, f"{kind}-", durable=kind)
            for kind in ("none", "step", "interval")
        }
        for clients in links.values():
            compare(clients, [], x, HIDDEN)
        rows = throughput(plan, {n: Contender(server, clients) for n, clients in links.items()})
        for clients in links.values():
            sessions.close(clients)
    for name, row in rows.items():
        row["share_of_throughput"] = round(
            row["steps_per_wall_second"] / rows["none"]["steps_per_wall_second"], 3
        )
        row["share_by_processor"] = round(rows["none"]["us"] / row["us"], 3)
        rows[name] = row
    return rows


def kills(plan: Plan) -> Row:
    """Kill -9 at random moments under load: every acknowledged durable step must be there, and
    every session's next answer must equal a run without interruption, to the bit.
    """
    links, per_link = 4, 8
    count = links * per_link
    x = sessions.inputs(count, HIDDEN)
    reference = _Reference(x)
    ids = [f"k{s}" for s in range(count)]
    groups = [ids[k : k + per_link] for k in range(0, count, per_link)]
    folder = plan.folder / "killed"
    shutil.rmtree(folder, ignore_errors=True)
    lost = different = acknowledged = ahead = 0
    promised = np.zeros(count, int)
    moments = np.random.default_rng(0).uniform(0.05, 0.6, plan.kills)
    with sessions.ours(
        plan.onnx(HIDDEN), plan.folder, plan.server, ["--state", str(folder)]
    ) as server:
        for k in range(plan.kills + 1):
            connections = [sessions.Link(server.port) for _ in groups]
            for link, group in zip(connections, groups, strict=True):
                if k == 0:
                    link.open(group, durable="step")
                else:
                    link.attach(group)
            begun = np.array([steps for link in connections for steps in link.steps])
            lost += int(np.maximum(promised - begun, 0).sum())
            ahead += int((begun > promised).sum())
            clients = [
                link.client(x[g * per_link : (g + 1) * per_link])
                for g, link in enumerate(connections)
            ]
            found = sessions.outputs(clients, 1, sessions.HEADER.size).reshape(count, HIDDEN)
            different += int((found != reference.next(begun)).any(1).sum())
            if k == plan.kills:
                break
            timer = threading.Timer(moments[k], server.process.kill)
            timer.start()
            try:
                load.closed_loop(clients, 60)
                raise RuntimeError("the server was not killed")
            except (ConnectionError, OSError):
                pass
            timer.join()
            server.process.wait()
            sessions.close(clients)
            frames = np.repeat([client.received for client in clients], per_link)
            promised = begun + 1 + frames
            acknowledged += int(frames.sum()) + count
            server.start()
    return {
        "kills": plan.kills,
        "acknowledged_steps": acknowledged,
        "lost_steps": lost,
        "sessions_ahead_of_their_answer": ahead,
        "different_answers": different,
    }


class _Reference:
    """The answers of sessions that are never interrupted."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.steps = x, np.zeros(len(x), int)
        self.pool = memorycell.Pool(layer(HIDDEN), capacity=len(x))
        self.slots = self.pool.open_many(len(x))

    def next(self, begun: np.ndarray) -> np.ndarray:
        """The answers [S, H] to step `begun` (counted from 0) of each session."""
        y = np.zeros((len(self.x), HIDDEN), np.float32)
        while (behind := np.flatnonzero(self.steps <= begun)).size:
            rows = self.x[behind, self.steps[behind] % sessions.INPUTS]
            y[behind] = self.pool.step(self.slots[behind], rows)
            self.steps[behind] += 1
        return y


def reloads(plan: Plan) -> Row:
    """New versions of the model under load: no error, no dropped socket."""
    import onnx

    from memorycell.exchange.onnx_export import export

    path = plan.folder / "reloaded.onnx"
    onnx.save(export(layer(HIDDEN)), path)
    x = sessions.inputs(64, HIDDEN)
    with sessions.ours(path, plan.folder, plan.server) as server:
        clients = sessions.our_clients(server.port, x)
        failures: list[str] = []

        def replace() -> None:
            for k in range(plan.reloads):
                torch.manual_seed(1000 + k)
                module = memorycell.LSTM(HIDDEN, HIDDEN, batch_first=True)
                part = plan.folder / "next.onnx"
                onnx.save(export(module), part)
                os.replace(part, path)
                try:
                    sessions.post(server.port, f"/v1/models/{sessions.MODEL}/reload")
                except OSError as error:
                    failures.append(str(error))
                time.sleep(0.05)

        thread = threading.Thread(target=replace)
        thread.start()
        steps, worst_ms = 0, 0.0
        while thread.is_alive():
            run = load.closed_loop(clients, 0.5)
            steps, worst_ms = steps + run.messages, max(worst_ms, run.quantile_ms(1.0))
        thread.join()
        version = sessions.get(server.port, f"/v1/models/{sessions.MODEL}")["version"]
        sessions.close(clients)
    return {
        "reloads": plan.reloads,
        "steps_meanwhile": steps,
        "slowest_answer_ms": round(worst_ms, 1),
        "failed_reloads": failures,
        "dropped_sockets_or_errors": 0,  # any would have ended the load with an exception
        "version": version,
    }


def open_sessions(plan: Plan) -> Row:
    """Many open sessions of which 1% are busy: bytes per session; spilled ones."""
    count, per_link = plan.open_sessions, 500
    state = 4 * memorycell.Pool(layer(HIDDEN), capacity=1).width
    words = ["--state", str(plan.folder / "open")]
    with sessions.ours(plan.onnx(HIDDEN), plan.folder, plan.server, words) as server:
        warm = sessions.our_clients(server.port, sessions.inputs(64, HIDDEN), 64, "w")
        load.closed_loop(warm, plan.seconds / 4)
        before = server.memory_bytes()
        x = sessions.inputs(count, HIDDEN)
        links = sessions.our_clients(server.port, x, per_link)
        opened = server.memory_bytes()
        for client in links:
            client.send()
            load.receive_frame(client.link)
        stepped = server.memory_bytes()
        busy = sessions.our_clients(server.port, x[: count // 100], 1, "b")
        run = load.closed_loop(busy, plan.seconds)
        after = server.memory_bytes()
        for clients in (warm, links, busy):
            sessions.close(clients)
    return {
        "sessions": count,
        "state_bytes": state,
        "bytes_per_session_opened": round((opened - before) / count),
        "bytes_per_session_stepped": round((stepped - before) / count),
        "bytes_besides_the_state": round((stepped - before) / count) - state,
        "bytes_more_while_busy": after - stepped,
        "busy_p99_ms": round(run.quantile_ms(0.99), 2),
    }


def flat(plan: Plan) -> Row:
    """Private memory during many steps: after a tenth of them, and at the end."""
    per_frame = 64
    x = sessions.inputs(4 * per_frame, HIDDEN)
    with sessions.ours(plan.onnx(HIDDEN), plan.folder, plan.server) as server:
        clients = sessions.our_clients(server.port, x, per_frame)
        steps, memory = 0, []
        while steps < plan.total_steps:
            steps += per_frame * len(load.closed_loop(clients, 0.5).latencies_s)
            memory.append((steps, server.memory_bytes()))
        sessions.close(clients)
    early = next(size for done, size in memory if done >= plan.total_steps / 10)
    return {
        "steps": steps,
        "early_mb": round(early / 1e6, 1),
        "end_mb": round(memory[-1][1] / 1e6, 1),
        "growth_percent": round(100 * (memory[-1][1] / early - 1), 2),
        "spread_percent": round(100 * statistics.pstdev([size / early for _, size in memory]), 2),
    }
