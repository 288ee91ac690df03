"""Single rows of one session, with few numpy calls, against complete sequences in PyTorch."""

import numpy as np
import pytest
import torch

from memorycell.applications.sequences.convolution_step import ConvolutionStep
from memorycell.applications.sequences.convolutions import ConvolutionBranch
from memorycell.applications.sequences.mixture_fitting import draw
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.model_config import SequenceModelConfig
from memorycell.streaming.stream import Stream


def random_norms(module):
    with torch.no_grad():
        for norm in module.norms:
            norm.mean.normal_()
            norm.variance.uniform_(0.5, 2)
            norm.gain.uniform_(0.5, 2)
            norm.bias.normal_()


@pytest.mark.parametrize(("row_size", "channels"), [(1, 4), (3, 5), (7, 2)])
@torch.no_grad()
def test_rows_one_by_one_are_the_sequence(row_size, channels):
    torch.manual_seed(0)
    branch = ConvolutionBranch(1, row_size, channels).eval()
    random_norms(branch.convolutions)
    rows = torch.randn(60, row_size)
    wanted, _ = branch.steps(rows[None], torch.zeros(1, branch.state_size))
    step = ConvolutionStep(branch)
    state = np.zeros(branch.state_size, np.float32)
    for t, row in enumerate(rows.numpy()):
        after = np.full_like(state, np.nan)
        features = step.one(state, row, after)
        np.testing.assert_allclose(features, wanted[0, t], rtol=1e-4, atol=1e-5)
        _, kept = branch.steps(rows[None, : t + 1], torch.zeros(1, branch.state_size))
        np.testing.assert_allclose(after, kept[0], rtol=1e-4, atol=1e-5)
        several, states = step(np.stack([state * 0, state]), np.stack([row * 2, row]))
        np.testing.assert_array_equal(several[1], features)
        np.testing.assert_array_equal(states[1], after)
        step.one(state, row, state)  # in place
        np.testing.assert_array_equal(state, after)


@pytest.mark.parametrize("pooling", ["attention", "mean", "last", "max"])
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize(("members", "patch"), [(1, 1), (1, 2), (2, 1)])
@torch.no_grad()
def test_a_stream_is_the_complete_sequence(pooling, mix, members, patch):
    torch.manual_seed(1)
    config = SequenceModelConfig(
        target="class",
        input_size=3 * patch,
        row_size=3,
        patch=patch,
        outputs=4,
        hidden_size=6,
        channels=5,
        encoder="conv",
        pooling=pooling,
        members=members,
    )
    model = SequenceModel(config).eval()
    for member in model.networks:
        random_norms(member.branch.convolutions)
    model.temperature.fill_(0.7)
    if mix:
        inputs = [np.random.default_rng(k).normal(size=(30, 3 * patch)) for k in range(3)]
        random = draw(
            [x.astype(np.float32) for x in inputs], patch=patch, row_size=3, classes=4, seed=0
        )
        random.share.fill_(0.4)
        random.prior.fill_(3)
        random.expected.uniform_(0, 3)
        random.weight.normal_(std=0.1)
        random.bias.normal_()
        model.mix(random)
    x = torch.randn(50, 3 * patch)
    wanted = model(x[None])[0][0].softmax(-1)
    for history in (0, 3):
        stream = Stream(model, history=history)
        for t in range(len(x)):
            y = torch.from_numpy(np.array(stream.step(x[t].numpy())))
            np.testing.assert_allclose(y.softmax(-1), wanted[t], rtol=1e-3, atol=1e-5)
        again = Stream(model, history=history).step(x.numpy())
        np.testing.assert_allclose(
            torch.from_numpy(np.array(again)).softmax(-1), wanted, rtol=1e-3, atol=1e-5
        )
