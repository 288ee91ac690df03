"""Several detectors as one: the moments of the mixture, complete and live."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memorycell.applications.anomaly.head import STUDENT_T_DF, mean_rows
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.models.batches import LaneBatch
from memorycell.models.members import MAX_MEMBERS
from memorycell.state import State
from memorycell.streaming.stream import Stream

CONFIG = DetectorConfig(
    input_size=7, columns=2, sizes=(3,), window=3, hidden_size=5, members=3, dropout=0.0
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Detector(CONFIG).eval()
    for network in model.networks:
        torch.nn.init.normal_(network.head.recurrent.weight)
    return model


def separate(model):
    alone = []
    for k in range(3):
        prefix = f"others.{k - 1}." if k else ""
        single = Detector(replace(CONFIG, members=1)).eval()
        own = {n: model.state_dict()[prefix + n] for n in single.state_dict()}
        single.load_state_dict(own)
        alone.append(single)
    return alone


def test_moments_of_a_mixture_by_sampling():
    y = torch.tensor([[0.0, 0.0], [3.0, -0.5], [-1.0, 0.7]])  # mean and log scale of a column
    mean, log_scale = mean_rows(list(y), 1, ()).tolist()
    rng = np.random.default_rng(0)
    which = rng.integers(0, 3, 2_000_000)
    drawn = rng.standard_t(STUDENT_T_DF, len(which))
    samples = y[which, 0].numpy() + np.exp(y[which, 1].numpy()) * drawn
    assert mean == pytest.approx(samples.mean(), abs=0.01)
    variance = np.exp(2 * log_scale) * STUDENT_T_DF / (STUDENT_T_DF - 2)
    assert variance == pytest.approx(samples.var(), rel=0.02)


def test_outputs_are_those_of_the_mixture(model):
    x = torch.randn(1, 9, 7)
    with torch.no_grad():
        y, _ = model(x)
        own = [one(x)[0] for one in separate(model)]
    mean = torch.stack([one[..., :2] for one in own]).mean(0)
    p = torch.stack([one[..., 4:].exp() for one in own]).mean(0)
    torch.testing.assert_close(y[..., :2], mean)
    torch.testing.assert_close(y[..., 4:].exp(), p)
    assert (y[..., 2:4] > torch.stack([one[..., 2:4] for one in own]).amin(0)).all()
    stream = Stream(model)
    live = [stream.step(row) for row in x[0, :2].numpy()]
    live += list(stream.step(x[0, 2:].numpy()))
    np.testing.assert_allclose(np.stack(live), y[0], atol=1e-5)
    np.testing.assert_allclose(model.run(x[0].numpy()), y[0], atol=1e-5)


def test_the_loss_is_the_mean_of_the_members(model):
    x, target = torch.randn(4, 6, 7), torch.randn(4, 6, 3)
    target[..., 2] = torch.randint(0, 3, (4, 6))
    batch = LaneBatch(x, target, torch.zeros(4, 6, dtype=torch.bool), False)
    own = [one.loss(batch, None)[0].item() for one in separate(model)]
    assert model.loss(batch, None)[0].item() == pytest.approx(np.mean(own), rel=1e-5)


def test_the_state_of_the_most_members_is_saved_and_loaded():
    model = Detector(replace(CONFIG, num_layers=2, members=MAX_MEMBERS)).eval()
    state = model.initial_state()
    assert len(state.asdict()) > 64
    loaded, _ = State.from_bytes(state.to_bytes())
    assert loaded.asdict().keys() == state.asdict().keys()
