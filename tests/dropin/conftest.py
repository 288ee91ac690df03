"""Fixtures of the comparison with torch.nn."""

import importlib
import os

import pytest
import torch

for helper in ("torch_comparison", "transform_cases", "adopted_models", "wrapped_layers"):
    pytest.register_assert_rewrite(helper)
FAMILY = os.environ.get("DROPIN_FAMILY", "memorycell")


@pytest.fixture(scope="module")
def family():
    """The module with the classes under test: memorycell, or torch.nn to test the tests."""
    return torch.nn if FAMILY == "torch" else importlib.import_module(FAMILY)


@pytest.fixture
def seed():
    """Seed torch's random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def clean_compiler():
    """Reset torch.compile around a test and check that `allow_rnn` is unchanged."""
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    assert torch._dynamo.config.allow_rnn is False
