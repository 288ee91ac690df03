"""Measure for which shapes PyTorch's own LSTM kernel is faster than the engine, and write the table
that `backend=None` reads; see ops/crossover.py.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from memorycell.errors import UserError
from memorycell.files import write_atomically
from memorycell.nn.layers import LSTM
from memorycell.ops import binding
from memorycell.ops.crossover import MEASURED, Ratios, Work, read_ratios, torch_is_faster

BATCH_SIZES, SEQ_LENS, HIDDEN_SIZES = (1, 8, 32, 128), (16, 100), (16, 32, 64, 128, 256, 512)
INPUT_SIZE = 16
MAX_OPERATIONS = 2e9
"""Of a forward pass; for larger shapes the nearest smaller one decides."""
MIN_SECONDS, MIN_ROUNDS = 0.15, 5


def run(
    threads: Sequence[int] = (1, 2),
    *,
    path: Path = MEASURED,
    hidden: Sequence[int] = HIDDEN_SIZES,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    seq_lens: Sequence[int] = SEQ_LENS,
    log: Callable[[str], None] = lambda line: None,
) -> list[Ratios]:
    """Measure on this processor and write the results to `path`, in which those of other processors
    and numbers of threads are kept. Returns all.

    A measurement is the shortest of alternating calls, which other work on the machine disturbs
    least.
    """
    if binding.engine is None:
        raise UserError(f"bench calibrate: {binding.missing}")
    here = (binding.cpu_name(), binding.engine.instruction_set())
    found = [
        ratios
        for ratios in read_ratios(path)
        if (ratios.cpu, ratios.isa) != here or ratios.threads not in threads
    ]
    precisions = ["float32", *(["bfloat16"] if _has_bfloat16() else [])]
    before = torch.get_num_threads()
    try:
        for count, precision, training in itertools.product(threads, precisions, (False, True)):
            torch.set_num_threads(count)
            ratios = Ratios(*here, training, precision, count, [])
            for size, batch, steps in itertools.product(hidden, batch_sizes, seq_lens):
                if 8 * batch * steps * size * (INPUT_SIZE + size) > MAX_OPERATIONS:
                    continue
                ratio = measure(Work(training, precision, count, batch, steps, size))
                ratios.rows.append((batch, steps, size, round(ratio, 2)))
                log(
                    f"{'training' if training else 'forward'} {precision} threads={count} B={batch}"
                    f" T={steps} H={size}: {ratio:.2f}"
                )
            found.append(ratios)
    finally:
        torch.set_num_threads(before)
    write_atomically(path, "".join(json.dumps(ratios._asdict()) + "\n" for ratios in found))
    read_ratios.cache_clear()
    torch_is_faster.cache_clear()
    return found


def measure(work: Work) -> float:
    """The time of PyTorch's kernel relative to the engine's, for an LSTM layer with 16 inputs. Both
    are called through the layer, whose choice this decides.
    """
    torch.manual_seed(0)
    layer = LSTM(INPUT_SIZE, work.hidden, batch_first=True)
    x = torch.randn(work.batch, work.steps, INPUT_SIZE)
    half = work.precision == "bfloat16"

    def call(backend: str) -> None:
        inputs = x.detach().requires_grad_(work.training)
        with (
            torch.set_grad_enabled(work.training),
            torch.autocast("cpu", torch.bfloat16, enabled=half),
        ):
            output: Tensor = layer(inputs, backend=backend)[0]
        if work.training:
            torch.autograd.grad(output.float().sum(), [inputs, *layer.parameters()])

    # The time of a thread, unlike that of the clock, does not include other work on the machine.
    clock = time.thread_time if work.threads == 1 else time.perf_counter
    fastest = [float("inf")] * 2
    calls = (lambda: call("native"), lambda: call("torch"))
    began, rounds = time.perf_counter(), -1  # the first round is not counted
    while rounds < MIN_ROUNDS or time.perf_counter() - began < MIN_SECONDS:
        for k, one in enumerate(calls):
            start = clock()
            one()
            if rounds >= 0:
                fastest[k] = min(fastest[k], clock() - start)
        rounds += 1
    return fastest[1] / fastest[0]


def _has_bfloat16() -> bool:
    try:
        measure(Work(False, "bfloat16", 1, 1, 2, 8))
    except RuntimeError:
        return False
    return True
