"""Inspection: traces against the actual run, horizons against closed forms, pages in a browser."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import memorycell
from memorycell.cells import CELLS
from memorycell.inspection.figures import similar_states, unit_order
from memorycell.inspection.flow import GradientFlow, layer_name
from memorycell.inspection.horizon import forget_half_lives, gradient_horizon, occlusion_horizon
from memorycell.inspection.trace import trace_layers
from memorycell.nn.layers import of_cell


class Tagger(nn.Module):
    """A third-party model with torch's layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 6)
        self.rnn = nn.LSTM(6, 7, 2, bidirectional=True, batch_first=True, dropout=0.3)
        self.second = nn.GRU(14, 5, batch_first=True)
        self.out = nn.Linear(5, 4)

    def forward(self, tokens):
        return self.out(self.second(self.rnn(self.words(tokens))[0])[0])


def test_the_trace_is_the_actual_run():
    torch.manual_seed(0)
    model = Tagger().eval()
    tokens = torch.randint(30, (3, 11))
    expected = model(tokens)
    with trace_layers(model) as traces:
        output = model(tokens)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    assert [t.name for t in traces] == [
        "rnn layer 1",
        "rnn layer 1 backwards",
        "rnn layer 2",
        "rnn layer 2 backwards",
        "second",
    ]
    hidden = model.rnn(model.words(tokens))[0]
    both = torch.cat([traces[2].gates["h"], traces[3].gates["h"]], -1)
    torch.testing.assert_close(both, hidden, rtol=0, atol=1e-6)
    assert set(traces[0].gates) == {"i", "f", "g", "o", "c", "h"}
    assert set(traces[4].gates) == {"r", "z", "n", "h"}
    c, i, f, g = (traces[0].gates[n] for n in "cifg")
    torch.testing.assert_close(
        c[:, 1:], f[:, 1:] * c[:, :-1] + i[:, 1:] * g[:, 1:], rtol=0, atol=1e-6
    )
    assert type(model.rnn) is nn.LSTM  # the model is restored
    assert "forward" not in model.rnn.__dict__
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=0)


def test_training_works_while_tracing_and_errors_restore_the_model():
    torch.manual_seed(0)
    model = Tagger().train()
    tokens = torch.randint(30, (3, 11))
    with trace_layers(model) as traces:
        model(tokens).sum().backward()
    assert model.rnn.weight_hh_l0.grad.abs().sum() > 0
    assert traces[0].gates["h"].shape == (3, 11, 7)
    with pytest.raises(IndexError), trace_layers(model):
        model(tokens + 100)
    assert "forward" not in model.rnn.__dict__
    with (
        pytest.raises(ValueError, match="no recurrent layer in Linear"),
        trace_layers(nn.Linear(2, 2)),
    ):
        pass


def test_calls_with_one_step_are_concatenated():
    layer = nn.LSTM(3, 5, batch_first=True)
    x = torch.randn(2, 9, 3)
    with trace_layers(layer) as full:
        layer(x)
    with trace_layers(layer) as steps:
        state = None
        for k in range(9):
            _, state = layer(x[:, k : k + 1], state)
    for name, value in full[0].gates.items():
        torch.testing.assert_close(steps[0].gates[name], value, rtol=0, atol=1e-6)
    packed = nn.utils.rnn.pack_sequence(
        [torch.randn(n, 3) for n in (4, 7, 2)], enforce_sorted=False
    )
    with trace_layers(layer) as packed_run:
        layer(packed)
    assert packed_run[0].gates["f"].shape == (3, 7, 5)


def linear(decay: float) -> memorycell.RNN:
    """h_t = decay · h_{t-1} + x_t for positive inputs."""
    layer = memorycell.RNN(1, 1, nonlinearity="relu", batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1.0)
        layer.weight_hh_l0.fill_(decay)
    return layer


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_horizons_of_a_linear_layer_match_the_closed_form(decay):
    x = torch.rand(1, 1500, 1) + 0.5
    exact = math.log(2) / -math.log(decay)
    horizon = gradient_horizon(linear(decay), x)
    assert horizon.half_life == pytest.approx(exact, rel=0.01)
    np.testing.assert_allclose(horizon.curve[:50], decay ** np.arange(50), rtol=1e-4)
    assert occlusion_horizon(linear(decay), x, num_lags=40).half_life == pytest.approx(
        exact, rel=0.05
    )
    assert horizon.span == pytest.approx(
        math.log(0.05) / math.log(decay), abs=2, rel=0.05
    )  # truncated at 512 steps
    assert forget_half_lives(torch.full((2, 9, 3), decay)) == pytest.approx(exact, rel=1e-5)


