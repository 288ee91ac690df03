"""release: back to torch.nn's classes, for tools that require exactly those."""

import copy

import pytest
import torch

import memorycell

quantize = pytest.importorskip("torch.ao.quantization")


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(5, 6, 2, bidirectional=True)
        self.tags = torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.tags(self.rnn(x)[0])


def test_release_undoes_adopt_in_place():
    model = Tagger().eval()
    rnn, parameters, x = model.rnn, list(model.parameters()), torch.randn(7, 3, 5)
    expected = model(x)
    assert memorycell.adopt(model).adopted == {"rnn": "memorycell.LSTM"}
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)
    report = memorycell.release(model)
    assert report.adopted == {"rnn": "torch.nn.LSTM"}
    assert "rnn: now torch.nn.LSTM" in str(report)
    assert model.rnn is rnn
    assert type(rnn) is torch.nn.LSTM
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_memorycell_layer_becomes_torchs(kind):
    layer = getattr(memorycell, kind)(4, 5, 2)
    x = torch.randn(6, 2, 4)
    expected = layer(x)[0]
    memorycell.release(layer)
    assert type(layer) is getattr(torch.nn, kind)
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-6)
    copied = copy.deepcopy(layer)
    assert type(copied) is type(layer)


def test_layers_without_equivalent_are_not_changed():
    layer = memorycell.LSTM(4, 5, cell="peephole")
    report = memorycell.release(layer)
    assert type(layer) is memorycell.LSTM
    assert "cell" in report.skipped[""]
    assert memorycell.release(memorycell.LSTM(4, 5, zoneout=0.1)).adopted == {}


@pytest.mark.filterwarnings("ignore")  # raised by PyTorch: deprecated in favour of another package
def test_dynamic_quantisation_of_a_released_layer():
    model = Tagger().eval()
    memorycell.adopt(model)
    x = torch.randn(7, 3, 5)
    expected = model(x)
    quantised_with_ours = quantize.quantize_dynamic(copy.deepcopy(model))
    assert isinstance(
        quantised_with_ours.rnn, memorycell.LSTM
    )  # in float32; only the Linear is quantised
    assert (quantised_with_ours(x) - expected).abs().max() < 0.1
    memorycell.release(model)
    quantised = quantize.quantize_dynamic(model)
    assert "quantized" in type(quantised.rnn).__module__
    assert (quantised(x) - expected).abs().max() < 0.1
