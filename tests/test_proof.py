"""Proof: sound models pass every check, and a broken part fails the right one."""

from dataclasses import replace
from string import Template

import numpy as np
import pytest
import torch

import memorycell
from memorycell import proof
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.exchange import c_cells
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.ops import binding
from memorycell.streaming.stepping import LayerStepper
from memorycell.streaming.stream import Stream

pytestmark = pytest.mark.skipif(binding.engine is None, reason=binding.missing or "built")


def model(cell: str = "lstm", **options) -> Forecaster:
    torch.manual_seed(0)
    config = {"hidden_size": 9, "horizon": 3, "window": 5, "num_layers": 2, **options}
    net = Forecaster(ForecasterConfig(input_size=4, cell=cell, **config))
    for name, parameter in net.head.named_parameters():
        if name != "tails":
            torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize(
    "make", [model, lambda: model("gru"), lambda: torch.nn.LSTM(3, 8), lambda: memorycell.RNN(3, 8)]
)
def test_everything_agrees(make):
    lines: list[str] = []
    result = memorycell.prove(make(), log=lines.append)
    assert result.ok, lines
    names = {(check.name, check.precision) for check in result.checks}
    for precision in ("float32", "bfloat16", "int8"):
        for way in (
            "chunks of random sizes",
            "among others in a pool",
            "saved and loaded",
            "rewound and forked",
        ):
            assert (f"{way} = step by step", precision) in names
    assert ("step by step = whole sequence", "float32") in names
    assert ("native = reference", "float32") in names
    assert ("c = step by step", "int8") in names
    assert ("onnx = step by step", "float32") in names
    assert len(lines) == len(result.checks)
    record = result.to_json()
    assert record["ok"] is True
    assert {"name", "precision", "max_diff", "bound", "ok"} == set(record["checks"][0])


@pytest.mark.parametrize("normal", ["no", "level", "spread"])
@pytest.mark.parametrize("head", ["quantiles", "student", "counts"])
def test_every_forecast_head_is_proved(head, normal):
    result = memorycell.prove(model(head=head, normal=normal, targets=2))
    assert result.ok, result
    assert len(result.checks) >= 16
    if head == "quantiles" and normal != "spread":
        assert not result.skipped
    else:
        assert "only for forecasters with head=quantiles" in result.skipped["onnx in float32"]


def test_a_wrong_head_is_found(monkeypatch):
    """The parameters are compared, and the outputs that are made of them."""
    from memorycell.applications.forecast.head import ForecastStep

    step = ForecastStep.__call__

    def shifted(self, hidden, window, level, unit=None):
        return step(self, hidden, window, level + 0.1, unit)

    monkeypatch.setattr(ForecastStep, "__call__", shifted)
    failed = broken(model(head="counts"), precisions=["float32"], exports=[])
    assert failed == {"step by step = whole sequence, float32"}


def broken(module=None, **options) -> set[str]:
    """The checks that fail."""
    result = memorycell.prove(module or model(), **options)
    assert not result.ok
    assert result.to_json()["ok"] is False
    return {f"{check.name}, {check.precision}" for check in result.checks if not check.ok}


def test_a_broken_pool_is_found(monkeypatch):
    from memorycell.applications.forecast.stepper import ForecasterStepper

    step_many = ForecasterStepper.step_many
    monkeypatch.setattr(
        ForecasterStepper,
        "step_many",
        lambda self, block, rows, x: step_many(self, block, np.sort(rows), x),
    )
    assert all("pool" in name for name in broken(precisions=["float32"], exports=[]))


def test_a_broken_rewind_and_a_broken_file_are_found(monkeypatch):
    monkeypatch.setattr(Stream, "rewind", lambda self, n=1: None)
    assert broken(precisions=["float32"], exports=[]) == {
        "rewound and forked = step by step, float32"
    }
    monkeypatch.undo()
    monkeypatch.setattr(Stream, "load", lambda self, path: {})
    assert broken(precisions=["int8"], exports=[]) == {"saved and loaded = step by step, int8"}


def test_a_broken_export_and_nan_are_found(monkeypatch):
    lstm = c_cells.CELLS_IN_C["lstm"]
    wrong = Template(lstm.template.template.replace("f * c[u]", "i * c[u]"))
    monkeypatch.setitem(c_cells.CELLS_IN_C, "lstm", replace(lstm, template=wrong))
    assert broken(precisions=["float32"], exports=["c"]) == {"c = step by step, float32"}
    monkeypatch.undo()
    step_one = LayerStepper.step_one

    def poisoned(self, ring, row, x):
        y, row = step_one(self, ring, row, x)
        y[..., 0] = np.nan
        return y, row

    monkeypatch.setattr(LayerStepper, "step_one", poisoned)
    assert "step by step = whole sequence, float32" in broken(precisions=["float32"], exports=[])


@pytest.mark.parametrize("broken", [False, True])
def test_lower_precisions_of_classifiers_are_compared_as_probabilities(monkeypatch, broken):
    """Log-probabilities of unlikely classes differ by more than the bound, probabilities do not;
    probabilities that are wrong are found.
    """
    torch.manual_seed(0)
    net = Classifier(
        ClassifierConfig(
            vocabulary=0, input_size=4, classes=30, hidden_size=24, bidirectional=False
        )
    ).eval()
    with torch.no_grad():
        net.head.linear.weight.mul_(12)
        for weight in net.recurrent.parameters():
            weight.mul_(6)
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    whole = net(torch.from_numpy(x)[None])[0][0].detach().numpy()
    stream = Stream(net, "int8")
    steps = np.stack([stream.step(row) for row in x])
    assert proof.difference(steps, whole) > proof.TOLERANCE["int8"]
    if broken:
        monkeypatch.setattr(proof, "_steps", lambda *_: np.roll(steps, 1, axis=1))
        monkeypatch.setattr(proof, "_other_ways", lambda *_: ())
    result = memorycell.prove(net, x, precisions=["int8"], exports=[])
    (check,) = [c for c in result.checks if c.name.startswith("step by step")]
    wanted = np.roll(steps, 1, axis=1) if broken else steps
    assert check.max_diff == pytest.approx(np.abs(np.exp(wanted) - np.exp(whole)).max(), rel=1e-3)
    assert check.ok is not broken
    assert result.ok is not broken


def test_skipped_checks_are_listed_with_the_reason(monkeypatch):
    monkeypatch.setattr(proof.shutil, "which", lambda name: None)
    result = memorycell.prove(model(), precisions=["float32"], exports=["c"])
    assert result.skipped == {"c in float32": "needs a C compiler: cc, gcc or clang"}
    assert result.ok
    result = memorycell.prove(
        memorycell.LSTM(3, 4).double().float().requires_grad_(False),
        precisions=["float32"],
        exports=[],
    )
    assert result.ok
    with pytest.raises(ValueError, match="needs the future"):
        memorycell.prove(memorycell.LSTM(3, 4, bidirectional=True))
    with pytest.raises(TypeError, match="prove: expected"):
        memorycell.prove(torch.nn.Linear(3, 4))


def test_precision_cost():
    scores = {"float32": {"crps": 2.0}, "int8": {"crps": 2.1}}
    cost = proof.precision_cost(scores.__getitem__, "crps", "int8")
    assert cost == {"metric": "crps", "float32": 2.0, "int8": 2.1, "change": pytest.approx(0.05)}
