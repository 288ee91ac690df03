"""The engine's own check of inputs and states, against steps without it."""

import numpy as np
import pytest
import torch

from memorycell.nn.layers import of_cell
from memorycell.ops import binding
from memorycell.ops.step import StackStep

engine = binding.engine
pytestmark = pytest.mark.skipif(engine is None, reason=binding.missing or "built")
SETS = engine.instruction_sets() if engine else []


@pytest.fixture(params=SETS)
def isa(request):
    """Each instruction set in turn."""
    engine.use(request.param)
    yield
    engine.use(SETS[0])


def stack(cell="lstm", hidden=19, **values):
    torch.manual_seed(0)
    layer = of_cell(cell, 5, hidden, num_layers=2)
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, f"{name}_l1").fill_(value)
    return StackStep(cell, [layer.layer_parameters(k, "") for k in range(2)])


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("cell", ["lstm", "gru", "layernorm"])
@pytest.mark.parametrize("ring_rows", [1, 4])
def test_finite_steps_have_the_same_bits(isa, cell, ring_rows):
    step, x = stack(cell), random(9, 5)
    found = []
    for walk in (step.step_one, step.step_finite):
        ring, y = (
            np.zeros((ring_rows, step.layout.width), np.float32),
            np.empty((9, 19), np.float32),
        )
        found.append((walk(ring, 0, x, y), ring, y))
    assert found[0][0] == found[1][0] >= 0
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (6, 4)])
def test_an_input_that_is_not_finite_changes_nothing(isa, bad, at):
    step, x = stack(), random(9, 5)
    x[at] = bad
    ring = random(4, step.layout.width)
    before, y = ring.copy(), np.empty((9, 19), np.float32)
    assert step.step_finite(ring, 2, x, y) == -1 - at[0]
    assert np.array_equal(ring, before)


@pytest.mark.parametrize("hidden", [1, 8, 19])
@pytest.mark.parametrize("ring_rows", [1, 4])
def test_a_state_that_overflows_is_not_kept(isa, hidden, ring_rows):
    """The second layer's h is 1, then 1e30, then infinite: any unit of any layer counts."""
    step = stack("rnn_relu", hidden, weight_ih=0.0, weight_hh=1e30 / hidden, bias_ih=1.0)
    ring = np.zeros((ring_rows, step.layout.width), np.float32)
    x, y = random(9, 5), np.empty((9, hidden), np.float32)
    assert step.step_finite(ring, 0, x, y) == -1 - 2
    assert not ring[0].any()  # the state before the call
    row = step.step_finite(ring, 0, x[:2], y[:2])
    assert row == 2 % ring_rows
    assert np.isfinite(ring[row]).all()
    assert ring[row].max() > 1e29
    state = ring[row].copy()
    assert step.step_finite(ring, row, x[2], y[2]) == -1
    assert np.array_equal(ring[row], state)
