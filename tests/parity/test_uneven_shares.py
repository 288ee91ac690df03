"""Batches that threads share unevenly, such as 13 on 2 threads: 6 rows and 7.

Some passes treat up to five or six rows in another way, with more scratch memory. `make sanitize`
runs this with AddressSanitizer, which sees every byte that a thread writes outside of its own.
"""

import pytest
import torch

import memorycell
from memorycell.ops import binding
from memorycell.ops.binding import engine

pytestmark = pytest.mark.skipif(engine is None, reason=binding.missing or "built")
BATCHES = (*range(1, 15), 19, 20, 31, 32)
STEPS, INPUTS, HIDDEN = 70, 5, 9  # more steps than are processed together


@pytest.fixture
def few_units(monkeypatch):
    """The smallest of work is shared."""
    monkeypatch.setattr(binding, "MIN_WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def layer_of(cell, **options):
    torch.manual_seed(0)
    kind = {"lstm": memorycell.LSTM, "gru": memorycell.GRU, "rnn": memorycell.RNN}.get(cell)
    if kind:
        return kind(INPUTS, HIDDEN, batch_first=True, **options)
    return memorycell.LSTM(INPUTS, HIDDEN, cell=cell, batch_first=True)


def run(layer, x, threads, half, gradients):
    """Output and, with gradients, that of the input."""
    torch.set_num_threads(threads)
    x = x.clone().requires_grad_(gradients)
    with torch.autocast("cpu", torch.bfloat16, enabled=half), torch.set_grad_enabled(gradients):
        y = layer(x, backend="native")[0]
    if not gradients:
        return [y]
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), [x])]


CELLS = ("lstm", "gru", "rnn", "layernorm", "slstm", "projection")
CASES = [
    (cell, precision, gradients)
    for cell in CELLS
    for precision in ("float32", "bfloat16")[: 1 if cell == "projection" else 2]
    for gradients in (True, False)[cell == "layernorm" :]  # with gradients PyTorch's products
]


@pytest.mark.parametrize(("cell", "precision", "gradients"), CASES)
def test_every_number_of_rows(few_units, cell, precision, gradients):
    options = {"proj_size": 4} if cell == "projection" else {}
    layer = layer_of("lstm" if cell == "projection" else cell, **options)
    half = precision == "bfloat16"
    for batch in BATCHES:
        x = torch.randn(batch, STEPS, INPUTS)
        alone = run(layer, x, 1, half, gradients)
        for threads in (2, 3, 5):
            shared = run(layer, x, threads, half, gradients)
            assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
