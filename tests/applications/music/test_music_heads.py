"""The distributions over the keys of a frame."""

import itertools

import numpy as np
import pytest
import torch

symusic = pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")


from memorycell.applications.music.head import Keys, Voices  # noqa: E402


@pytest.mark.parametrize("kind", [Voices, Keys])
def test_the_probabilities_of_all_frames_sum_to_one(kind):
    torch.manual_seed(0)
    keys, voices = 6, 3
    head = kind(5, keys, voices)
    frames = [
        f for f in itertools.product((0.0, 1.0), repeat=keys) if kind is Keys or sum(f) <= voices
    ]
    hidden = torch.randn(2, 1, 5)
    nats = head.nats(hidden.expand(2, len(frames), 5), torch.tensor(frames).expand(2, -1, -1))
    torch.testing.assert_close((-nats).exp().sum(1), torch.ones(2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Voices, Keys])
def test_sampled_frequencies_equal_the_likelihood(kind):
    torch.manual_seed(1)
    head = kind(5, 4, 4).eval()
    with torch.no_grad():
        head.linear.bias.fill_(0.0) if kind is Keys else head.outer.weight.mul_(3)
    hidden, generator = torch.randn(5), torch.Generator().manual_seed(0)
    every, none = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    with torch.no_grad():
        drawn = torch.stack(
            [
                head.sample(hidden, generator, temperature=1.0, allowed=every, fixed=none)
                for _ in range(4000)
            ]
        )
        at_once = head.sample_many(hidden, generator, 4000)
        for frame in itertools.product((False, True), repeat=4):
            wanted = torch.tensor(frame)
            p = float((-head.nats(hidden, wanted.float())).exp())
            assert float((drawn == wanted).all(1).float().mean()) == pytest.approx(p, abs=0.03)
            assert float((at_once == wanted).all(1).float().mean()) == pytest.approx(p, abs=0.03)


@pytest.mark.parametrize("kind", [Voices, Keys])
def test_sampled_frames_have_at_most_the_voices(kind):
    torch.manual_seed(1)
    head, generator = kind(5, 12, 3).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        if kind is Keys:
            head.linear.bias.fill_(1.0)
        sizes = head.sample_many(torch.randn(5), generator, 500).sum(1)
    assert int(sizes.max()) == 3


@pytest.mark.parametrize("kind", [Voices, Keys])
def test_fixed_keys_sound_and_excluded_keys_do_not(kind):
    torch.manual_seed(2)
    head, generator = kind(5, 12, 4), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for seed in range(200):
            rng = np.random.default_rng(seed)
            allowed = torch.from_numpy(rng.random(12) < 0.5)
            fixed = torch.zeros(12, dtype=torch.bool)
            fixed[torch.from_numpy(rng.choice(12, int(rng.integers(0, 5)), replace=False))] = True
            frame = head.sample(
                torch.randn(5), generator, temperature=2.0, allowed=allowed, fixed=fixed
            )
            assert bool((frame >= fixed).all())
            assert not bool((frame & ~allowed & ~fixed).any())
            assert int(frame.sum()) <= 4
