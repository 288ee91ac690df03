"""Which engine and instruction set is used, and when its weights are packed."""

import os
import subprocess
import sys

import pytest
import torch
from native_cases import SETS, build, difference, engine, random_case, results

import memorycell
from memorycell.ops import binding

pytestmark = [
    pytest.mark.skipif(engine is None, reason=binding.missing or "built"),
    pytest.mark.usefixtures("poison"),
]


def test_changed_weights_are_packed_again():
    layer = build("lstm", 4, 6)
    x = torch.randn(1, 3, 4)
    before = layer(x, backend="native")[0]
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    changed = layer(x, backend="native")[0]
    assert not torch.equal(before, changed)
    torch.testing.assert_close(changed, layer(x, backend="reference")[0])
    layer.load_state_dict({name: p * 0.5 for name, p in layer.state_dict().items()})
    torch.testing.assert_close(layer(x, backend="native")[0], layer(x, backend="reference")[0])


def explain_in_subprocess(**environment: str) -> str:
    program = "import memorycell; print(memorycell.explain(memorycell.LSTM(2, 3)))"
    words = [sys.executable, "-c", program]
    return subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout


def test_the_instruction_set_can_be_selected_and_is_reported():
    for name in SETS:
        assert f"({name})" in explain_in_subprocess(MEMORYCELL_ISA=name)
    explanation = explain_in_subprocess(MEMORYCELL_ISA="sparc")
    assert explanation.startswith("torch:")
    assert "sparc" in explanation
    assert "this processor has" in explanation


def test_without_the_engine_everything_still_runs(monkeypatch):
    layer, x, hx, _ = random_case("lstm", "plain", 3, 5, 7)
    with_engine = results(layer, x, hx)
    monkeypatch.setattr(binding, "engine", None)
    monkeypatch.setattr(
        binding,
        "missing",
        "the native engine is not available (no compiler); install g++ or clang++",
    )
    assert difference(results(layer, x, hx), with_engine) < 2e-6
    assert memorycell.explain(layer).backend == "torch"
    assert "install g++" in memorycell.explain(layer).reason
    assert memorycell.explain(layer, torch.zeros(1, 1, 5)).backend == "reference"
