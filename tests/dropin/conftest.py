"""Fixtures of the comparison with torch.nn."""

import importlib
import os
import sys
import types
import unittest
import warnings
from unittest import mock

import pytest
import torch
from hypothesis import settings

for helper in (
    "adopted_models",
    "module_samples",
    "small_nets",
    "torch_comparison",
    "transform_cases",
    "wrapped_layers",
):
    pytest.register_assert_rewrite(helper)
FAMILY = os.environ.get("DROPIN_FAMILY", "memorycell")


@pytest.fixture(scope="module")
def family():
    """The module with the classes under test: memorycell, or torch.nn to test the tests."""
    return torch.nn if FAMILY == "torch" else importlib.import_module(FAMILY)


@pytest.fixture(scope="session")
def database():
    """ModuleInfo by class name. Global changes made by importing torch.testing._internal are
    undone.
    """
    from module_samples import KINDS

    stub = types.ModuleType("expecttest")
    # PyTorch's test cases derive from expecttest's, which the samples do not need.
    stub.TestCase = unittest.TestCase
    profile = settings.get_current_profile_name()
    try:
        # otherwise `torch.backends.mkldnn.enabled = …` raises from now on
        with warnings.catch_warnings(), mock.patch.object(torch.backends, "disable_global_flags"):
            warnings.simplefilter("ignore")
            try:
                importlib.import_module("expecttest")
            except ImportError:
                sys.modules["expecttest"] = stub
            module_db = importlib.import_module("torch.testing._internal.common_modules").module_db
    except ImportError as error:
        pytest.skip(f"torch.testing._internal.common_modules: {error}")
    finally:
        if sys.modules.get("expecttest") is stub:
            del sys.modules["expecttest"]
        settings.load_profile(profile)
    return {
        info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in KINDS
    }


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
