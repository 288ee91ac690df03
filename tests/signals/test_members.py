"""Several classifiers as one model: the mean of their distributions, complete and live."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import UserError
from memorycell.models.batches import PaddedBatch
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.models.members import join_states, split_state
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

CONFIG = ClassifierConfig(
    vocabulary=9, input_size=5, classes=4, hidden_size=6, num_layers=2, bidirectional=False
)


def model_with(members: int, **more) -> Classifier:
    torch.manual_seed(members)
    model = Classifier(replace(CONFIG, members=members, **more)).eval()
    for network in model.networks:
        torch.nn.init.normal_(network.head.linear.weight)
        if network.pairs is not None:
            torch.nn.init.normal_(network.pairs.single.weight)
    model.head.temperature.fill_(1.7)
    return model


def separate(model: Classifier) -> list[Classifier]:
    """Each member as a model of its own, by the names in the state."""
    weights = model.state_dict()
    alone = []
    for k in range(model.config.members):
        prefix = f"others.{k - 1}." if k else ""
        own = {n[len(prefix) :]: v for n, v in weights.items() if n.startswith(prefix)}
        single = Classifier(replace(model.config, members=1)).eval()
        single.load_state_dict({n: v for n, v in own.items() if not n.startswith("others")})
        single.head.temperature.fill_(1.0)
        alone.append(single)
    return alone


def averaged(model: Classifier, tokens: torch.Tensor) -> np.ndarray:
    """softmax(log(mean p) / temperature), from the members alone."""
    p = [m.classify(tokens, torch.tensor([tokens.shape[1]])).exp() for m in separate(model)]
    powers = torch.stack(p).mean(0) ** (1 / 1.7)
    return (powers / powers.sum(-1, keepdim=True))[0].detach().numpy()


@pytest.mark.parametrize("pooling", ["attention", "max", "last"])
@pytest.mark.parametrize("pairs", [False, True])
def test_the_mean_of_the_members_at_every_step(pooling, pairs):
    model = model_with(3, pooling=pooling, pairs=pairs)
    tokens = torch.randint(0, 9, (1, 7))
    expected = np.stack([averaged(model, tokens[:, : t + 1]) for t in range(7)])
    assert np.abs(expected[:, None] - [averaged(m, tokens) for m in separate(model)]).max() > 0.01
    with torch.no_grad():
        complete = model.classify(tokens, torch.tensor([7])).exp()[0]
        chunked, state = model(tokens[:, :3])
        rest, _ = model(tokens[:, 3:], state)
    np.testing.assert_allclose(complete, expected[-1], atol=1e-5)
    np.testing.assert_allclose(torch.cat([chunked, rest], 1).exp()[0], expected, atol=1e-5)
    x = tokens[0, :, None].numpy().astype(np.float32)
    for history in (0, 4):
        stream = Stream(model, history=history)
        single = [stream.step(row) for row in x[:2]]
        steps = np.exp(np.concatenate([single, stream.step(x[2:])]))
        np.testing.assert_allclose(steps, expected, atol=1e-5)
    stream.rewind(2)
    np.testing.assert_allclose(np.exp(stream.step(x[5])), expected[5], atol=1e-5)


def test_a_pool_steps_members_as_a_stream_does():
    model = model_with(2)
    pool, x = Pool(model), np.array([[1], [4], [7]], np.float32)
    names = pool.open_many(3)
    first, second = pool.step(names, x), pool.step(names[1:], x[:2])
    for k in range(3):
        stream = Stream(model)
        np.testing.assert_allclose(first[k], stream.step(x[k]), atol=1e-6)
        if k:
            np.testing.assert_allclose(second[k - 1], stream.step(x[k - 1]), atol=1e-6)


def test_states_are_joined_and_split():
    state = model_with(3, pairs=True).initial_state(2)
    parts = split_state(state, 3)
    assert [list(part.asdict()) for part in parts] == [["h", "c", "pooled", "pairs"]] * 3
    joined = join_states(parts).asdict()
    assert list(joined) == list(state.asdict())
    assert list(joined)[4:6] == ["h_2", "c_2"]


def test_the_loss_is_the_mean_of_the_members():
    model = model_with(3, dropout=0.0)
    model.head.temperature.fill_(1.0)
    batch = PaddedBatch(torch.randint(0, 9, (5, 6)), torch.full((5,), 6), torch.arange(5) % 4)
    own = [m.loss(batch, None)[0].item() for m in separate(model)]
    assert model.loss(batch, None)[0].item() == pytest.approx(np.mean(own), abs=1e-5)
    model.loss(batch, None)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_transcripts_have_one_network():
    with pytest.raises(UserError, match="members=2: only for classes.*use members=1"):
        SpeechSettings(members=2).model_config(3, 4, classes=False)
    with pytest.raises(ValueError, match="members: expected a whole number from 1 to 32, got 0"):
        SpeechSettings(members=0)
