"""The classic long-lag problems for every cell: trials in parallel, and the constant error
carousel.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

import torch

from memorycell.errors import UserError
from memorycell.lab.problems import CLASSIC_PROBLEMS, PROBLEMS
from memorycell.lab.trial import (
    CELLS,
    CLASSIC_CELLS,
    MAX_UPDATES,
    RECENT_CELLS,
    TrialResult,
    run_trial,
)
from memorycell.nn.layers import LSTM

OTHER_PROBLEMS = (
    ("adding", 100),
    ("order", 100),
    ("copy", 30),
    ("parity", 40),
    ("associative", 32),
)
"""Problems other than recall, with their gaps."""
CAROUSEL_STEPS = 100_000
PAGE_ONLY_FIELDS = ("history", "gradient_before", "gradient_after", "cell_state")


def default_cells(problems: Sequence[str]) -> tuple[str, ...]:
    """The cells that are compared by default: the LSTM and the recent ones on the problems where
    these differ, the classic ones on all others.
    """
    if set(problems) & set(CLASSIC_PROBLEMS):
        return CLASSIC_CELLS
    return ("lstm", *RECENT_CELLS)


def run_trials(
    max_updates: int = MAX_UPDATES,
    gap: int = 200,
    cells: Sequence[str] = CLASSIC_CELLS,
    problems: Sequence[str] = tuple(CLASSIC_PROBLEMS),
    *,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> list[TrialResult]:
    """Train every cell on every problem: recall at gaps of 10, 50 and `gap`, the others at a fixed
    gap. The results do not depend on the number of cores or how busy they are.

    Raises `UserError` for an unknown cell or problem and for a gap below 2.
    """
    _check(gap, cells, problems)
    recall_gaps = sorted({min(10, gap), min(50, gap), gap}, reverse=True)
    # The longest first, so that no core is idle at the end.
    trials = [
        (name, problem_gap, cell)
        for name, problem_gap in [*(("recall", g) for g in recall_gaps), *OTHER_PROBLEMS]
        if name in problems
        for cell in cells
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    results: list[TrialResult] = []
    # Spawn: a forked process would inherit torch's threads in an undefined state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(cores, len(trials))), mp_context=spawn) as pool:
        running = [pool.submit(run_trial, *trial, max_updates, seed) for trial in trials]
        for done in as_completed(running):
            r = done.result()
            results.append(r)
            log(
                f"[{len(results)}/{len(trials)}] {r.problem}, gap {r.gap}: {r.cell}"
                f" {r.accuracy:.1%} correct (chance {r.chance:.1%}), {r.updates:,} updates,"
                f" {r.seconds:.0f} s"
            )
    return sorted(
        results, key=lambda r: (list(PROBLEMS).index(r.problem), r.gap, CELLS.index(r.cell))
    )


def _check(gap: int, cells: Sequence[str], problems: Sequence[str]) -> None:
    for cell in cells:
        if cell not in CELLS:
            raise UserError(f"--cell {cell}: expected one of {', '.join(CELLS)}")
    for name in problems:
        if name not in PROBLEMS:
            raise UserError(f"--problem {name}: expected one of {', '.join(PROBLEMS)}")
    if gap < 2:
        raise UserError(f"--gap {gap}: expected 2 or more")


def carousel_change(steps: int = CAROUSEL_STEPS) -> float:
    """The constant error carousel: the largest change of c after `steps` steps with f = 1 and
    i = 0; 0 if c is constant.
    """
    torch.manual_seed(0)
    layer = LSTM(2, 8, batch_first=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        bias = layer.get_parameter("bias_ih_l0")
        bias[:8] = -100.0  # i = σ(-100) = 0
        bias[8:16] = 100.0  # f = σ(100) = 1
        bias[16:24] = 1.0  # g is not 0
        c_0 = torch.randn(1, 1, 8)
        _, (_, c_n) = layer(torch.randn(1, steps, 2), (torch.zeros(1, 1, 8), c_0))
    return float((c_n - c_0).abs().max())


def to_json(results: Sequence[TrialResult], seconds: float) -> dict[str, Any]:
    """The JSON object of `memorycell lab`."""
    rows = [
        {name: value for name, value in asdict(r).items() if name not in PAGE_ONLY_FIELDS}
        for r in results
    ]
    return {
        "results": rows,
        "carousel": {"steps": CAROUSEL_STEPS, "max_change": carousel_change()},
        "seconds": round(seconds, 1),
    }
