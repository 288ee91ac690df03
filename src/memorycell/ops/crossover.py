"""Where PyTorch's own LSTM kernel is faster than the engine: measured, not derived.

The measurements are in `crossover.jsonl`, which `memorycell bench calibrate` writes: per processor,
instruction set, kind of work and number of threads, the time of PyTorch's kernel relative to the
engine's for shapes (B, T, H). A call is decided by the nearest measured shape, on a logarithmic
scale. On an unknown processor the measurements of the same instruction set are used, or else all,
and only clear differences count.
"""

from __future__ import annotations

import json
import math
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from memorycell.ops import binding

MEASURED = Path(__file__).with_name("crossover.jsonl")
MIN_RATIO, MIN_RATIO_ELSEWHERE = 0.95, 0.8
"""PyTorch runs a call where its time, relative to the engine's, is below this: on a processor that
was measured, and on others.
"""


class Work(NamedTuple):
    """What determines the faster backend, apart from the processor."""

    training: bool
    precision: str
    threads: int
    batch: int
    steps: int
    hidden: int


class Ratios(NamedTuple):
    """The measurements for one kind of work and number of threads. rows: [B, T, H, ratio]."""

    cpu: str
    isa: str
    training: bool
    precision: str
    threads: int
    rows: list[tuple[int, int, int, float]]


@lru_cache(4096)
def torch_is_faster(work: Work) -> bool:
    """Whether PyTorch's kernel is faster than the engine for a plain LSTM layer."""
    found = [
        ratios
        for ratios in read_ratios()
        if (ratios.training, ratios.precision) == (work.training, work.precision)
    ]
    isa = binding.engine.instruction_set()
    found = [ratios for ratios in found if ratios.isa == isa] or found
    here = of_processor([ratios for ratios in found if ratios.isa == isa], binding.cpu_name())
    ratio = nearest_ratio(here or found, work)
    return ratio < (MIN_RATIO if here else MIN_RATIO_ELSEWHERE)


def of_processor(measured: list[Ratios], name: str) -> list[Ratios]:
    """Those of the processor with this name; otherwise those whose name is the beginning of it,
    measured before names had a family and a model.
    """
    return [ratios for ratios in measured if ratios.cpu == name] or [
        ratios for ratios in measured if name.startswith(ratios.cpu + ",")
    ]


def nearest_ratio(measured: list[Ratios], work: Work) -> float:
    """The ratio of the nearest shape at the nearest number of threads; infinity for no
    measurement.
    """
    if not measured:
        return math.inf
    nearest = min(measured, key=lambda ratios: abs(math.log(ratios.threads / work.threads)))
    shape = (work.batch, work.steps, work.hidden)

    def distance(row: tuple[int, int, int, float]) -> float:
        return sum(abs(math.log(a / b)) for a, b in zip(row, shape, strict=False))

    return min(nearest.rows, key=distance)[3]


@cache
def read_ratios(path: Path = MEASURED) -> list[Ratios]:
    """The measurements in a file, none if it does not exist."""
    if not path.exists():
        return []
    return [Ratios(**json.loads(line)) for line in path.read_text().splitlines()]
