"""The speech dataset: splits, what is left out, and what is fitted on training data."""

import numpy as np
import pytest
from signal_data import RATE, SMALL_SPEECH, chirp, letter_tones, sf

from memorycell.application import modelfile
from memorycell.application.contract import ModelFile
from memorycell.applications.speech.codec import MIN_LEVEL, relative_to_level
from memorycell.applications.speech.dataset import prepare, reopen
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import DataError


def labels(dataset, split: str) -> set[str]:
    return {example.label for example in dataset.splits[split]}


def fields(dataset, split: str, name: str) -> set[str]:
    return {example.fields[name] for example in dataset.splits[split]}


def test_splits_by_the_parts_of_names(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("up", "down"):
        for who in ("ann", "bob", "cyd"):
            for k in range(8):
                sf.write(tmp_path / f"{kind}_{who}_{k}.wav", chirp(kind, rng), RATE)
    sf.write(tmp_path / "other.wav", chirp("up", rng), RATE)
    settings = {**SMALL_SPEECH, "names": "{label}_{group}_{index}"}
    dataset = prepare(
        str(tmp_path), SpeechSettings(**settings, held_out="group=bob", checked="index<2")
    )
    assert fields(dataset, "test", "group") == {"bob"}
    assert len(dataset.splits["test"]) == 16
    assert fields(dataset, "valid", "index") == {"0", "1"}
    assert len(dataset.splits["train"]) == 24
    assert any("1 of 49 files left out: name does not match" in note for note in dataset.notes)
    with pytest.raises(DataError, match="cannot evaluate age>3; its fields"):
        prepare(str(tmp_path), SpeechSettings(**settings, held_out="age>3"))


def test_invalid_recordings_are_left_out_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("up", "down"):
        (tmp_path / kind).mkdir()
        for k in range(40):
            sf.write(tmp_path / kind / f"{k}.wav", chirp(kind, rng), RATE)
    (tmp_path / "up" / "broken.wav").write_text("no")
    sf.write(tmp_path / "up" / "silent.wav", np.zeros(4000), RATE)
    sf.write(tmp_path / "up" / "empty.wav", np.zeros(0), RATE)
    sf.write(tmp_path / "up" / "stereo.wav", np.stack([chirp("up", rng)] * 2, 1), RATE)
    sf.write(tmp_path / "up" / "clipped.wav", np.clip(50 * chirp("up", rng), -1, 1), RATE)
    sf.write(tmp_path / "up" / "high.wav", chirp("up", rng, rate=16000), 16000)
    sf.write(tmp_path / "up" / "short.wav", chirp("up", rng)[:100], RATE)
    sf.write(tmp_path / "up" / "long.wav", np.tile(chirp("up", rng), 150), RATE)
    dataset = prepare(str(tmp_path), SpeechSettings(**SMALL_SPEECH))
    notes = "\n".join(dataset.notes)
    for note in (
        "2 of 88 recordings left out: unreadable; the first: ",
        "1 recording: stereo, averaged",
        "1 recording: clipped",
        "1 of 88 recordings left out: silent",
        "1 of 88 recordings left out: longer than 40 s",
        "1 of 84 examples left out: too short for their label",
    ):
        assert note in notes
    assert sum(len(split) for split in dataset.splits.values()) == 83
    assert dataset.codec.rate_hz == RATE
    (tmp_path / "only" / "a").mkdir(parents=True)
    (tmp_path / "only" / "a" / "x.wav").write_text("no")
    with pytest.raises(DataError, match="none of the 1 recordings can be read"):
        prepare(str(tmp_path / "only"), SpeechSettings(**SMALL_SPEECH))


def test_utterances_are_parts_of_recordings_elsewhere(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    sounds = [chirp("up" if k % 2 else "down", rng) for k in range(120)]
    ends = np.cumsum([len(sound) for sound in sounds]) / RATE
    sf.write(tmp_path / "long.wav", np.concatenate(sounds), RATE, subtype="FLOAT")
    starts = [0.0, *ends[:-1]]
    lists = {
        "wav.scp": "long ../long.wav\n",
        "text": "".join(f"u{k:03} {('down', 'up')[k % 2]}\n" for k in range(120)),
        "segments": "".join(f"u{k:03} long {starts[k]:.6f} {ends[k]:.6f}\n" for k in range(120)),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    dataset = prepare(str(folder), SpeechSettings(**SMALL_SPEECH, head="classes"))
    examples = [e for part in dataset.splits.values() for e in part]
    assert len({e.name for e in examples}) == 120
    for example in examples:
        k = int(example.fields["utterance"][1:])
        np.testing.assert_allclose(example.raw.samples, sounds[k], atol=1e-6)
        assert example.label == ("down", "up")[k % 2]


def test_transcripts_longer_than_their_sound_are_left_out(tmp_path):
    """Two recordings of every transcript: both are in the same split."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(160):
        suffix = f"{'abcd'[k % 4]}{'abcd'[k // 4 % 4]}{'abcd'[k // 16 % 4]}"
        text = " ".join([*rng.choice(["ab", "cab", "dab", "add"], 3), suffix])
        for name in (f"{k}", f"again{k}"):
            sf.write(tmp_path / f"{name}.wav", letter_tones(text, rng), RATE)
            rows.append(f"{name}: {text}")
    sf.write(tmp_path / "x.wav", letter_tones("a", rng)[:1600], RATE)
    rows.append("x: " + "abcd " * 30)
    rows.append("0b: [a tone]")
    sf.write(tmp_path / "0b.wav", chirp("up", rng), RATE)
    (tmp_path / "transcripts.txt").write_text("\n".join(rows))
    dataset = prepare(str(tmp_path), SpeechSettings(**SMALL_SPEECH))
    notes = "\n".join(dataset.notes)
    assert "1 of 321 examples left out: too short for their label (the first: x.wav)" in notes
    assert "1 of 322 recordings left out: no words" in notes
    assert not labels(dataset, "train") & labels(dataset, "test")


def test_lexicon_and_scaling_are_fitted_on_the_training_split(spellings):
    dataset = prepare(str(spellings), SpeechSettings(**SMALL_SPEECH))
    assert set(dataset.codec.sentences) == labels(dataset, "train")
    sounds = [e.raw.samples for e in dataset.splits["train"]]
    frames = [relative_to_level(dataset.codec.frames(s), MIN_LEVEL)[0] for s in sounds]
    mean = np.concatenate(frames).mean(0)
    assert dataset.codec.mean == pytest.approx(mean.tolist(), rel=1e-4)


def test_evaluation_on_other_data(chirp_model, tmp_path):
    rng = np.random.default_rng(7)
    for kind in ("up", "down", "bell"):
        (tmp_path / kind).mkdir()
        for k in range(4):
            samples = chirp("up" if kind == "bell" else kind, rng, rate=16000)
            sf.write(tmp_path / kind / f"{k}.wav", samples, 16000)
    file = modelfile.load(chirp_model[1])
    dataset = reopen(str(tmp_path), file)
    assert labels(dataset, "test") == {"up", "down"}
    assert len(dataset.splits["test"]) == 8
    assert dataset.evaluate(file.model, "test")["accuracy"] >= 0.75
    assert "nearest (dtw)" in dataset.baselines("test")


def test_yes_no_settings_of_earlier_files(chirp_model):
    file = modelfile.load(chirp_model[1])
    assert file.typed_settings(SpeechSettings).whole is False
    for text, value in (("yes", True), ("no", False)):
        info = {**file.info, "settings": {**file.info["settings"], "whole": text}}
        settings = ModelFile(file.model, file.codec, info).typed_settings(SpeechSettings)
        assert settings.whole is value


@pytest.mark.data
def test_free_spoken_digits(public_data):
    dataset = prepare("free-spoken-digits", SpeechSettings())
    assert fields(dataset, "test", "index") == {"0", "1", "2", "3", "4"}
    assert len(dataset.splits["test"]) == 300
    assert len(dataset.codec.labels) == 10
    assert len(fields(dataset, "train", "group")) == 6


@pytest.mark.data
def test_asterisk(public_data):
    dataset = prepare("asterisk-en", SpeechSettings())
    assert dataset.codec.text is not None
    assert any("no words" in note for note in dataset.notes)
    assert not labels(dataset, "train") & labels(dataset, "test")
