"""The states of a call can be changed in place before the backward pass, as torch's."""

import pytest
import torch

from memorycell.cells import CELLS
from memorycell.nn.layers import of_cell


@pytest.mark.parametrize("backend", [None, "reference", "torch"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_states_can_be_changed_in_place(cell, steps, backend):
    """As at the end of an episode: `c[:, done] = 0`. The output stays as it is, and gradients are
    those of a product.
    """
    found = []
    for in_place in (True, False):
        torch.manual_seed(0)
        layer = of_cell(cell, 3, 4)
        x = torch.randn(steps, 2, 3, requires_grad=True)
        try:
            output, state = layer(x, backend=backend)
        except ValueError as error:
            assert backend == "torch"
            pytest.skip(str(error))
        keep = torch.tensor([1.0, 0.0])[None, :, None]
        states = [state] if isinstance(state, torch.Tensor) else list(state)
        if in_place:
            for part in states:
                part[:, 1] = 0.0
        else:
            states = [part * keep for part in states]
        (sum((part**2).sum() for part in states) + (output**3).sum()).backward()
        found.append((output, x.grad))
    torch.testing.assert_close(found[0], found[1])
