"""Compare outputs, time calls alternately, and measure the limits of the processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE

ROUNDS = 15
FUNCTIONS = {"exp": 0, "sigmoid": 1, "tanh": 2}
"""The engine's numbers of its functions."""


def compare(ours: np.ndarray, theirs: np.ndarray, precision: str) -> dict[str, Any]:
    """The largest difference, relative to the largest value of `theirs` or 1; with the key
    "refused" where it exceeds the tolerance.
    """
    difference = float(np.abs(ours - theirs).max() / max(1.0, float(np.abs(theirs).max())))
    if not difference <= TOLERANCE[precision]:
        return {
            "max_diff": difference,
            "refused": f"outputs differ by {difference:.2g}: not timed",
        }
    return {"max_diff": difference}


def median_seconds(calls: dict[str, Callable[[], Any]], slice_s: float) -> dict[str, float]:
    """Median seconds per call. Each round times every call, repeated for `slice_s` seconds or
    once, whichever is longer.
    """
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, int(slice_s / seconds(call)))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            count = counts[name]
            began = time.perf_counter()
            for _ in range(count):
                call()
            samples[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(values) for name, values in samples.items()}


def sample_seconds(
    calls: dict[str, Callable[..., Any]], arguments: Iterable[tuple[Any, ...]]
) -> dict[str, list[float]]:
    """Seconds of every single call. Each round runs every call on all `arguments`."""
    inputs = list(arguments)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for args in inputs:
                began = time.perf_counter()
                call(*args)
                samples[name].append(time.perf_counter() - began)
    return samples


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def read_bandwidth(size: int) -> float:
    """Bytes per second at which one core repeatedly reads `size` bytes."""
    memory = torch.ones(max(size // 4, 1024))
    repeats = max(1, 20_000_000 // size)
    fastest = min(
        seconds(lambda: binding.engine.read(memory.data_ptr(), len(memory), repeats))
        for _ in range(5)
    )
    return 4 * len(memory) * repeats / fastest


def peak_operations(precision: str) -> float:
    """Operations per second on values in registers, on all threads in use."""
    number = binding.PRECISIONS[precision]
    rounds = 200_000
    operations = binding.engine.multiply_add(number, rounds)
    fastest = min(seconds(lambda: binding.engine.multiply_add(number, rounds)) for _ in range(5))
    return float(operations / fastest) * torch.get_num_threads()


def function_rate(name: str) -> float:
    """Values per second of exp, sigmoid or tanh of the engine, read from and written to the L1
    cache, on all threads in use.
    """
    x, y = torch.randn(2048), torch.empty(2048)
    arguments = FUNCTIONS[name], x.data_ptr(), y.data_ptr(), len(x)

    def repeat() -> None:
        for _ in range(200):
            binding.engine.map(*arguments)

    fastest = min(seconds(repeat) for _ in range(10))
    return 200 * len(x) / fastest * torch.get_num_threads()
