"""Music: heads as distributions, training, composition, sessions, events."""

import json
import wave

import numpy as np
import pytest
import torch

symusic = pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from tunes import CHORDS, MUSIC, SMALL, tune  # noqa: E402

from memorycell.application import modelfile  # noqa: E402
from memorycell.application.train_settings import TrainSettings  # noqa: E402
from memorycell.applications.music import midi, pitches  # noqa: E402
from memorycell.applications.music.baselines import FirstOrder, KeyFrequency  # noqa: E402
from memorycell.applications.music.codec import MusicCodec  # noqa: E402
from memorycell.applications.music.dataset import prepare, reopen  # noqa: E402
from memorycell.applications.music.events import (  # noqa: E402
    EventCodec,
    fit_events,
    transpose_events,
)
from memorycell.applications.music.model import Composer, ComposerConfig  # noqa: E402
from memorycell.applications.music.notes import Notes  # noqa: E402
from memorycell.applications.music.pieces import (  # noqa: E402
    piece_from_pitches,
)
from memorycell.applications.music.pitches import (  # noqa: E402
    LOWEST_PITCH,
    NUM_KEYS,
    pitch_name,
)
from memorycell.applications.music.predict import PredictOptions, predict  # noqa: E402
from memorycell.applications.music.reading import read_piece  # noqa: E402
from memorycell.applications.music.session import MusicSession  # noqa: E402
from memorycell.applications.music.settings import MusicSettings  # noqa: E402
from memorycell.errors import DataError, StateError, UserError  # noqa: E402
from memorycell.training import loop as training  # noqa: E402


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    path = tmp_path_factory.mktemp("tunes") / "tunes.json"
    split = {"train": range(40), "valid": range(40, 48), "test": range(48, 56)}
    path.write_text(json.dumps({name: [tune(k) for k in seeds] for name, seeds in split.items()}))
    return path


@pytest.fixture(scope="module", params=["voices", "keys"])
def composed(request, tunes, tmp_path_factory):
    """(result, path) of a small composer of each view."""
    out = tmp_path_factory.mktemp("composed") / "m.safetensors"
    settings = MusicSettings(**SMALL, view=request.param)
    return (
        training.train(
            MUSIC, str(tunes), settings, TrainSettings(epochs=40, lr=0.02, average=0.9), out
        ),
        out,
    )


