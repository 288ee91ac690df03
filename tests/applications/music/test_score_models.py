"""Scores: the codec, the distribution of the model, composing and statistics."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from score_data import HYMNS, hymn

pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.score.codec import ScoreCodec, fit_codec
from memorycell.applications.music.score.composing import Limits, _Piece, compose
from memorycell.applications.music.score.model import ScoreConfig, ScoreModel
from memorycell.applications.music.score.notation import (
    Metre,
    Score,
    ScoreNote,
)
from memorycell.applications.music.score.progress import Progress, header_of
from memorycell.applications.music.score.statistics import (
    describe,
    length_distance,
    share_of_parallels,
)


def fitted():
    codec = fit_codec(HYMNS[:30])
    torch.manual_seed(0)
    config = ScoreConfig(
        input_size=codec.input_size,
        pitches=codec.num_pitches,
        lengths=codec.num_lengths,
        hidden_size=12,
    )
    return codec, ScoreModel(config).eval()


def test_codec_round_trip():
    codec = ScoreCodec.from_json(json.loads(json.dumps(fitted()[0].to_json())))
    for score in HYMNS[:8]:
        blocks, ids = codec.encode(score)
        assert len(ids) == sum(map(len, score.voices))
        x = codec.inputs(blocks)
        assert x.shape == (len(ids), codec.input_size)
        assert (x.sum(1) >= len(codec.block_sizes) - 1).all()
        assert (x.sum(1) <= (blocks >= 0).sum(1)).all()
        progress = Progress(codec, header_of(score))
        voices = [[] for _ in score.voices]
        for length_id, _, pitch_id in ids:
            ticks, end = codec.lengths[length_id - 1]
            note = ScoreNote(codec.pitch(pitch_id, score.key[0]), ticks, bool(end))
            voices[progress.voice].append(note)
            progress.add(note)
        assert progress.done
        assert tuple(map(tuple, voices)) == score.voices


def test_inputs_hold_only_what_came_before():
    codec, _ = fitted()
    score = HYMNS[0]
    blocks, _ = codec.encode(score)
    last = score.voices[3][-1]
    changed = (*score.voices[:3], (*score.voices[3][:-1], last._replace(pitch=last.pitch + 12)))
    other, _ = codec.encode(Score(score.metre, score.key, score.pickup, changed))
    assert (other == blocks).all()  # the last note of all is in no input
    first = score.voices[0][0]
    changed = ((first._replace(pitch=first.pitch - 2), *score.voices[0][1:]), *score.voices[1:])
    other, _ = codec.encode(Score(score.metre, score.key, score.pickup, changed))
    assert (other[0] == blocks[0]).all()
    assert (other[1] != blocks[1]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"metres": []},
        {"metres": ["3/4", "3/4"]},
        {"metres": ["0/4", "4/4"]},
        {"lengths": []},
        {"lengths": [[0, 0]]},
        {"low": 5, "high": 2},
        {"ranges": []},
        {"ranges": [[60, 40]]},
        {"ranges": [[60, 4000]]},
        {"pickups": [0]},
        {"pickups": [0, 500]},
    ],
)
def test_damaged_codecs(wrong):
    data = fitted()[0].to_json() | wrong
    with pytest.raises(ValueError, match=r"codec of scores|metre|expected"):
        ScoreCodec.from_json(data)


def test_the_model_is_a_distribution_over_notes():
    codec, model = fitted()
    hidden = torch.randn(3, 12)
    notes = list(itertools.product(range(codec.num_lengths), range(codec.num_pitches)))
    for h, last in zip(hidden, (0, 1, 1), strict=True):
        ids = torch.tensor([(length, last, pitch) for length, pitch in notes])
        nats = model.head.nats(h.expand(len(ids), -1), ids).sum(-1)
        assert torch.isclose((-nats).exp().sum(), torch.tensor(1.0), atol=1e-5)


def test_what_progress_gives_to_the_model():
    codec, _ = fitted()
    progress = Progress(codec, header_of(HYMNS[0]))  # C major
    phrase_block = 6

    def add(*notes):
        for pitch, length, end in notes:
            progress.add(ScoreNote(pitch, length, end))

    add((64, 24, False), (60, 24, False), (55, 24, False), (48, 24, False))
    assert progress.parallels() == [-1] * 4
    assert progress.blocks()[phrase_block] == 2  # one quarter since the piece began
    add((64, 24, False), (62, 24, False), (55, 24, False))
    # The alto went from C4 to D4, an octave above C3; the fifth G3 of the tenor stayed.
    assert [codec.pitch(k, 0) for k in progress.parallels() if k >= 0] == [50]
    add((48, 24, False), (67, 24, True))
    # The highest voice ends its phrase, while the others are still in it.
    assert progress.blocks()[phrase_block] == 0
    add((62, 24, False), (57, 24, False))
    # The tenor went from G3 to A3 above C3: the bass would reach D3 in parallel fifths.
    assert [codec.pitch(k, 0) for k in progress.parallels() if k >= 0] == [50]
    add((50, 24, False))
    assert progress.blocks()[phrase_block] == 1


def test_pitches_depend_on_the_length_and_on_the_end():
    _, model = fitted()
    hidden, zero, one = torch.randn(12), torch.tensor(0), torch.tensor(1)
    with torch.inference_mode():
        first, longer, last = (
            model.head.pitch_scores(hidden, *ids)
            for ids in ((zero, zero), (one, zero), (zero, one))
        )
    assert (first - longer).abs().max() > 1e-3
    assert (first - last).abs().max() > 1e-3


@torch.inference_mode()
def test_a_fork_of_a_piece_changes_nothing():
    codec, model = fitted()
    piece = _Piece(model, codec, header_of(HYMNS[0]), (), Limits())
    piece.compose(96, np.random.default_rng(0), 1.0)
    before, state = piece.score(), piece._state.copy()
    other = piece.fork()
    other.compose(192, np.random.default_rng(1), 1.0)
    assert piece.score() == before
    assert (piece._state == state).all()
    assert (other._state != state).any()


def test_composing_keeps_what_was_asked():
    codec, model = fitted()
    header = header_of(hymn(0, key="Bb major", metre="3/4", bars=5))
    score = compose(model, codec, header, np.random.default_rng(1), temperature=1.0)
    assert (score.metre, score.key, score.pickup) == (Metre(3, 4), (10, "major"), 24)
    assert [sum(n.length for n in voice) for voice in score.voices] == [5 * 72] * 4
    for voice, (low, high) in zip(score.voices, codec.ranges, strict=True):
        assert all(n.pitch is None or low <= n.pitch <= high for n in voice)
    again = compose(model, codec, header, np.random.default_rng(1), temperature=1.0)
    assert again == score
    given = hymn(3, key="Bb major", metre="3/4", bars=5).voices[0]
    harmonised = compose(
        model, codec, header, np.random.default_rng(1), temperature=1.0, given=[given]
    )
    assert harmonised.voices[0] == given
    assert len(harmonised.voices) == 4


def test_parallels_are_excluded_where_training_has_none():
    codec, model = fitted()
    assert codec.parallels  # the chords of the hymns move together
    headers = [header_of(hymn(seed)) for seed in range(6)]
    strict = dataclasses.replace(codec, parallels=False)

    def parallels(own):
        rngs = [np.random.default_rng(k) for k in range(6)]
        return share_of_parallels(
            [compose(model, own, h, r, temperature=1.0) for h, r in zip(headers, rngs, strict=True)]
        )

    assert parallels(codec) > 0.003
    assert parallels(strict) == 0


def test_pieces_end_on_the_tonic_if_asked():
    codec, model = fitted()
    headers = [header_of(hymn(seed)) for seed in range(12)]

    def share(limits):
        scores = [
            compose(model, codec, header, np.random.default_rng(k), limits=limits)
            for k, header in enumerate(headers)
        ]
        return describe(scores, codec.ranges)["tonic_endings"]

    assert share(Limits(ending=False)) < 0.4  # an untrained model ends anywhere
    assert share(Limits()) > share(Limits(ending=False))


def test_statistics():
    ranges = [(60, 71), (48, 70), (40, 60), (36, 59)]
    good = describe(HYMNS, ranges)
    assert good["tonic_endings"] == 1.0
    assert good["out_of_scale"] == 0.0
    high = [
        Score(
            s.metre,
            s.key,
            s.pickup,
            tuple(tuple(n._replace(pitch=n.pitch + 1) for n in v) for v in s.voices),
        )
        for s in HYMNS
    ]
    assert describe(high, ranges)["tonic_endings"] == 0.0
    assert describe(high, ranges)["out_of_scale"] > 0.3

    def two(*pitches):
        voices = zip(*pitches, strict=True)
        return Score(
            Metre(4, 4), (0, "major"), 0, tuple(tuple(ScoreNote(p, 24) for p in v) for v in voices)
        )

    fifths = describe([two((67, 60), (69, 62), (71, 64), (67, 66), (64, 69))], ranges[:2])
    assert fifths["parallels"] == 0.5  # two of four moves
    assert fifths["crossings"] == 0.2
    assert describe([two((67, 60), (74, 55))], ranges[:2])["parallels"] == 0.0  # contrary motion
    assert fifths["out_of_scale"] == 0.1
    assert fifths["out_of_range"] == 0.0
    assert length_distance(HYMNS[:3], HYMNS[:3]) == 0.0
    assert length_distance([two((60, 48))], [two((60, 48), (62, 50))]) == 0.0
    assert (
        length_distance(HYMNS[:1], [Score(Metre(4, 4), (0, "major"), 0, ((ScoreNote(60, 96),),))])
        == 1.0
    )
