"""Speed side by side: the same work by memorycell and by its peers, outputs compared first, timed
in turns, medians.

No time is given for a peer whose outputs differ by more than the stated tolerance. Beside each
figure stands the floor: the weights' bytes over the bandwidth this machine reads them with, or the
operations over its peak, both measured here in the same run.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.bench.peers import PLAIN, keeping, torchs
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.nn.layers import Recurrent, of_cell
from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE, StackStep
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

ROUNDS = 15


def run(
    work: str,
    hidden: Sequence[int],
    cells: Sequence[str],
    peers: Sequence[str],
    precisions: Sequence[str],
    *,
    batch: int = 64,
    sessions: int = 64,
    steps: int = 100,
    threads: int = 1,
    zoneout: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The JSON object of `memorycell bench step|stream|sessions|train`."""
    if binding.engine is None:
        raise UserError(f"bench: {binding.missing}")
    for name in cells:
        if name not in binding.CELL_NUMBERS:
            raise UserError(f"--cell {name}: the engine has {', '.join(binding.CELL_NUMBERS)}")
    for name in precisions:
        if name not in TOLERANCE:
            raise UserError(f"--precision {name}: expected one of {', '.join(TOLERANCE)}")
    for name in peers:
        if name not in ("torch", "onnxruntime", "openvino", "reference"):
            raise UserError(f"--peers {name}: expected torch, onnxruntime, openvino or reference")
    if zoneout and work != "train":
        raise UserError("--zoneout: masks are drawn in training only: bench train")
    if min(hidden, default=0) < 1:
        raise UserError("--hidden: expected sizes of 1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = []
        for size in hidden:
            for cell in cells:
                for precision in precisions:
                    if work in ("step", "stream"):
                        row = _step(work, cell, size, precision, peers)
                    elif work == "sessions":
                        row = _sessions(cell, size, precision, peers, sessions)
                    else:
                        if precision == "int8":
                            raise UserError("bench train: int8 is for steps; float32 or bfloat16")
                        row = _train(cell, size, precision, peers, batch, steps, zoneout)
                    rows.append(row)
                    say(describe(row))
    finally:
        torch.set_num_threads(before)
    return {
        "cpu": cpu_name(),
        "isa": binding.engine.instruction_set(),
        "threads": threads,
        "rows": rows,
    }


def describe(row: dict[str, Any]) -> str:
    """A row in words."""
    text = (
        f"{row['work']} {row['cell']} H={row['hidden']} B={row['batch']} {row['precision']}:"
        f" {row['ours_us']:.1f} µs"
    )
    text += f" (floor {row['floor_us']:.1f})"
    if "overhead_us" in row:
        text += f", {row['overhead_us']:.1f} over the kernel"
    if "p99_us" in row:
        text += (
            f", p99 {row['p99_us']:.1f}, {row['steps_per_s']:,.0f} steps/s,"
            f" {row['bytes_per_session']:,} bytes a session"
        )
    for name, peer in row["peers"].items():
        text += (
            f"; {name} {peer['us']:.1f} µs, {peer['ratio']:.2f}×"
            if "us" in peer
            else f"; {name}: {peer['refused']}"
        )
    return text


def plot(result: dict[str, Any], path: Path) -> None:
    """A page with the table as bars: how many times faster than each peer."""
    from memorycell.files import write_atomically
    from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page

    names = sorted({name for row in result["rows"] for name in row["peers"]})
    fig = figure(420)
    labels = [f"{row['cell']} {row['hidden']} {row['precision']}" for row in result["rows"]]
    for name, colour in zip(names, (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        fig.add_bar(
            x=labels,
            y=[row["peers"].get(name, {}).get("ratio") for row in result["rows"]],
            name=name,
            marker_color=colour,
        )
    fig.add_hline(y=1, line={"color": GREY, "dash": "dash"})
    fig.update_yaxes(title="times faster than the peer", type="log", dtick="D1")
    table = [["work", "ours, µs", "floor, µs", *(f"{n}, µs" for n in names)]]
    for row, label in zip(result["rows"], labels, strict=True):
        others = [
            f"{row['peers'][n]['us']:.1f}" if "us" in row["peers"].get(n, {}) else "–"
            for n in names
        ]
        table.append(
            [f"{row['work']} {label}", f"{row['ours_us']:.1f}", f"{row['floor_us']:.1f}", *others]
        )
    lead = (
        f"{result['cpu']}, {result['isa']}, {result['threads']} thread(s); outputs compared first,"
        " timed in turns, medians."
    )
    write_atomically(
        path,
        page(
            "How fast, beside whom",
            lead,
            [
                Section("Microseconds", table=table),
                Section(
                    "How many times faster than each peer (above the dashed line: faster)",
                    figure=fig,
                ),
            ],
        ),
    )


# ---- one live step -------------------------------------------------------------------------------


def _step(work: str, cell: str, size: int, precision: str, peers: Sequence[str]) -> dict[str, Any]:
    """The raw step of the engine, or `Stream.step` on an array."""
    torch.manual_seed(0)
    layer = _layer(cell, size)
    inputs = torch.randn(50, size)
    ours = StackStep(cell, [layer.layer_parameters(0, "")], precision=precision)
    ring, y = np.zeros((1, ours.layout.width), np.float32), np.empty((50, size), np.float32)
    ours.walk(ring, 0, inputs.numpy(), y)
    mine, x = y.copy(), inputs[0].numpy()
    contenders: dict[str, Callable[[], Any]] = {"kernel": lambda: ours.walk(ring, 0, x, y[0])}
    if work == "stream":
        stream = Stream(layer, precision)
        mine = np.stack([stream.step(row) for row in inputs.numpy()])
        contenders["ours"] = lambda: stream.step(x)
    results = {}
    for name in peers:
        peer = keeping(name, cell, layer)
        if isinstance(peer, str):
            results[name] = {"refused": peer}
            continue
        theirs = np.stack([peer(row)[0] for row in inputs.numpy()])
        results[name] = _compare(mine, theirs, precision)
        if "refused" not in results[name]:
            contenders[name] = partial(peer, x)
    seconds = _in_turns(contenders, 0.004)
    kernel = seconds.pop("kernel")
    floor = ours.bytes_read / _bandwidth(ours.bytes_read)
    row = _row(work, cell, size, 1, precision, {"ours": kernel, **seconds}, floor, results)
    if work == "stream":
        row["overhead_us"] = (seconds["ours"] - kernel) * 1e6
    return row


# ---- many sessions -------------------------------------------------------------------------------


def _sessions(
    cell: str, size: int, precision: str, peers: Sequence[str], count: int
) -> dict[str, Any]:
    """All sessions of a pool stepped in one call, each time in another order, as requests come in."""
    torch.manual_seed(0)
    layer = _layer(cell, size)
    rng = np.random.default_rng(0)
    pool = Pool(layer, count, precision)
    slots = np.array([pool.open() for _ in range(count)])
    orders = [rng.permutation(slots) for _ in range(20)]
    inputs = rng.normal(size=(20, count, size)).astype(np.float32)
    mine = np.stack([pool.step(order, x) for order, x in zip(orders, inputs, strict=True)])
    contenders: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
        "ours": lambda x, order: pool.step(order, x)
    }
    results: dict[str, dict[str, Any]] = {}
    for name in peers:
        peer = keeping(name, cell, layer, count)
        if isinstance(peer, str):
            results[name] = {"refused": peer}
            continue
        theirs = np.stack([peer(x, order) for order, x in zip(orders, inputs, strict=True)])
        results[name] = _compare(mine, theirs, precision)
        if "refused" not in results[name]:
            contenders[name] = peer
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            for order, x in zip(orders, inputs, strict=True):
                began = time.perf_counter()
                call(x, order)
                samples[name].append(time.perf_counter() - began)
    operations = 2 * count * len(CELLS[cell].blocks) * size * 2 * size
    seconds = {name: statistics.median(values) for name, values in samples.items()}
    row = _row(
        "sessions", cell, size, count, precision, seconds, operations / _peak(precision), results
    )
    for name, values in samples.items():
        (row if name == "ours" else row["peers"][name])["p99_us"] = (
            float(np.percentile(values, 99)) * 1e6
        )
    return {
        **row,
        "steps_per_s": count / seconds["ours"],
        "bytes_per_session": pool.nbytes // count,
    }


# ---- one training step ---------------------------------------------------------------------------


def _train(
    cell: str,
    size: int,
    precision: str,
    peers: Sequence[str],
    batch: int,
    steps: int,
    zoneout: float,
) -> dict[str, Any]:
    """Forward and backward over [B, T, H], the weights changed before each, as an optimiser does."""
    torch.manual_seed(0)
    layer = _layer(cell, size)
    layer.zoneout = (zoneout, zoneout)
    plain = cell in PLAIN and not zoneout
    x = torch.randn(batch, steps, size)
    weigh = torch.randn(batch, steps, size)

    def trainer(module: Any, half: bool = False, **options: Any) -> Callable[[], list[Tensor]]:
        def once() -> list[Tensor]:
            torch.manual_seed(0)  # the same masks for all
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(
                        1.0
                    )  # to the same value, but a new version: what was packed is packed again
            own = x.detach().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                y = module(own, **options)[0]
            (y * weigh).sum().backward()
            assert own.grad is not None
            return [y.detach(), own.grad, *(p.grad for p in module.parameters())]

        return once

    ours = trainer(layer, half=precision == "bfloat16", backend="native")
    mine = ours()
    contenders: dict[str, Callable[[], Any]] = {"ours": ours}
    results: dict[str, Any] = {}
    if not plain:  # what a variant costs beside the plain cell
        contenders["plain"] = trainer(
            _layer("lstm", size), half=precision == "bfloat16", backend="native"
        )
    traced = trainer(layer, half=precision == "bfloat16", backend="native", trace=True)
    contenders["trace"] = traced
    for name in peers:
        if name == "torch" and plain:
            theirs = trainer(torchs(layer))
        elif name == "reference" or name == "torch":
            name, theirs = "reference", trainer(layer, backend="reference")
        else:
            results[name] = {"refused": "does not train"}
            continue
        differences = [
            _compare(a.float().numpy(), b.float().numpy(), precision)
            for a, b in zip(mine, theirs(), strict=True)
        ]
        results[name] = max(differences, key=lambda d: d["max_diff"])
        if "refused" not in results[name]:
            contenders[name] = theirs
    seconds = _in_turns(contenders, 0.0)
    blocks = len(CELLS[cell].blocks)
    operations = (
        6 * 2 * batch * steps * blocks * size * size
    )  # x and h products, twice again for each backward
    row = _row(
        "train", cell, size, batch, precision, seconds, operations / _peak(precision), results
    )
    row["steps"] = steps
    if zoneout:
        row["zoneout"] = zoneout
    row["trace_ratio"] = seconds["trace"] / seconds["ours"]
    if "plain" in seconds:
        row["plain_ratio"] = seconds["ours"] / seconds["plain"]
    return row


# ---- what both share -----------------------------------------------------------------------------


def _layer(cell: str, size: int) -> Recurrent:
    layer = of_cell(cell, size, size, batch_first=True)
    if cell == "layernorm":
        # Gains of 1 make the untrained layer chaotic: in 100 steps float32 rounding grows
        # ten-thousandfold, in every implementation alike, and no two could be compared.
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith(("gain_ih", "gain_hh")):
                    parameter.fill_(0.3)
    return layer


def _compare(ours: np.ndarray, theirs: np.ndarray, precision: str) -> dict[str, Any]:
    """The largest difference, relative to values over one; refused past the tolerance."""
    difference = float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
    if not difference <= TOLERANCE[precision]:
        return {
            "max_diff": difference,
            "refused": f"outputs differ by {difference:.2g}: no speed is given",
        }
    return {"max_diff": difference}


def _in_turns(contenders: dict[str, Callable[[], Any]], slice_s: float) -> dict[str, float]:
    """Median seconds a call, everyone timed once a round; each for `slice_s` a round, one call at
    least.
    """
    counts = {}
    for name, call in contenders.items():
        call()
        began = time.perf_counter()
        call()
        counts[name] = max(1, int(slice_s / (time.perf_counter() - began)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            count = counts[name]
            began = time.perf_counter()
            for _ in range(count):
                call()
            samples[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(values) for name, values in samples.items()}


def _row(
    work: str,
    cell: str,
    size: int,
    batch: int,
    precision: str,
    seconds: dict[str, float],
    floor: float,
    results: dict[str, Any],
) -> dict[str, Any]:
    for name, result in results.items():
        if name in seconds:
            result |= {"us": seconds[name] * 1e6, "ratio": seconds[name] / seconds["ours"]}
    return {
        "work": work,
        "cell": cell,
        "hidden": size,
        "batch": batch,
        "precision": precision,
        "ours_us": seconds["ours"] * 1e6,
        "floor_us": floor * 1e6,
        "peers": results,
    }


def _bandwidth(size: int) -> float:
    """Bytes a second at which one core reads so many bytes again and again."""
    memory = torch.ones(max(size // 4, 1024))
    repeats = max(1, 20_000_000 // size)
    return max(
        4
        * len(memory)
        * repeats
        / _seconds(lambda: binding.engine.read(memory.data_ptr(), len(memory), repeats))
        for _ in range(5)
    )


def _peak(precision: str) -> float:
    """Operations a second in registers, over the threads in use."""
    number = binding.PRECISIONS[precision]
    rounds = 200_000
    operations = binding.engine.multiply_add(number, rounds)
    fastest = min(_seconds(lambda: binding.engine.multiply_add(number, rounds)) for _ in range(5))
    return float(operations / fastest) * torch.get_num_threads()


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
