"""The classic long-lag problems. Each draws random batches: inputs [B, T, I] and the targets of the
last steps.

recall      a marked symbol, `gap` distractors from the same 8 symbols, a cue: which symbol was
            marked? After Hochreiter & Schmidhuber (1997), 5.2; distractors make it hard, because
            the cell must keep later symbols out
adding      two marked numbers among many: their sum; the marks are at least 0.4 gap apart.
            Ibid., 5.4
order       two symbols (X or Y) far apart among distractors: XX, XY, YX or YY? Ibid., 5.6
copy        5 symbols, the gap, a cue: repeat them in order. Arjovsky, Shah & Bengio (2016), who
            use 10

and two where the newer cells differ:

parity      bits: after every one, has the number of ones so far been even or odd? The smallest case
            of state tracking; gates that do not read the state cannot solve it (Merrill, Petty &
            Sabharwal 2024, arXiv:2404.08819; Grazzi et al. 2024, arXiv:2411.12537)
associative `gap` keys, each with one of 8 values, then 8 of the keys: which values? Ba et al.
            (2016), arXiv:1610.06258, and Arora et al. (2023), arXiv:2312.04927; here a key and its
            value come in one step. More pairs than a vector of units holds, but not a matrix
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]
COPY_LENGTH = 5
NUM_VALUES = NUM_QUERIES = 8
"""Of the associative problem."""
MAX_SUM_ERROR = 0.04
"""Hochreiter & Schmidhuber's bound for a correct sum."""


