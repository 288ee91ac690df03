"""Single steps of the native engine, of one session and of many, against the reference; errors."""

import threading

import numpy as np
import pytest
import torch
from native_cases import CELL_NAMES, build, engine

import memorycell
from memorycell.ops import binding
from memorycell.ops.step import StackStep

pytestmark = [
    pytest.mark.skipif(engine is None, reason=binding.missing or "built"),
    pytest.mark.usefixtures("poison"),
]


@pytest.mark.parametrize("cell", CELL_NAMES)
@pytest.mark.parametrize(
    ("precision", "bound"), [("float32", 1e-5), ("bfloat16", 0.01), ("int8", 0.02)]
)
def test_steps_equal_the_full_sequence(isa, cell, precision, bound):
    for inputs, hidden in ((1, 2), (5, 63), (33, 64)):
        torch.manual_seed(0)
        layer = build(cell, inputs, hidden, zoneout=0.0 if cell == "slstm" else 0.1).eval()
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                if name.startswith(("gain_ih", "gain_hh")):
                    parameter.fill_(0.3)
        x = torch.randn(20, inputs)
        whole = layer(x[None], backend="reference")[0][0].detach()
        step = StackStep(
            cell,
            [layer.layer_parameters(0, "")],
            precision=precision,
            zoneout=layer.zoneout,
            extra_width=3,
        )
        width = step.layout.width + 3
        mine = np.full((20, hidden), np.nan, np.float32)
        ring = np.zeros((4, width), np.float32)
        assert step.step_one(ring, 3, x.numpy(), mine) == (3 + 20) % 4
        assert np.abs(mine - whole.numpy()).max() < bound * (
            20 if cell == "layernorm" and hidden == 2 else 1
        )
        # Several sessions at once are bitwise equal to one alone, and change no other.
        block = np.zeros((9, width), np.float32)
        slots = np.array([3, 8, 0, 5, 1, 2, 7])
        for k, row in enumerate(x):
            others = torch.randn(3, inputs), torch.randn(3, inputs)
            y = step.step_many(block, slots, torch.cat([others[0], row[None], others[1]]).numpy())
            assert np.array_equal(y[3], mine[k])
        assert not block[[4, 6]].any()
        assert not block[:, -3:].any()


def test_steps_of_stacked_layers_equal_the_full_sequence(isa):
    layer = memorycell.LSTM(5, 7, num_layers=3, batch_first=True)
    x = torch.randn(30, 5)
    step = StackStep("lstm", [layer.layer_parameters(k, "") for k in range(3)])
    y, ring = np.empty((30, 7), np.float32), np.zeros((1, step.layout.width), np.float32)
    step.step_one(ring, 0, x.numpy(), y)
    whole, state = layer(x[None], backend="reference")
    assert np.abs(y - whole[0].detach().numpy()).max() < 1e-6
    for mine, theirs in zip(step.layout.state(ring), state, strict=True):
        assert float((mine - theirs).detach().abs().max()) < 1e-6
    block = np.zeros(
        (200, step.layout.width), np.float32
    )  # more than the engine runs through the layers together
    for k in range(30):
        many = step.step_many(
            block, np.arange(199, -1, -1), np.repeat(x[k : k + 1].numpy(), 200, 0)
        )
    assert all(np.array_equal(row, y[29]) for row in many)


