"""Fixtures of the comparisons of the native engine with the reference."""

import os

import pytest
import torch

for helper in ("layer_gradients", "native_cases"):
    pytest.register_assert_rewrite(helper)

from native_cases import SETS, engine  # noqa: E402


@pytest.fixture
def poison():
    """Fill uninitialised tensors with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=SETS)
def isa(request):
    """Each instruction set in turn."""
    engine.use(request.param)
    yield request.param
    engine.use(os.environ.get("MEMORYCELL_ISA") or SETS[0])
