"""The answer "unknown" for sequences of none of the classes."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from sequence_data import HOW, train
from torch.nn import functional as F

from memorycell.applications.sequences.model import SequenceBatch, SequenceModel
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.applications.sequences.predict import PredictOptions, predict, render
from memorycell.applications.sequences.prepare import prepare, reopen
from memorycell.applications.sequences.session import SequencesSession
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.errors import DataError

LABELS = ("slow", "fast", "normal noise", "uniform noise", "heavy noise")


def wave(label: str, rng: np.random.Generator) -> np.ndarray:
    size = int(rng.integers(20, 30))
    if label in ("slow", "fast"):
        angle = 2 * np.pi * np.arange(size) / {"slow": 12.0, "fast": 4.0}[label]
        return np.sin(angle + rng.uniform(0, 6)) + 0.1 * rng.normal(size=size)
    if label == "uniform noise":
        return rng.uniform(-1.5, 1.5, size)
    return rng.normal(size=size) if label == "normal noise" else rng.laplace(size=size)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    path = tmp_path_factory.mktemp("unknown") / "waves.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["recording", "step", "v", "y"])
        for k in range(150):
            label = LABELS[k % 5]
            for step, value in enumerate(wave(label, rng)):
                rows.writerow([f"r{k}", step, f"{value:.4f}", label])
    return path


@pytest.fixture(scope="module")
def model(waves, tmp_path_factory):
    out = tmp_path_factory.mktemp("unknown_model") / "m.safetensors"
    options = {"members": 2, "false_acceptance": 0.2, "mix": True, "static": None, "hidden": 16}
    return train(waves, out, replace(HOW, epochs=20), unknown="*noise", **options)


def test_a_sequence_of_no_class_learns_equal_probabilities():
    config = SequenceModelConfig(target="class", input_size=2, outputs=3, hidden_size=4)
    tested = SequenceModel(config).eval()
    x, lengths = torch.randn(2, 5, 2), torch.tensor([5, 3])
    batch = SequenceBatch(x, lengths, torch.tensor([1, -1]), torch.ones(2, 1))
    with torch.no_grad():
        loss, _ = tested.loss(batch, None)
        scores = tested.outputs(x, lengths)
    known = F.cross_entropy(scores[:1], torch.tensor([1]))
    equal = F.cross_entropy(scores[1:], torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(loss, (known + equal) / 2)


def test_unknown_classes_are_answered_so(model, waves):
    result, file = model
    assert file.codec.names == ("fast", "slow")
    assert 0.5 < file.codec.unknown_below <= 1
    assert result["metrics"]["accuracy"] > 0.9
    assert result["metrics"]["false_acceptance"] <= 0.5
    assert result["metrics"]["false_rejection"] <= 0.4
    dataset = reopen(None, file)
    again = dataset.evaluate(file.model, "test")
    for name in ("false_acceptance", "false_rejection"):
        assert again[name] == pytest.approx(result["metrics"][name])
    p = dataset._unknown_p(file.model, "valid")
    assert (p >= file.codec.unknown_below).mean() <= 0.2
    assert len(dataset.parts.unknown["valid"]) == 30
    records = predict(file, str(waves), PredictOptions())["sequences"]
    unknown = [r for r in records if r["label"] == "unknown"]
    assert all(r["p"] <= file.codec.unknown_below + 1e-4 and "nearest" in r for r in unknown)
    of_noise = [r["label"] == "unknown" for r in records if int(r["name"][1:]) % 5 >= 2]
    of_known = [r["label"] == "unknown" for r in records if int(r["name"][1:]) % 5 < 2]
    assert np.mean(of_noise) > np.mean(of_known) + 0.3
    shown = render({"notes": [], "kind": "class", "sequences": [unknown[0]]})
    assert "unknown (nearest " in shown


def test_a_session_says_unknown_too(model):
    _, file = model
    file = replace(file, codec=replace(file.codec, unknown_below=1.0))
    record = SequencesSession(file).step({"v": 0.3})
    assert record["label"] == "unknown"
    assert record["nearest"] in ("fast", "slow")


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ("nois", "no such class; there are"),
        ("*noise,slow", "leaves 1 class to learn"),
    ],
)
def test_impossible_unknown_classes_are_refused(waves, unknown, message):
    with pytest.raises(DataError, match=message):
        prepare(str(waves), SequencesSettings(unknown=unknown, augment="none"))


def test_numbers_have_no_unknown_class(waves):
    with pytest.raises(DataError, match="only for one class"):
        prepare(str(waves), SequencesSettings(target="v", kind="step_number", unknown="1"))