def test_two_threads_step_different_slots():
    layer = build("lstm", 8, 32)
    x = np.random.default_rng(0).normal(size=(2, 300, 4, 8)).astype(np.float32)
    step = StackStep("lstm", [layer.layer_parameters(0, "")])

    def run(block: np.ndarray, half: int, out: list) -> None:
        slots = np.arange(4) + 4 * half
        out[half] = np.stack([step.step_many(block, slots, row) for row in x[half]])

    alone, together = [None, None], [None, None]
    block = np.zeros((8, step.layout.width), np.float32)
    for half in (0, 1):
        run(block, half, alone)
    block = np.zeros((8, step.layout.width), np.float32)
    threads = [threading.Thread(target=run, args=(block, half, together)) for half in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_nan_is_propagated():
    for precision in ("float32", "bfloat16", "int8"):
        step = StackStep("lstm", [build("lstm", 4, 6).layer_parameters(0, "")], precision=precision)
        y = np.zeros(6, np.float32)
        step.step_one(np.zeros((1, 12), np.float32), 0, np.array([1, np.nan, 2, 3], np.float32), y)
        assert np.isnan(y).all()


def raises(words: str):
    return pytest.raises(ValueError, match=words)


def test_errors_name_the_argument():
    layer = build("lstm", 4, 6)
    params = layer.layer_parameters(0, "")
    step = StackStep("lstm", [params])
    ring, y = np.zeros((3, 12), np.float32), np.zeros((1, 6), np.float32)
    with raises("x: expected 8 values, got 5"):
        step.step_one(ring, 0, np.zeros(5, np.float32), y)
    with raises("x: expected type 'f', got 'd'"):
        step.step_one(ring, 0, np.zeros(4), y)
    with raises(r"row: expected 0\.\.2, got 3"):
        step.step_one(ring, 3, np.zeros(4, np.float32), y)
    with raises("contiguous"):
        step.step_one(ring, 0, np.zeros(8, np.float32)[::2], y)
    x = np.zeros((2, 4), np.float32)
    for rows, words in (
        ([0, 3], r"rows: expected 0\.\.2, got 3"),
        ([-1, 0], "got -1"),
        ([1, 1], "rows: 1 twice"),
    ):
        with raises(words):
            step.step_many(ring, np.array(rows), x)
    with raises("rows: expected type 'l', got 'd'"):
        step.step_many(ring, np.array([0.0, 1.0]), x)
    assert not ring.any()
    step.step_many(ring, np.array([1, 2]), x)  # rejected calls changed nothing
    with raises("precision"):
        StackStep("lstm", [params], precision="int4")
    with raises("NaN"):
        StackStep("lstm", [{**params, "weight_hh": params["weight_hh"] * float("nan")}])
    with raises("float64"):
        StackStep("lstm", [{name: p.double() for name, p in params.items()}])
    with raises("out of range"):
        engine.Weight(0, 2**40, 2**40, 1, 1, 0)
    with raises("projection"):
        build("layernorm", 4, 6, proj_size=2)(torch.zeros(1, 2, 4), backend="native")
    with raises("float64"):
        build("lstm", 4, 6).double()(torch.zeros(1, 2, 4).double(), backend="native")
    noncontiguous = torch.randn(4, 9, 2).transpose(0, 2)  # [2, 9, 4]: another layout of valid data
    torch.testing.assert_close(
        layer(noncontiguous, backend="native")[0], layer(noncontiguous.contiguous())[0]
    )


@pytest.mark.data
@pytest.mark.slow
def test_lower_precision_costs_the_demo_less_than_half_a_percent(glucose, tmp_path):
    """CRPS of the glucose forecaster on the test split, with steps in bfloat16 and int8."""
    from memorycell.application import catalogue, modelfile
    from memorycell.application.train_settings import TrainSettings
    from memorycell.applications.forecast.reopening import reopen
    from memorycell.applications.forecast.settings import ForecastSettings
    from memorycell.training import loop as training

    torch.use_deterministic_algorithms(False)
    path = tmp_path / "g.safetensors"
    training.train(
        catalogue.load("forecast"), "glucose", ForecastSettings(), TrainSettings(epochs=6), path
    )
    file = modelfile.load(path)
    dataset = reopen(None, file)
    at = dataset.origins("test")
    model, x = file.model, dataset.inputs[at[0] - 2000 :]
    scores = {}
    for precision in ("float32", "bfloat16", "int8"):
        quantiles = memorycell.stream(model, precision).step(x)
        scores[precision] = dataset.score(quantiles[at - at[0] + 2000], at)["crps"]
    assert scores["float32"] == pytest.approx(dataset.evaluate(model, "test")["crps"], rel=1e-3)
    for precision in ("bfloat16", "int8"):
        assert abs(scores[precision] / scores["float32"] - 1) < 0.005, scores
