"""Inside a model: what is recorded is what ran; horizons against closed forms; the page opens in a
browser.
"""

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
from memorycell.inspection.horizon import by_gradient, by_occlusion, gate_half_lives
from memorycell.inspection.inside import similar_states, unit_order
from memorycell.inspection.record import recording
from memorycell.nn.layers import of_cell


class Tagger(nn.Module):
    """Other people's code, with torch's own layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 6)
        self.rnn = nn.LSTM(6, 7, 2, bidirectional=True, batch_first=True, dropout=0.3)
        self.second = nn.GRU(14, 5, batch_first=True)
        self.out = nn.Linear(5, 4)

    def forward(self, tokens):
        return self.out(self.second(self.rnn(self.words(tokens))[0])[0])


def test_what_is_recorded_is_what_ran():
    torch.manual_seed(0)
    model = Tagger().eval()
    tokens = torch.randint(30, (3, 11))
    expected = model(tokens)
    with recording(model) as recorded:
        found = model(tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert [r.name for r in recorded] == [
        "rnn layer 1",
        "rnn layer 1 backwards",
        "rnn layer 2",
        "rnn layer 2 backwards",
        "second",
    ]
    hidden = model.rnn(model.words(tokens))[0]
    joined = torch.cat([recorded[2].gates["h"], recorded[3].gates["h"]], -1)
    torch.testing.assert_close(joined, hidden, rtol=0, atol=1e-6)
    assert set(recorded[0].gates) == {"i", "f", "g", "o", "c", "h"}
    assert set(recorded[4].gates) == {"r", "z", "n", "h"}
    c, i, f, g = (recorded[0].gates[n] for n in "cifg")
    torch.testing.assert_close(
        c[:, 1:], f[:, 1:] * c[:, :-1] + i[:, 1:] * g[:, 1:], rtol=0, atol=1e-6
    )
    assert type(model.rnn) is nn.LSTM  # and afterwards it is as it was
    assert "forward" not in model.rnn.__dict__
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=0)


def test_training_goes_on_while_recording_and_mistakes_leave_no_trace():
    torch.manual_seed(0)
    model = Tagger().train()
    tokens = torch.randint(30, (3, 11))
    with recording(model) as recorded:
        model(tokens).sum().backward()
    assert model.rnn.weight_hh_l0.grad.abs().sum() > 0
    assert recorded[0].gates["h"].shape == (3, 11, 7)
    with pytest.raises(IndexError), recording(model):
        model(tokens + 100)
    assert "forward" not in model.rnn.__dict__
    with (
        pytest.raises(ValueError, match="no recurrent layer in Linear"),
        recording(nn.Linear(2, 2)),
    ):
        pass


def test_calls_a_step_at_a_time_follow_one_another():
    layer = nn.LSTM(3, 5, batch_first=True)
    x = torch.randn(2, 9, 3)
    with recording(layer) as whole:
        layer(x)
    with recording(layer) as steps:
        state = None
        for k in range(9):
            _, state = layer(x[:, k : k + 1], state)
    for name, value in whole[0].gates.items():
        torch.testing.assert_close(steps[0].gates[name], value, rtol=0, atol=1e-6)
    packed = nn.utils.rnn.pack_sequence(
        [torch.randn(n, 3) for n in (4, 7, 2)], enforce_sorted=False
    )
    with recording(layer) as other:
        layer(packed)
    assert other[0].gates["f"].shape == (3, 7, 5)


def linear(decay: float) -> memorycell.RNN:
    """h_t = decay · h_{t-1} + x_t for inputs above zero."""
    layer = memorycell.RNN(1, 1, nonlinearity="relu", batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(1.0)
        layer.weight_hh_l0.fill_(decay)
    return layer


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_horizons_of_a_linear_toy_are_the_closed_form(decay):
    x = torch.rand(1, 1500, 1) + 0.5
    exact = math.log(2) / -math.log(decay)
    found = by_gradient(linear(decay), x)
    assert found.half_life == pytest.approx(exact, rel=0.01)
    np.testing.assert_allclose(found.curve[:50], decay ** np.arange(50), rtol=1e-4)
    assert by_occlusion(linear(decay), x, lags=40).half_life == pytest.approx(exact, rel=0.05)
    assert found.uses == pytest.approx(
        math.log(0.05) / math.log(decay), abs=2, rel=0.05
    )  # cut at 512 steps
    assert gate_half_lives(torch.full((2, 9, 3), decay)) == pytest.approx(exact, rel=1e-5)


def test_an_lstm_that_only_forgets_has_its_gates_half_life():
    """i, g and o constant, f = 0.95: c_t = 0.95 c_{t-1} + i g(x_t)."""
    layer = memorycell.LSTM(1, 1, batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.bias_ih_l0[1] = math.log(0.95 / 0.05)
        layer.weight_ih_l0[2] = 0.01
    x = torch.randn(1, 900, 1)
    exact = math.log(2) / -math.log(0.95)
    assert by_gradient(layer, x).half_life == pytest.approx(exact, rel=0.01)
    report = memorycell.inspect(layer, x)
    assert report.layers[0].half_lives == pytest.approx([exact], rel=1e-4)
    assert report.to_json()["layers"][0]["forget_half_life"]["median"] == pytest.approx(
        exact, rel=1e-4
    )


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_is_inspected(cell):
    torch.manual_seed(0)
    layer = of_cell(cell, 3, 6, 2, batch_first=True)
    found = memorycell.inspect(layer, torch.randn(1, 50, 3), labels=[f"w{k}" for k in range(50)])
    told = found.to_json()
    json.dumps(told, allow_nan=False)
    assert "uses about the last" in told["sentence"]
    assert len(told["layers"]) == 2
    words = found.coloured(3, "h", layer=1)
    assert words[7] == (
        "w7",
        pytest.approx(float(layer(found.layers[0].recorded.inputs)[0][0, 7, 3].detach())),
    )
    for each in told["layers"]:
        assert all(0 <= s["low"] + s["high"] <= 1 for s in each["saturation"].values())
    assert "<h2>What saturates</h2>" in found.page()


def test_saturation_and_dead_units_are_counted():
    layer = memorycell.LSTM(2, 4, batch_first=True)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.bias_ih_l0[4:8] = -9.0  # the forget gates are shut
        layer.bias_ih_l0[8:10] = 5.0  # two units have a candidate, two have none
    told = memorycell.inspect(layer, torch.randn(1, 30, 2)).to_json()
    (layer_told,) = told["layers"]
    assert layer_told["saturation"]["f"] == {"low": 1.0, "high": 0.0}
    assert layer_told["saturation"]["i"] == {"low": 0.0, "high": 0.0}
    assert layer_told["dead"] == 2
    assert any("forget gate is shut 100%" in line for line in told["advice"])
    assert any("2 of 4 units never speak" in line for line in told["advice"])


def test_inputs_that_are_short_long_or_wrong():
    layer = memorycell.LSTM(2, 4, batch_first=True)
    assert "too short" in memorycell.inspect(layer, torch.randn(1, 1, 2)).sentence
    memorycell.inspect(layer, torch.randn(1, 1, 2)).page()
    long = memorycell.inspect(layer, torch.randn(1, 100_000, 2))
    assert long.notes[0] == "the last 5,000 of 100,000 steps were looked at"
    broken = torch.randn(1, 9, 2)
    broken[0, 6, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN at step 6"):
        memorycell.inspect(layer, broken)
    with pytest.raises(ValueError, match="no recurrent layer"):
        memorycell.inspect(nn.Linear(2, 2), torch.randn(1, 2))
    both = memorycell.inspect(nn.LSTM(2, 4, bidirectional=True), torch.randn(30, 1, 2))
    assert any("both ways" in note for note in both.notes)


def test_similar_states_and_the_order_of_units():
    wave = torch.sin(torch.arange(200) * 2 * math.pi / 40)
    states = torch.stack([wave, wave.roll(10), torch.randn(200) * 0.01], 1)
    found = similar_states(states, 100)
    assert {k % 40 for k, _ in found[:4]} <= {19, 20, 21}
    assert all(closeness > 0.99 for _, closeness in found[:3])
    values = np.stack([np.sin(np.arange(60) / 5 + phase) for phase in (0, 3.1, 0.1, 3.0, 0.05)], 1)
    order = unit_order(values).tolist()
    places = [order.index(k) for k in (0, 2, 4)]
    assert max(places) - min(places) == 2 or sorted(places) in (
        [0, 1, 4],
        [0, 3, 4],
    )  # a circle has no ends


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
def test_the_page_draws_every_figure_in_a_browser(tmp_path: Path):
    found = memorycell.inspect(
        memorycell.LSTM(2, 9, 2, batch_first=True),
        torch.randn(1, 60, 2),
        labels=list("abcdef") * 10,
    )
    page = found.page().replace(
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
    words = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]
    dom = subprocess.run(
        [*words, f"file://{tmp_path}/p.html"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    drawn, figures, errors = re.search(r"<title>drawn (\d+) of (\d+) errors (\d+)", dom).groups()
    assert int(figures) >= 5
    assert int(drawn) >= int(figures)
    assert int(errors) == 0


def test_gradient_flow_is_recorded_while_training():
    """Norms against torch's own, layer by layer; what vanishes and explodes is counted."""
    from memorycell.inspection.flow import GradientFlow, layer_of

    assert layer_of("encoder.rnn.weight_hh_l1_reverse") == "encoder.rnn layer 2 backwards"
    assert layer_of("out.bias") == "out"
    assert layer_of("weight_ih_l0") == "layer 1"
    torch.manual_seed(0)
    model = Tagger()
    flow = GradientFlow(model, every=2)
    for step in range(12):
        model.zero_grad()
        loss = model(torch.randint(30, (3, 11))).square().mean()
        (loss * (1e9 if step == 8 else 1.0)).backward()
        flow.see()
        if step == 10:
            own = [p.grad.norm() for p in model.second.parameters()]
            assert flow.seen[-1][1][flow.layers.index("second layer 1")] == pytest.approx(
                float(torch.stack(own).norm())
            )
    assert [step for step, _ in flow.seen] == [0, 2, 4, 6, 8, 10]
    told = flow.summary()
    assert told["second layer 1"]["exploded"] == pytest.approx(1 / 6)
    assert told["words"]["vanished"] == 0
    assert len(flow.figure().data) == len(flow.layers)
    assert flow.summary(since=10)["second layer 1"]["exploded"] == 0
