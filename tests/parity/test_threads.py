"""The engine under many Python threads at once: every result has the bits of a run alone.

`make sanitize` runs this under ThreadSanitizer and AddressSanitizer; MEMORYCELL_STRESS_ROUNDS makes
it long.
"""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import memorycell
from memorycell.ops import binding, step
from memorycell.ops.binding import engine

pytestmark = pytest.mark.skipif(engine is None, reason=binding.missing or "built")
ROUNDS = int(os.environ.get("MEMORYCELL_STRESS_ROUNDS", "4"))
THREADS = (1, 2, 5)
SHAPES = [  # cell, B, T, I, H
    ("lstm", 7, 9, 3, 17),
    ("lstm", 33, 5, 8, 64),
    ("gru", 16, 6, 5, 31),
    ("peephole", 9, 4, 2, 40),
    ("layernorm", 12, 5, 7, 16),
]


@pytest.fixture(params=["team", "own threads"])
def workers(request, monkeypatch):
    """PyTorch's OpenMP team, or threads that the engine starts for each call; for the smallest of
    work.
    """
    monkeypatch.setattr(binding, "MIN_WORK_PER_THREAD", 1)
    monkeypatch.setattr(step, "MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    if request.param == "own threads":
        engine.share_team(0, 0, 0)
    elif not binding.OPENMP:
        pytest.skip("PyTorch has no GNU OpenMP here")
    yield request.param
    if binding.OPENMP:
        binding._share_threads()
    torch.set_num_threads(before)


class Case:
    """A layer with an input, and its results when nothing else runs."""

    def __init__(self, cell, batch, steps, inputs, hidden):
        torch.manual_seed(batch)
        kind = {"lstm": memorycell.LSTM, "gru": memorycell.GRU}.get(cell)
        options = {"batch_first": True}
        self.layer = (
            kind(inputs, hidden, **options)
            if kind
            else memorycell.LSTM(inputs, hidden, cell=cell, **options)
        )
        self.x = torch.randn(batch, steps, inputs)
        self.alone = {count: self.run(count) for count in THREADS}
        self.inferred = self.infer()
        self.stepped = self.stream()

    def run(self, threads):
        """Output and gradients with a number of threads."""
        torch.set_num_threads(threads)
        x = self.x.clone().requires_grad_()
        y = self.layer(x, backend="native")[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, *self.layer.parameters()])]

    def infer(self):
        """The output without gradients."""
        with torch.inference_mode():
            return self.layer(self.x, backend="native")[0]

    def stream(self):
        """Single steps of the first sequence."""
        stream = memorycell.stream(self.layer)
        return np.stack([stream.step(row) for row in self.x[0].numpy()])


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_same_bits_for_the_same_number_of_threads(workers):
    for shape in SHAPES:
        case = Case(*shape)
        for count in THREADS:
            assert equal(case.run(count), case.alone[count])
            assert torch.equal(case.alone[count][0], case.alone[1][0])  # the output, for any number


def test_many_python_threads_at_once(workers):
    cases = [Case(*shape) for shape in SHAPES]

    def work(seed):
        draw = random.Random(seed)
        for _ in range(ROUNDS):
            case = draw.choice(cases)
            if draw.random() < 0.3:
                assert np.array_equal(case.stream(), case.stepped)
                continue
            count = draw.choice(THREADS)  # changes under the other threads' feet
            torch.set_num_threads(count)
            assert torch.equal(case.infer(), case.inferred)
            if draw.random() < 0.1:  # an error inside a call leaves nothing locked
                with pytest.raises((ValueError, RuntimeError)):
                    case.layer(case.x[..., :-1], backend="native")
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_training_in_python_threads(workers):
    cases = [Case(*shape) for shape in SHAPES]

    def work(k):
        case = cases[k]
        return all(equal(case.run(2), case.alone[2]) for _ in range(ROUNDS))

    torch.set_num_threads(2)
    with ThreadPoolExecutor(len(cases)) as pool:
        assert all(pool.map(work, range(len(cases))))