def test_learns_the_order_of_the_chords(composed, tunes):
    result, path = composed
    least = {"voices": 0.8, "keys": 1.0}[
        modelfile.load(path).model.config.view
    ]  # keys alone know no chords
    assert result["metrics"]["nats"] < least * result["baselines"]["first order"]["nats"]
    file = modelfile.load(path)
    again = training.evaluate(MUSIC, file, path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    # The same by single steps of the model.
    dataset = reopen(None, file)
    total = 0.0
    for piece in dataset.pieces["test"]:
        state, frame = None, torch.zeros(1, 1, NUM_KEYS)
        for row in piece:
            hidden, state = file.model(frame, state)
            frame = torch.from_numpy(row.astype(np.float32))[None, None]
            total += float(file.model.head.nats(hidden, frame).detach().sum())
    assert result["metrics"]["nats"] == pytest.approx(
        total / sum(map(len, dataset.pieces["test"])), rel=1e-4
    )


def test_composition_is_seeded_and_in_style(composed):
    file = modelfile.load(composed[1])
    a, b = (predict(file, None, PredictOptions(bars=4, seed=3)) for _ in range(2))
    assert a == b
    assert a != predict(file, None, PredictOptions(bars=4, seed=4))
    assert len(a["frames"]) == 16
    known = {tuple(c) for c in CHORDS} | {tuple(c[1:]) for c in CHORDS}
    cold = predict(file, None, PredictOptions(bars=6, temperature=0.3))
    least = {"voices": 0.8, "keys": 0.3}[file.model.config.view]
    assert np.mean([tuple(f) in known for f in cold["frames"]]) > least


def test_continuation_and_harmonisation(composed, tmp_path):
    file = modelfile.load(composed[1])
    begin = piece_from_pitches([CHORDS[0], CHORDS[0], CHORDS[1]], "t")
    (tmp_path / "b.mid").write_bytes(midi.to_midi(begin, 1, 90))
    record = predict(file, str(tmp_path / "b.mid"), PredictOptions(bars=2))
    assert record["frames"][:3] == [CHORDS[0], CHORDS[0], CHORDS[1]]
    assert len(record["frames"]) == 3 + 8
    assert (
        len(predict(file, str(tmp_path / "b.mid"), PredictOptions(bars=1, begin=2))["frames"])
        == 2 + 4
    )
    melody = [c[-1] for c in CHORDS * 3]
    (tmp_path / "m.mid").write_bytes(
        midi.to_midi(piece_from_pitches([[p] for p in melody], "t"), 1, 90)
    )
    record = predict(
        file, str(tmp_path / "m.mid"), PredictOptions(how="harmonise", temperature=0.3)
    )
    assert [max(f) for f in record["frames"]] == melody
    assert np.mean([len(f) > 2 for f in record["frames"]]) > 0.7
    full = piece_from_pitches([[*c[:-1], 80, 84, 88][:6] for c in CHORDS], "t")
    (tmp_path / "f.mid").write_bytes(midi.to_midi(full, 1, 90))
    voices = file.codec.voices
    with pytest.raises(DataError, match=f"{voices} keys at once everywhere.*--set top=1"):
        predict(file, str(tmp_path / "f.mid"), PredictOptions(how="harmonise", lossy=True))
    record = predict(file, str(tmp_path / "f.mid"), PredictOptions(how="harmonise", top=1))
    assert [max(f) for f in record["frames"]] == [88] * 4
    assert "20 of 24 keys left out: below the highest" in record["notes"]
    with pytest.raises(DataError, match="of 24 notes would be left out .more than 4 keys"):
        predict(file, str(tmp_path / "f.mid"), PredictOptions())
    kept = predict(file, None, PredictOptions(bars=8, temperature=5.0, key="E minor"))
    allowed = pitches.scale_mask((4, "minor"))
    assert all(allowed[p - LOWEST_PITCH] for f in kept["frames"] for p in f)
    with pytest.raises(DataError, match="no melody given"):
        predict(file, None, PredictOptions(how="harmonise"))
    with pytest.raises(ValueError, match="expected keep, any, or a key"):
        PredictOptions(key="H dur")


@pytest.mark.parametrize(
    "wrong",
    [
        {"bars": 0},
        {"bars": 10**9},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": 1e-320},
        {"tempo": float("nan")},
        {"tempo": 5.0},
        {"seed": -1},
        {"seed": 2**64},
        {"begin": 0},
        {"top": 0},
        {"how": "sing"},
        {"key": "H dur"},
        {"key": "\x1b[2J major"},
    ],
)
def test_options_are_range_checked(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}|is not a note") as caught:
        PredictOptions(**wrong)
    assert str(caught.value).isprintable()


def test_session_equals_full_sequence_and_restores(composed, tmp_path):
    file = modelfile.load(composed[1])
    piece = piece_from_pitches(tune(99)[:12], "t")
    x = torch.from_numpy(np.concatenate([np.zeros((1, NUM_KEYS)), piece[:-1]]).astype(np.float32))[
        None
    ]
    nats = file.model.head.nats(file.model(x)[0], torch.from_numpy(piece.astype(np.float32))[None])[
        0
    ]
    session, answers = MusicSession(file), []
    for t, frame in enumerate(piece):
        if t == 6:
            state = session.snapshot()
            session = MusicSession(file)
            session.restore(state)
        keys = " ".join(pitch_name(k + LOWEST_PITCH) for k in np.flatnonzero(frame))
        answers += session.feed(keys)
    np.testing.assert_allclose([a["nats"] for a in answers], nats.detach().numpy(), atol=2e-3)
    assert answers[-1]["next"][0]["p"] > 0.5
    assert session.feed("-")[0]["heard"] == []
    for line, wrong in enumerate(("C4 X", "200", "C4 D4 E4 F4 G4 A4 B4", {"key": "C4"}), 8):
        with pytest.raises(DataError, match=f"stdin, line {line}: "):
            session.feed(wrong)
    with pytest.raises(StateError):
        session.restore(composed[1].read_bytes())
    state, size = session._stream, len(session._hidden)
    before = session.next_keys()
    for hidden in (None, [], "x", [0.0] * (size - 1), ["0"] * size, [True] * size, [1e300] * size):
        with pytest.raises(StateError, match="not the state of a music session"):
            session.restore(state.snapshot(hidden=hidden))
    for extra in ({}, {"hidden": [0.0] * size, "more": 1}):
        with pytest.raises(StateError, match="not the state of a music session"):
            session.restore(state.snapshot(**extra))
    assert session.next_keys() == before
    assert session.close() == []


def test_the_command_line(composed, tunes, memorycell, tmp_path):
    path = composed[1]
    status, out, _ = memorycell("predict", path, "--set", "bars=2", "--out", tmp_path / "t.mid")
    assert (status, "to save" in out) == (0, False)
    status, out, _ = memorycell(
        "predict", path, "--set", "bars=2", "--out", tmp_path / "t.mid", "--json"
    )
    assert status == 0
    frames = json.loads(out)["frames"]
    assert read_piece(tmp_path / "t.mid", 1).sum() == sum(
        map(len, piece_from_pitches(frames, "t").nonzero()[:1])
    )
    assert memorycell("predict", path, tmp_path / "t.mid", "--out", tmp_path / "t.json")[0] == 0
    assert memorycell("prove", path, "--json")[0] == 0
    assert memorycell("inspect", path, tmp_path / "t.mid", "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("inspect", path, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("evaluate", path, tunes, "--report", tmp_path / "e.html")[0] == 0
    pytest.importorskip("pretty_midi")
    assert memorycell("predict", path, "--set", "bars=1", "--out", tmp_path / "t.wav")[0] == 0
    with wave.open(str(tmp_path / "t.wav")) as file:
        assert file.getnframes() / file.getframerate() > 2.5
        assert np.abs(np.frombuffer(file.readframes(10**6), "<i2")).max() > 1000
    wrong = (
        ("predict", path, tmp_path / "gone.mid"),
        ("predict", path, "--out", tmp_path / "t.doc"),
        ("predict", path, "--set", "bars=0"),
    )
    for words in wrong:
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words


def test_baselines():
    pieces = [piece_from_pitches(tune(k), "t") for k in range(12)]
    frequency = KeyFrequency(pieces[:8])
    frames = np.concatenate(pieces[:8])
    p = (frames.sum(0) + 1) / (len(frames) + 2)
    by_hand = -np.log(np.where(pieces[9], p, 1 - p)).sum(1)
    np.testing.assert_allclose(frequency.nats(pieces[9]), by_hand, rtol=1e-6)
    first = FirstOrder(pieces[:8], pieces[8:10])
    assert first.nats(pieces[10]).mean() < 0.8 * frequency.nats(pieces[10]).mean()
    # Another fit of one key, by scikit-learn without a penalty to speak of: no better on what it
    # was fitted to.
    linear = pytest.importorskip("sklearn.linear_model")
    past = np.concatenate([np.concatenate([np.zeros((1, NUM_KEYS)), q[:-1]]) for q in pieces[:8]])
    key = 48 - LOWEST_PITCH
    other = linear.LogisticRegression(C=1e3, max_iter=2000).fit(past, frames[:, key])
    theirs = -other.predict_log_proba(past)[np.arange(len(past)), frames[:, key].astype(int)].mean()
    scores = past @ first._weight[key] + first._bias[key]
    ours = np.log1p(np.exp(-np.where(frames[:, key], scores, -scores))).mean()
    assert ours < 1.3 * theirs + 0.02


def test_invalid_codecs_and_configs():
    assert MusicCodec.from_json(MusicCodec(4, 5).to_json()) == MusicCodec(4, 5)
    for wrong, message in (
        ({"frames": 5, "voices": 4}, "not a codec of music"),
        ({"frames": 1, "voices": 0}, "not a codec of music"),
        ({"frames": True, "voices": 4}, "int"),
        ({"frames": "1", "voices": 4}, "int"),
        ({"frames": 1.5, "voices": 4}, "int"),
        ({"frames": 1}, "voices"),
        ({"frames": 1, "voices": 4, "more": 1}, "more"),
        ([1, 4], "expected an object"),
    ):
        with pytest.raises(ValueError, match=message):
            MusicCodec.from_json(wrong)
    with pytest.raises(ValueError, match="view"):
        ComposerConfig(hidden_size=4, view="both")
    with pytest.raises(UserError):
        predict(
            modelfile.ModelFile(Composer(ComposerConfig(hidden_size=4)), None, {}),
            None,
            PredictOptions(),
        )


@pytest.fixture(scope="module")
def event_model(tunes, tmp_path_factory):
    """(result, path) of a small model of events."""
    out = tmp_path_factory.mktemp("events") / "e.safetensors"
    settings = MusicSettings(**SMALL, view="events", lanes=4, bptt=32)
    return (
        training.train(
            MUSIC, str(tunes), settings, TrainSettings(epochs=12, lr=0.02, average=0.9), out
        ),
        out,
    )


def test_events_round_trip(tunes):
    for frames in (1, 4):
        piece = piece_from_pitches(tune(5), "t")
        score = midi.piece_to_score(piece, frames, 100)
        codec = fit_events([score], frames)
        tokens = codec.encode(score)
        assert min(tokens) >= 2
        np.testing.assert_array_equal(Notes.of_score(codec.decode(tokens)).piece(frames), piece)
        assert EventCodec.from_json(codec.to_json()) == codec
    both = fit_events([midi.piece_to_score(np.roll(piece, k, 1), 4, 100) for k in (0, 2)], 4)
    moved = transpose_events(np.array(both.encode(score)), both, 2)
    np.testing.assert_array_equal(
        Notes.of_score(both.decode(moved.tolist())).piece(4), np.roll(piece, 2, 1)
    )
    np.testing.assert_array_equal(
        transpose_events(moved, both, 40), moved
    )  # such pitches were never seen
    names = both.to_json()["names"]
    for wrong in (
        {"frames": 5},
        {"names": [*names, "Pitch_9000"]},
        {"names": []},
        {"names": [*names, names[-1]]},
        {"names": [name for name in names if name != "Bar_None"]},
    ):
        with pytest.raises(ValueError, match="not a codec of events"):
            EventCodec.from_json({**both.to_json(), **wrong})
    for wrong in ({"frames": "4"}, {"names": "Bar_None"}, {"names": [*names, 5]}, {"more": 1}):
        with pytest.raises(ValueError, match="Expected|unknown field"):
            EventCodec.from_json({**both.to_json(), **wrong})


def test_model_of_events(event_model, tmp_path, memorycell):
    result, path = event_model
    assert result["metrics"]["nats"] < 1.1 * min(b["nats"] for b in result["baselines"].values())
    file = modelfile.load(path)
    again = training.evaluate(MUSIC, file, path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    a, b = (predict(file, None, PredictOptions(bars=4, seed=1)) for _ in range(2))
    assert a == b
    assert a["events"].count("Bar_None") <= 4
    known = {p for c in CHORDS for p in c}
    assert {p for f in a["frames"] for p in f} <= known
    begin = piece_from_pitches([CHORDS[0]] * 4, "t")
    (tmp_path / "b.mid").write_bytes(midi.to_midi(begin, 1, 90))
    longer = predict(file, str(tmp_path / "b.mid"), PredictOptions(bars=2))
    assert longer["frames"][0] == CHORDS[0]
    assert len(longer["frames"]) > 4
    assert memorycell("predict", path, "--set", "bars=2", "--out", tmp_path / "t.mid")[0] == 0
    assert memorycell("prove", path)[0] == 0
    dataset = reopen(None, file)
    exact, lower = (dataset.evaluate(file.model, "test", p)["nats"] for p in ("float32", "int8"))
    assert exact != lower == pytest.approx(exact, rel=0.1)
    for words in (
        ("stream", path),
        ("predict", path, tmp_path / "b.mid", "--set", "how=harmonise"),
    ):
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words
    assert memorycell("inspect", path, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("inspect", path, tmp_path / "b.mid", "--out", tmp_path / "i.html")[0] == 0


@pytest.mark.data
def test_the_chorales(public_data):
    dataset = prepare("jsb", MusicSettings())
    assert {split: len(part) for split, part in dataset.pieces.items()} == {
        "train": 229,
        "valid": 76,
        "test": 77,
    }
    assert (dataset.codec.voices, dataset.codec.frames) == (4, 1)
    assert prepare("jsb-16th", MusicSettings()).codec.frames == 4