@dataclass(frozen=True)
class Problem:
    """One problem at a given gap.

    draw          (rng, batch size) -> inputs [B, T, input_size], targets [B, num_answers]
    input_size    features per step
    output_size   classes, or 1 for a number
    num_answers   the answer is read from this many last steps
    chance        score of guessing
    """

    name: str
    gap: int
    draw: Callable[[np.random.Generator, int], Batch]
    input_size: int
    output_size: int
    num_answers: int = 1
    chance: float = 0.0

    @property
    def seq_len(self) -> int:
        """T."""
        return int(self.draw(np.random.default_rng(0), 1)[0].shape[1])

    def loss(self, answer: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy or squared error of answers [B, num_answers, output_size]."""
        if self.output_size == 1:
            return F.mse_loss(answer[..., 0], target)
        return F.cross_entropy(answer.flatten(0, 1), target.flatten())

    def score(self, answer: Tensor, target: Tensor) -> float:
        """Share of correct answers; a sum is correct within `MAX_SUM_ERROR`."""
        if self.output_size == 1:
            return float(((answer[..., 0] - target).abs() < MAX_SUM_ERROR).float().mean())
        return float((answer.argmax(-1) == target).float().mean())


def recall(gap: int) -> Problem:
    """A marked symbol, `gap` distractors, a cue."""

    def draw(rng: np.random.Generator, count: int) -> Batch:
        symbols = rng.integers(8, size=(count, gap + 1))
        x = np.zeros((count, gap + 2, 10), np.float32)
        x[np.arange(count)[:, None], np.arange(gap + 1), symbols] = 1
        x[:, 0, 8] = 1
        x[:, -1, 9] = 1
        return torch.from_numpy(x), torch.from_numpy(symbols[:, :1])

    return Problem("recall", gap, draw, 10, 8, chance=1 / 8)


def adding(gap: int) -> Problem:
    """Numbers in 0 … 1, one marked in the first tenth, one in the second half; the target is their
    mean.
    """

    def draw(rng: np.random.Generator, count: int) -> Batch:
        values = rng.uniform(size=(count, gap))
        marks = np.zeros((count, gap))
        first = rng.integers(0, max(1, gap // 10), count)
        second = rng.integers(gap // 2, gap, count)
        rows = np.arange(count)
        marks[rows, first] = marks[rows, second] = 1
        x = np.stack([values - 0.5, marks], -1).astype(np.float32)
        target = (values[rows, first] + values[rows, second]) / 2
        return torch.from_numpy(x), torch.from_numpy(target[:, None].astype(np.float32))

    # The mean of two uniform numbers is within 0.04 of 0.5 with probability 1 - (1 - 0.08)^2.
    return Problem("adding", gap, draw, 2, 1, chance=1 - 0.92**2)


def order(gap: int) -> Problem:
    """X or Y at two places, `gap` ± 4 steps apart, distractors elsewhere, and a cue."""

    def draw(rng: np.random.Generator, count: int) -> Batch:
        x = np.zeros((count, gap + 10, 7), np.float32)
        rows = np.arange(count)
        noise = rng.integers(2, 6, size=(count, gap + 10))
        x[rows[:, None], np.arange(gap + 10), noise] = 1
        first, second = rng.integers(0, 5, count), gap + rng.integers(0, 5, count)
        symbols = rng.integers(2, size=(count, 2))
        for k, step in enumerate((first, second)):
            x[rows, step] = 0
            x[rows, step, symbols[:, k]] = 1
        x[:, -1] = 0
        x[:, -1, 6] = 1
        return torch.from_numpy(x), torch.from_numpy((2 * symbols[:, 0] + symbols[:, 1])[:, None])

    return Problem("order", gap, draw, 7, 4, chance=1 / 4)


def copy(gap: int) -> Problem:
    """Five symbols of eight, a gap, five cues."""

    def draw(rng: np.random.Generator, count: int) -> Batch:
        symbols = rng.integers(8, size=(count, COPY_LENGTH))
        x = np.zeros((count, gap + 2 * COPY_LENGTH, 10), np.float32)
        x[np.arange(count)[:, None], np.arange(COPY_LENGTH), symbols] = 1
        x[:, COPY_LENGTH:-COPY_LENGTH, 8] = 1
        x[:, -COPY_LENGTH:, 9] = 1
        return torch.from_numpy(x), torch.from_numpy(symbols)

    return Problem("copy", gap, draw, 10, 8, num_answers=COPY_LENGTH, chance=1 / 8)


def parity(gap: int) -> Problem:
    """`gap` bits; the answers are the parities after each."""

    def draw(rng: np.random.Generator, count: int) -> Batch:
        bits = rng.integers(2, size=(count, gap))
        x = np.eye(2, dtype=np.float32)[bits]
        return torch.from_numpy(x), torch.from_numpy(bits.cumsum(1) % 2)

    return Problem("parity", gap, draw, 2, 2, num_answers=gap, chance=1 / 2)


def associative(gap: int) -> Problem:
    """`gap` keys in random order, each with a value in the same step; then `NUM_QUERIES` of the
    keys, marked.
    """
    queries = min(NUM_QUERIES, gap)

    def draw(rng: np.random.Generator, count: int) -> Batch:
        rows = np.arange(count)[:, None]
        keys = rng.permuted(np.tile(np.arange(gap), (count, 1)), axis=1)
        values = rng.integers(NUM_VALUES, size=(count, gap))  # of each step
        asked = rng.permuted(np.tile(np.arange(gap), (count, 1)), axis=1)[:, :queries]
        x = np.zeros((count, gap + queries, gap + NUM_VALUES + 1), np.float32)
        steps = np.arange(gap)
        x[rows, steps, keys] = 1
        x[rows, steps, gap + values] = 1
        x[rows, gap + np.arange(queries), keys[rows, asked]] = 1
        x[:, gap:, -1] = 1
        return torch.from_numpy(x), torch.from_numpy(values[rows, asked])

    size = gap + NUM_VALUES + 1
    return Problem(
        "associative", gap, draw, size, NUM_VALUES, num_answers=queries, chance=1 / NUM_VALUES
    )


CLASSIC_PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "recall": recall,
    "adding": adding,
    "order": order,
    "copy": copy,
}
PROBLEMS = CLASSIC_PROBLEMS | {"parity": parity, "associative": associative}