def test_an_lstm_that_only_forgets_has_the_half_life_of_its_gate():
    """i, g and o constant, f = 0.95: c_t = 0.95 c_{t-1} + i g(x_t)."""
    layer = memorycell.LSTM(1, 1, batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.bias_ih_l0[1] = math.log(0.95 / 0.05)
        layer.weight_ih_l0[2] = 0.01
    x = torch.randn(1, 900, 1)
    exact = math.log(2) / -math.log(0.95)
    assert gradient_horizon(layer, x).half_life == pytest.approx(exact, rel=0.01)
    report = memorycell.inspect(layer, x)
    assert report.layers[0].half_lives == pytest.approx([exact], rel=1e-4)
    assert report.to_json()["layers"][0]["forget_half_life"]["median"] == pytest.approx(
        exact, rel=1e-4
    )


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_is_inspected(cell):
    torch.manual_seed(0)
    layer = of_cell(cell, 3, 6, 2, batch_first=True)
    x = torch.randn(1, 50, 3)
    inspection = memorycell.inspect(layer, x, labels=[f"w{k}" for k in range(50)])
    result = inspection.to_json()
    json.dumps(result, allow_nan=False)
    assert "uses about the last" in result["sentence"]
    assert len(result["layers"]) == 2
    values = inspection.unit_values(3, "h", layer=1)
    assert values[7] == ("w7", pytest.approx(float(layer(x)[0][0, 7, 3].detach())))
    for each in result["layers"]:
        assert all(0 <= s["low"] + s["high"] <= 1 for s in each["saturation"].values())
    assert "<h2>Gate saturation</h2>" in inspection.page()


def test_saturation_and_dead_units_are_counted():
    layer = memorycell.LSTM(2, 4, batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.bias_ih_l0[4:8] = -9.0  # the forget gates are closed
        layer.bias_ih_l0[8:10] = 5.0  # two units have a candidate, two have none
    result = memorycell.inspect(layer, torch.randn(1, 30, 2)).to_json()
    (report,) = result["layers"]
    assert report["saturation"]["f"] == {"low": 1.0, "high": 0.0}
    assert report["saturation"]["i"] == {"low": 0.0, "high": 0.0}
    assert report["dead"] == 2
    assert any("forget gate is closed 100%" in line for line in result["advice"])
    assert any("2 of 4 units never activate" in line for line in result["advice"])


def test_short_long_and_invalid_inputs():
    layer = memorycell.LSTM(2, 4, batch_first=True)
    assert "too short" in memorycell.inspect(layer, torch.randn(1, 1, 2)).summary
    memorycell.inspect(layer, torch.randn(1, 1, 2)).page()
    long = memorycell.inspect(layer, torch.randn(1, 100_000, 2))
    assert long.notes[0] == "only the last 5,000 of 100,000 steps were inspected"
    broken = torch.randn(1, 9, 2)
    broken[0, 6, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN at step 6"):
        memorycell.inspect(layer, broken)
    with pytest.raises(ValueError, match="no recurrent layer"):
        memorycell.inspect(nn.Linear(2, 2), torch.randn(1, 2))
    both = memorycell.inspect(nn.LSTM(2, 4, bidirectional=True), torch.randn(30, 1, 2))
    assert any("bidirectional" in note for note in both.notes)


def test_similar_states_and_the_order_of_units():
    wave = torch.sin(torch.arange(200) * 2 * math.pi / 40)
    states = torch.stack([wave, wave.roll(10), torch.randn(200) * 0.01], 1)
    similar = similar_states(states, 100)
    assert {k % 40 for k, _ in similar[:4]} <= {19, 20, 21}
    assert all(similarity > 0.99 for _, similarity in similar[:3])
    values = np.stack([np.sin(np.arange(60) / 5 + phase) for phase in (0, 3.1, 0.1, 3.0, 0.05)], 1)
    order = unit_order(values).tolist()
    places = [order.index(k) for k in (0, 2, 4)]
    assert max(places) - min(places) == 2 or sorted(places) in (
        [0, 1, 4],
        [0, 3, 4],
    )  # the order is circular


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_the_page_draws_every_figure_in_a_browser(tmp_path: Path):
    inspection = memorycell.inspect(
        memorycell.LSTM(2, 9, 2, batch_first=True),
        torch.randn(1, 60, 2),
        labels=list("abcdef") * 10,
    )
    page = inspection.page().replace(
        "<head>",
        "<head><script>window.errors = []; window.onerror = (m) => errors.push(m);"
        "console.error = (...m) => errors.push(m.join(' '));</script>",
    )
    probe = (
        "<script>window.addEventListener('load', () => setTimeout(() => { document.title = 'drawn '"
        " + document.querySelectorAll('.figure .main-svg').length + ' of ' +"
        " document.querySelectorAll('.figure').length + ' errors ' + errors.length + ' ' +"
        " errors.join('|'); }, 500));</script>"
    )
    (tmp_path / "p.html").write_text(page.replace("</body>", probe + "</body>"))
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]
    dom = subprocess.run(
        [*command, f"file://{tmp_path}/p.html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout
    drawn, figures, errors = re.search(r"<title>drawn (\d+) of (\d+) errors (\d+)", dom).groups()
    assert int(figures) >= 5
    assert int(drawn) >= int(figures)
    assert int(errors) == 0


def test_gradient_flow_is_recorded_while_training():
    """Norms of every layer against torch's; vanished and exploded gradients are counted."""
    assert layer_name("encoder.rnn.weight_hh_l1_reverse") == "encoder.rnn layer 2 backwards"
    assert layer_name("out.bias") == "out"
    assert layer_name("weight_ih_l0") == "layer 1"
    torch.manual_seed(0)
    model = Tagger()
    flow = GradientFlow(model, every=2)
    for step in range(12):
        model.zero_grad()
        loss = model(torch.randint(30, (3, 11))).square().mean()
        (loss * (1e9 if step == 8 else 1.0)).backward()
        flow.record()
        if step == 10:
            norms = [p.grad.norm() for p in model.second.parameters()]
            assert flow.records[-1][1][flow.layers.index("second layer 1")] == pytest.approx(
                float(torch.stack(norms).norm())
            )
    assert [step for step, _ in flow.records] == [0, 2, 4, 6, 8, 10]
    summary = flow.summary()
    assert summary["second layer 1"]["exploded"] == pytest.approx(1 / 6)
    assert summary["words"]["vanished"] == 0
    assert len(flow.figure().data) == len(flow.layers)
    assert flow.summary(since=10)["second layer 1"]["exploded"] == 0
