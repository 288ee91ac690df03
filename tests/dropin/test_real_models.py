"""Published models (tests/dropin/models), adopted: the same outputs, gradients and training as with
torch's layers.

Each file in that folder has VARIANTS, `build(variant)`, `adopted(variant)` (the layers that must be
adopted), `outputs(model)`, and `Training(model)` with `loss(step)` and `update()`. Both copies use
the same seed before every step, so other dropout layers drop the same values.
"""

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import memorycell

FOLDER = Path(__file__).parent / "models"
STEPS = 50


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dropin_models_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for pickle and copy
    spec.loader.exec_module(module)
    return module


MODELS = {path.stem: load(path.stem) for path in sorted(FOLDER.glob("*.py"))}
CASES = [
    pytest.param(n, v, id=f"{n} {v}".strip())
    for n, module in MODELS.items()
    for v in module.VARIANTS
]


def pair(name: str, variant: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The model with torch's layers, and a copy with every recurrent layer adopted."""
    module = MODELS[name]
    torch.manual_seed(0)
    theirs = module.build(variant)
    ours = copy.deepcopy(theirs)
    layers = {name: ours.get_submodule(name) for name in module.adopted(variant)}
    report = memorycell.adopt(ours)
    assert {name: kind.rsplit(".")[-1] for name, kind in report.adopted.items()} == module.adopted(
        variant
    )
    assert not report.skipped
    for layer_name, kind in module.adopted(variant).items():
        layer = ours.get_submodule(layer_name)
        assert layer is layers[layer_name]
        assert type(layer) is getattr(memorycell, kind)
        assert isinstance(layer, getattr(torch.nn, kind))
        assert type(theirs.get_submodule(layer_name)) is getattr(
            torch.nn, kind
        )  # compared with torch
        explanation = memorycell.explain(layer)
        assert (
            explanation.backend == "native" or "g++" in explanation.reason
        )  # the engine, if it was compiled
    for model in (theirs, ours):
        if hasattr(module, "finish"):
            module.finish(model, variant)
    return theirs, ours


def assert_close(ours, theirs, tolerance: float, what: str) -> None:
    """Equal within tolerance·max(1, largest value); integers, such as sampled words, exactly."""
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    if not theirs.is_floating_point():
        assert torch.equal(ours, theirs), what
        return
    scale = max(1.0, float(theirs.detach().abs().max()))
    difference = float((ours - theirs).detach().abs().max())
    assert difference <= tolerance * scale, (
        f"{what}: difference {difference:.2e}, scale {scale:.2e}"
    )


def assert_gradients(ours: torch.nn.Module, theirs: torch.nn.Module, tolerance: float) -> None:
    """Equal within tolerance · max(largest element of the gradient, 0.01 · largest of all)."""
    largest = max(float(p.grad.abs().max()) for p in theirs.parameters() if p.grad is not None)
    for (name, mine), (other_name, other) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == other_name
        assert (mine.grad is None) == (other.grad is None), name
        if other.grad is not None:
            scale = max(float(other.grad.abs().max()), 1e-2 * largest)
            difference = float((mine.grad - other.grad).abs().max())
            assert difference <= tolerance * scale, (
                f"gradient of {name}: difference {difference:.2e}, scale {scale:.2e}"
            )


def train(training, steps: range) -> list[float]:
    """The loss at each step; both copies draw the same random numbers."""
    losses = []
    for step in steps:
        torch.manual_seed(step)
        training.model.train()
        training.model.zero_grad()
        loss = training.loss(step)
        loss.backward()
        training.update()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_outputs_equal_torchs(name, variant):
    theirs, ours = pair(name, variant)
    expected, got = MODELS[name].outputs(theirs), MODELS[name].outputs(ours)
    for number, (mine, other) in enumerate(zip(got, expected, strict=True)):
        assert_close(mine, other, 1e-5, f"output {number}")


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_gradients_of_a_step_equal_torchs(name, variant):
    theirs, ours = pair(name, variant)
    losses = []
    for model in (theirs, ours):
        torch.manual_seed(7)
        loss = MODELS[name].Training(model.train()).loss(0)
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_gradients(ours, theirs, 1e-4)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_training_equals_torchs(name, variant):
    """Every loss of 50 steps and every parameter and buffer after them; then the outputs from one
    checkpoint.
    """
    module = MODELS[name]
    theirs, ours = pair(name, variant)
    before = copy.deepcopy(theirs.state_dict())
    history = [train(module.Training(model), range(STEPS)) for model in (theirs, ours)]
    assert history[1] == pytest.approx(history[0], rel=1e-4, abs=1e-5)
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert_close(state[key], value, 1e-4, f"{key} after {STEPS} steps")
    moved = max(
        float((v - before[k]).abs().max())
        for k, v in theirs.state_dict().items()
        if v.is_floating_point()
    )
    assert moved > 1e-2  # 100 times the tolerance

    ours.load_state_dict(theirs.state_dict())  # bitwise equal weights
    for number, (mine, other) in enumerate(
        zip(module.outputs(ours), module.outputs(theirs), strict=True)
    ):
        assert_close(mine, other, 1e-5, f"output {number} after training")


@pytest.mark.parametrize("variant", MODELS["awd_lstm"].VARIANTS)
def test_layers_inside_a_weight_drop_wrapper_are_not_changed(variant):
    module = MODELS["awd_lstm"]
    torch.manual_seed(0)
    theirs = module.build(variant)
    ours = copy.deepcopy(theirs)
    module.finish(theirs, variant)
    module.finish(ours, variant)
    report = memorycell.adopt(ours)
    assert not report.adopted
    assert set(report.skipped) == {f"rnns.{number}.module" for number in range(3)}
    for name, reason in report.skipped.items():
        assert "weight_hh_l0" in reason
        assert name in str(report)
        assert reason in str(report)
    assert all(type(rnn.module) is torch.nn.LSTM for rnn in ours.rnns)
    history = [train(module.Training(model), range(5)) for model in (theirs, ours)]
    assert history[0] == history[1]
    for mine, other in zip(module.outputs(ours), module.outputs(theirs), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("first", [True, False], ids=["adopted first", "wrapped first"])
def test_weights_written_to_the_parameter_dict_are_used(first):
    """fastai 1 stored the dropped weight among the parameters, without a visible wrapper."""
    module = MODELS["awd_lstm"]
    torch.manual_seed(0)
    theirs = module.build("fastai 1")
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        if model is ours and first:
            memorycell.adopt(model)
        module.finish(model, "fastai 1")
        if model is ours and not first:
            memorycell.adopt(model)
    runs = [module.Training(model.train()) for model in (theirs, ours)]
    raws = [[rnn.weight_hh_l0_raw for rnn in model.rnns] for model in (theirs, ours)]
    for step in range(5):
        results = []
        for run, raw in zip(runs, raws, strict=True):
            torch.manual_seed(step)
            loss = run.loss(step)
            gradients = torch.autograd.grad(loss, raw)
            with torch.no_grad():
                for parameter, gradient in zip(raw, gradients, strict=True):
                    assert float(gradient.abs().max()) > 1e-4
                    parameter -= 3 * gradient
            results.append([loss, *gradients, *raw])
        for mine, other in zip(results[1], results[0], strict=True):
            assert_close(mine, other, 1e-5, f"step {step}")
    for mine, other in zip(module.outputs(ours), module.outputs(theirs), strict=True):
        assert_close(mine, other, 1e-5, "output")


def test_a_model_adopted_during_training():
    """The optimiser, its momenta and the carried state work with the adopted layers."""
    module = MODELS["word_language_model"]
    history = []
    for adopting in (False, True):
        torch.manual_seed(0)
        model = module.build("LSTM")
        training = module.Training(model)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        training.update = optimiser.step
        losses = train(training, range(10))
        if adopting:
            memorycell.adopt(model)
        history.append(losses + train(training, range(10, 30)))
    assert history[1] == pytest.approx(history[0], rel=1e-4)
    assert history[1][-1] < history[1][0]


def test_the_forget_bias_can_be_set_after_adopting():
    """A write to a slice of `.data`, which autograd does not record, affects the next call, before
    and after the first.
    """
    module = MODELS["cudalstm"]
    theirs, ours = pair("cudalstm", "30 days")
    for value in (3.0, -2.0, 0.5):
        for model in (theirs, ours):
            model.lstm.bias_hh_l0.data[module.HIDDEN : 2 * module.HIDDEN] = value
        expected = module.outputs(theirs)
        for mine, other in zip(module.outputs(ours), expected, strict=True):
            assert_close(mine, other, 1e-5, f"forget bias {value}")


def test_gradients_through_every_step_of_a_year():
    """Gradients of the daily weather input."""
    module = MODELS["cudalstm"]
    theirs, ours = pair("cudalstm", "365 days")
    gradients = []
    for model in (theirs, ours):
        data = module.weather(365, 1)
        data["x_d"].requires_grad_()
        result = model.eval()(data)
        (
            result["y_hat"].sum() + result["lstm_output"].pow(2).mean() + result["c_n"].sum()
        ).backward()
        gradients.append(data["x_d"].grad)
    assert_close(gradients[1], gradients[0], 1e-5, "gradient of the weather")
    assert_gradients(ours, theirs, 1e-4)
