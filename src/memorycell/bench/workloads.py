"""What is timed: one live step, one step of many sessions, a whole forward, one training step.

Every function compares the outputs of the peers with ours first and returns one row of the result,
as JSON values. A floor is the least time that the hardware allows. For steps: the bytes of the
weights over the memory bandwidth, or the operations over the peak of the processor. For full
sequences, see `sequence_floor`. All are measured here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.bench.peers import TORCH_CELLS, sequence_peer, stateful_peer, torch_layer
from memorycell.bench.timing import (
    compare,
    function_rate,
    median_seconds,
    peak_operations,
    read_bandwidth,
    sample_seconds,
)
from memorycell.cells import CELLS
from memorycell.errors import UserError
from memorycell.nn.layers import Recurrent, of_cell
from memorycell.ops.step import StackStep
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

Row = dict[str, Any]
SLICE_S = 0.03
"""Full sequences are repeated for as long before the turn of the next peer, as in a training loop:
single calls in turn would each find the memory of the others in the caches and in the allocator.
"""


def measure_step(work: str, cell: str, size: int, precision: str, peers: Sequence[str]) -> Row:
    """One step of one sequence: the engine alone ("step"), or `Stream.step` on an array
    ("stream").
    """
    torch.manual_seed(0)
    layer = _new_layer(cell, size)
    inputs = torch.randn(50, size)
    kernel = StackStep(cell, [layer.layer_parameters(0, "")], precision=precision)
    ring, y = np.zeros((1, kernel.layout.width), np.float32), np.empty((50, size), np.float32)
    kernel.step_one(ring, 0, inputs.numpy(), y)
    ours, x = y.copy(), inputs[0].numpy()
    calls: dict[str, Callable[[], Any]] = {"kernel": lambda: kernel.step_one(ring, 0, x, y[0])}
    if work == "stream":
        stream = Stream(layer, precision)
        ours = np.stack([stream.step(row) for row in inputs.numpy()])
        calls["ours"] = lambda: stream.step(x)
    results = {}
    for name in peers:
        peer = stateful_peer(name, cell, layer)
        if isinstance(peer, str):
            results[name] = {"refused": peer}
            continue
        theirs = np.stack([peer(row)[0] for row in inputs.numpy()])
        results[name] = compare(ours, theirs, precision)
        if "refused" not in results[name]:
            calls[name] = partial(peer, x)
    seconds = median_seconds(calls, 0.004)
    kernel_s = seconds.pop("kernel")
    floor = kernel.bytes_read / read_bandwidth(kernel.bytes_read)
    row = _row(work, cell, size, 1, precision, {"ours": kernel_s, **seconds}, floor, results)
    if work == "stream":
        row["overhead_us"] = (seconds["ours"] - kernel_s) * 1e6
    return row


def measure_sessions(cell: str, size: int, precision: str, peers: Sequence[str], count: int) -> Row:
    """One step of all sessions of a `Pool`, in a new random order at every call, as with requests
    over a network.
    """
    torch.manual_seed(0)
    layer = _new_layer(cell, size)
    rng = np.random.default_rng(0)
    pool = Pool(layer, count, precision)
    slots = np.array([pool.open() for _ in range(count)])
    orders = [rng.permutation(slots) for _ in range(20)]
    inputs = rng.normal(size=(20, count, size)).astype(np.float32)
    requests = list(zip(inputs, orders, strict=True))
    ours = np.stack([pool.step(order, x) for x, order in requests])
    calls: dict[str, Callable[..., Any]] = {"ours": lambda x, order: pool.step(order, x)}
    results: dict[str, dict[str, Any]] = {}
    for name in peers:
        peer = stateful_peer(name, cell, layer, count)
        if isinstance(peer, str):
            results[name] = {"refused": peer}
            continue
        theirs = np.stack([peer(x, order) for x, order in requests])
        results[name] = compare(ours, theirs, precision)
        if "refused" not in results[name]:
            calls[name] = peer
    samples = sample_seconds(calls, requests)
    seconds = {name: statistics.median(values) for name, values in samples.items()}
    operations = 2 * count * len(CELLS[cell].blocks) * size * 2 * size
    floor = operations / peak_operations(precision)
    row = _row("sessions", cell, size, count, precision, seconds, floor, results)
    for name, values in samples.items():
        target = row if name == "ours" else row["peers"][name]
        target["p99_us"] = float(np.percentile(values, 99)) * 1e6
    return {
        **row,
        "steps_per_s": count / seconds["ours"],
        "bytes_per_session": pool.nbytes // count,
    }


def measure_forward(
    cell: str, size: int, precision: str, peers: Sequence[str], batch: int, steps: int
) -> Row:
    """Forward pass over [T, B, H] without gradients, on the backend that is chosen by default."""
    if precision == "int8":
        raise UserError("bench forward: int8 is for single steps; expected float32 or bfloat16")
    torch.manual_seed(0)
    layer = _new_layer(cell, size).eval()
    layer.batch_first = False
    x = torch.randn(steps, batch, size)

    half = precision == "bfloat16"

    def forward() -> np.ndarray:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16) if half else nullcontext(),
        ):
            y: Tensor = layer(x)[0]
        return y.float().numpy()

    calls: dict[str, Callable[[], Any]] = {"ours": forward}
    ours, results = forward(), {}
    for name in peers:
        peer = sequence_peer(name, cell, layer, batch)
        if isinstance(peer, str):
            results[name] = {"refused": peer}
            continue
        call = partial(peer, x.numpy())
        results[name] = compare(ours, call(), precision)
        if "refused" not in results[name]:
            calls[name] = call
    seconds = median_seconds(calls, SLICE_S)
    floor = sequence_floor(cell, size, precision, batch, steps, training=False)
    return {
        **_row("forward", cell, size, batch, precision, seconds, floor["total"], results),
        "steps": steps,
        "floor_parts_us": {name: 1e6 * part for name, part in floor.items()},
    }


def measure_train(
    cell: str,
    size: int,
    precision: str,
    peers: Sequence[str],
    batch: int,
    steps: int,
    zoneout: float,
) -> Row:
    """Forward and backward pass over [B, T, H], after a change of the weights, as in training."""
    if precision == "int8":
        raise UserError("bench train: int8 is for inference; expected float32 or bfloat16")
    torch.manual_seed(0)
    layer = _new_layer(cell, size)
    layer.zoneout = (zoneout, zoneout)
    plain = cell in TORCH_CELLS and not zoneout
    half = precision == "bfloat16"
    x = torch.randn(batch, steps, size)
    y_grad = torch.randn(batch, steps, size)

    def train_step(module: Any, half: bool = False, **options: Any) -> Callable[[], list[Tensor]]:
        def run() -> list[Tensor]:
            torch.manual_seed(0)  # the same zoneout masks for all
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(1.0)  # a new version of the same values: packed again
            inputs = x.detach().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                y = module(inputs, **options)[0]
            (y * y_grad).sum().backward()
            assert inputs.grad is not None
            return [y.detach(), inputs.grad, *(p.grad for p in module.parameters())]

        return run

    calls: dict[str, Callable[[], Any]] = {"ours": train_step(layer, half, backend="native")}
    ours = calls["ours"]()
    if not plain:  # the cost of a variant compared with the plain cell
        calls["plain"] = train_step(_new_layer("lstm", size), half, backend="native")
    calls["trace"] = train_step(layer, half, backend="native", trace=True)
    results: dict[str, Any] = {}
    for name in peers:
        if name == "torch" and plain:
            call = train_step(torch_layer(layer))
        elif name in ("reference", "torch"):
            name, call = "reference", train_step(layer, backend="reference")
        else:
            results[name] = {"refused": "training not supported"}
            continue
        differences = [
            compare(a.float().numpy(), b.float().numpy(), precision)
            for a, b in zip(ours, call(), strict=True)
        ]
        results[name] = max(differences, key=lambda d: d["max_diff"])
        if "refused" not in results[name]:
            calls[name] = call
    seconds = median_seconds(calls, SLICE_S)
    floor = sequence_floor(cell, size, precision, batch, steps, training=True)
    row = _row("train", cell, size, batch, precision, seconds, floor["total"], results)
    row["steps"] = steps
    row["floor_parts_us"] = {name: 1e6 * part for name, part in floor.items()}
    if zoneout:
        row["zoneout"] = zoneout
    row["trace_ratio"] = seconds["trace"] / seconds["ours"]
    if "plain" in seconds:
        row["plain_ratio"] = seconds["ours"] / seconds["plain"]
    return row


def sequence_floor(
    cell: str, size: int, precision: str, batch: int, steps: int, *, training: bool
) -> dict[str, float]:
    """The least seconds for a full sequence with I = H, in parts that add up, and their total.

    products    multiplications and additions of W_ih x and W_hh h, once forward and twice backward,
                over the peak of the processor
    functions   σ and tanh of the cells in `CELL_FUNCTIONS` over the rate of the engine's own;
                backward tanh(c) is computed again. They compete with the products for the same
                execution units

    Bytes are not in the total, since memory is read and written during the computations: `memory`
    is the time of input, output and in training of gates, states and gradients, each once.
    """
    rows = batch * steps
    operations = (3 if training else 1) * 4 * rows * len(CELLS[cell].blocks) * size * size
    sigmoids, tanhs = CELL_FUNCTIONS.get(cell, (0, 0))
    again = 1 if training and tanhs > 1 else 0
    values = {"sigmoid": sigmoids * rows * size, "tanh": (tanhs + again) * rows * size}
    products = operations / peak_operations(precision)
    functions = sum(count / function_rate(name) for name, count in values.items() if count)
    # Forward x and h; in training also gates, c and their reading, d_h and d_x.
    width = (4 + 2 * (len(CELLS[cell].blocks) + 1) + 2) if training else 2
    moved = 4 * width * rows * size
    memory = moved / read_bandwidth(moved) / torch.get_num_threads()
    return {
        "products": products,
        "functions": functions,
        "total": products + functions,
        "memory": memory,
    }


CELL_FUNCTIONS = {
    "lstm": (3, 2),
    "peephole": (3, 2),
    "layernorm": (3, 2),
    "coupled": (2, 2),
    "gru": (2, 1),
    "rnn": (0, 1),
}
"""How many values of σ and of tanh a cell computes per unit and step."""


def _new_layer(cell: str, size: int) -> Recurrent:
    layer = of_cell(cell, size, size, batch_first=True)
    if cell == "layernorm":
        # With gains of 1 the untrained layer is chaotic: over 100 steps float32 rounding errors
        # grow by a factor of 10,000 in every implementation, and outputs cannot be compared.
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith(("gain_ih", "gain_hh")):
                    parameter.fill_(0.3)
    return layer


def _row(
    work: str,
    cell: str,
    size: int,
    batch: int,
    precision: str,
    seconds: dict[str, float],
    floor: float,
    results: dict[str, Any],
) -> Row:
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
