"""The speech task: classes and text, live as whole, sound that comes in bytes, files that are
wrong.
"""

import io
import json
import sys

import numpy as np
import pytest
import torch
from signal_data import RATE, chirp, sf, spelled

import memorycell
from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.applications.speech.audio import AudioCodec, Sound, read_audio
from memorycell.applications.speech.dataset import SPEECH, SpeechSettings, prepare, reopen
from memorycell.applications.speech.live import Hearing, LiveSpeech, Microphone, predict
from memorycell.errors import DataError, StateError, UserError
from memorycell.signals import ctc
from memorycell.signals.dataset import Rule
from memorycell.signals.recognise import recognise
from memorycell.signals.recordings import find_recordings
from memorycell.training import loop as training

HOW = TrainSettings(epochs=12, lr=0.01, average=0.9)
SMALL = {
    "hidden": 24,
    "layers": 1,
    "dropout": 0.0,
    "budget": 400,
    "bins": 23,
    "noise": 0.0,
    "share": 0.0,
    "bands": 2,
}


@pytest.fixture(scope="module")
def heard(chirps, tmp_path_factory):
    """(result, path) of a classifier of chirps."""
    out = tmp_path_factory.mktemp("heard") / "c.safetensors"
    return training.train(SPEECH, str(chirps), SpeechSettings(**SMALL, speed=0.02), HOW, out), out


@pytest.fixture(scope="module")
def spelt(spellings, tmp_path_factory):
    """(result, path) of a transcriber of spellings."""
    out = tmp_path_factory.mktemp("spelt") / "t.safetensors"
    settings = SpeechSettings(**{**SMALL, "hidden": 40}, speed=0.0)
    how = TrainSettings(epochs=40, lr=0.02, average=0.9)
    return training.train(SPEECH, str(spellings), settings, how, out), out


def test_it_tells_chirps_apart(heard, chirps):
    result, path = heard
    assert result["metrics"]["error"] < 0.15
    assert result["metrics"]["accuracy"] == pytest.approx(1 - result["metrics"]["error"])
    assert set(result["baselines"]) == {"most frequent", "nearest (dtw)"}
    assert sum(n for row in result["confusion"].values() for n in row.values()) > 5
    again = training.evaluate(SPEECH, modelfile.load(path), path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    assert again["baselines"] == result["baselines"]


def test_what_it_predicts_is_what_the_model_says(heard, chirps):
    file = modelfile.load(heard[1])
    record = predict(file, str(chirps / "up" / "up3.wav"), Hearing())["recordings"][0]
    features = file.codec.encode(read_audio(chirps / "up" / "up3.wav"))
    p = file.model.classify(torch.from_numpy(features)[None], torch.tensor([len(features)])).exp()[
        0
    ]
    assert record["p"] == pytest.approx(float(p.max().detach()), abs=1e-4)
    assert record["label"] == file.codec.labels[int(p.argmax())]
    assert len(predict(file, str(chirps / "flat"), Hearing())["recordings"]) == 30


def test_it_writes_what_was_spelt(spelt):
    result, _ = spelt
    assert result["metrics"]["cer"] < 0.15
    assert result["metrics"]["wer"] < 0.4
    assert result["metrics"]["error"] == result["metrics"]["cer"]
    assert result["baselines"]["most frequent words"]["cer"] > 0.4
    assert {"source", "ours", "wanted"} == set(result["examples"][0])


def test_words_have_their_times(spelt, tmp_path):
    file = modelfile.load(spelt[1])
    sf.write(tmp_path / "w.wav", spelled("cab dab", np.random.default_rng(5)), RATE)
    record = predict(file, str(tmp_path / "w.wav"), Hearing())["recordings"][0]
    assert record["text"] == "cab dab"
    first, second = record["words"]
    assert first["begin_s"] == pytest.approx(0.06, abs=0.12)
    assert second["begin_s"] == pytest.approx(0.06 + 3 * 0.14 + 0.15, abs=0.12)
    assert first["end_s"] < second["begin_s"]
    assert second["end_s"] <= record["seconds"]


def stream_in_pieces(live: LiveSpeech, samples: np.ndarray, rate: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(samples), 25))
    told = []
    for part in np.split(samples, cuts):
        told += live.hear(part, rate)
    return told + live.close()


@pytest.mark.parametrize("seed", range(4))
def test_live_text_is_that_of_the_whole_file(spelt, seed):
    file = modelfile.load(spelt[1])
    rng = np.random.default_rng(100 + seed)
    samples = spelled(" ".join(rng.choice(["cab", "bad", "add", "dab"], 4)), rng)
    log_p = recognise(file, file.codec.encode(Sound(samples, RATE)))
    whole = ctc.greedy(log_p)
    told = stream_in_pieces(LiveSpeech(file), samples, RATE, seed)
    assert told[-1]["text"] == ctc.text(file.codec, whole)
    final = [(t["word"], t["begin_s"], t["end_s"]) for t in told if t.get("final")]
    step = file.codec.step_s
    assert final == [
        (w.word, round(w.begin * step, 3), round(w.end * step, 3))
        for w in ctc.words(file.codec, whole)
    ]
    assert any(t.get("final") is False for t in told)


def test_live_label_is_that_of_the_whole_file(heard):
    file = modelfile.load(heard[1])
    rng = np.random.default_rng(9)
    for kind in ("up", "down", "flat"):
        sound = Sound(chirp(kind, rng), RATE)
        p = np.exp(recognise(file, file.codec.encode(sound)))
        told = stream_in_pieces(LiveSpeech(file, how=Microphone(pause=0)), sound.samples, RATE, 0)
        assert told[-1]["final"]
        assert told[-1]["label"] == file.codec.labels[int(p.argmax())]
        assert told[-1]["p"] == pytest.approx(float(p.max()), abs=2e-4)


def test_silence_ends_what_is_said(heard):
    file = modelfile.load(heard[1])
    rng = np.random.default_rng(4)
    quiet = (0.003 * rng.standard_normal(RATE)).astype(np.float32)
    samples = np.concatenate(
        [quiet, chirp("up", rng), quiet, chirp("flat", rng), quiet, chirp("down", rng), quiet]
    )
    final = [t for t in stream_in_pieces(LiveSpeech(file), samples, RATE, 1) if t["final"]]
    assert len(final) == 3
    second = final[1]
    assert 1.3 < second["begin_s"] < 2.4 < second["end_s"] < 3.9


def test_state_is_kept_between_two_runs(spelt, tmp_path):
    file = modelfile.load(spelt[1])
    samples = spelled("bad cab add dab", np.random.default_rng(8))
    half = len(samples) // 2 + 37
    one, two = LiveSpeech(file), LiveSpeech(file)
    whole = one.hear(samples[:half], RATE)
    one.save(tmp_path / "s.bin")
    two.load(tmp_path / "s.bin")
    rest = [*two.hear(samples[half:], RATE), *two.close()]
    assert rest == [*one.hear(samples[half:], RATE), *one.close()]
    assert rest[-1]["text"] == "bad cab add dab"
    assert [t["word"] for t in whole + rest if t.get("final")] == ["bad", "cab", "add", "dab"]
    other = LiveSpeech(file)
    other.hear(samples, 2 * RATE)
    with pytest.raises(StateError, match="another rate"):
        other.save(tmp_path / "o.bin")
    with pytest.raises(StateError):
        LiveSpeech(file).load(tmp_path / "none.bin")


def wav(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    held = io.BytesIO()
    sf.write(held, samples, rate, format=kind, subtype=subtype)
    return held.getvalue()


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("form", ["PCM_16", "FLOAT", "PCM_32", "raw", "stereo"])
def test_bytes_in_pieces_of_any_size(spelt, piece, form):
    file = modelfile.load(spelt[1])
    samples = spelled("cab ab", np.random.default_rng(2))
    how = Microphone()
    if form == "raw":
        data, how = (samples * 32767).astype("<i2").tobytes(), Microphone(rate=RATE)
    elif form == "stereo":
        data = wav(np.stack([samples, samples], 1), RATE)
    else:
        data = wav(samples, RATE, subtype=form)
    if piece == 1:
        data = data[: 2 * RATE] if form == "PCM_16" else data[:100]
    live = LiveSpeech(file, how=how)
    for begin in range(0, len(data), piece):
        live.feed_bytes(data[begin : begin + piece])
    if piece > 1:
        assert live.close()[-1]["text"] == "cab ab"


def test_what_stands_behind_the_samples_of_a_wav_file_is_no_sound(spelt):
    file = modelfile.load(spelt[1])
    data = wav(spelled("cab ab", np.random.default_rng(2)), RATE)
    noise = (
        b"LIST"
        + (4000).to_bytes(4, "little")
        + bytes(np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8))
    )
    whole, more = LiveSpeech(file), LiveSpeech(file)
    told = [*whole.feed_bytes(data), *whole.close()]
    pieces = [data + noise[:9], noise[9:]]
    assert [*(t for piece in pieces for t in more.feed_bytes(piece)), *more.close()][-1] == told[-1]
    for damaged in (
        data[:16] + b"\x04\0\0\0" + data[20:],
        data[:12] + b"junk\xff\xff\xff\xff" + data[12:],
    ):
        with pytest.raises(DataError, match="header is damaged"):
            LiveSpeech(file).feed_bytes(damaged)


def test_precisions_hear_the_same(spelt, memorycell):
    file = modelfile.load(spelt[1])
    samples = spelled("dab add", np.random.default_rng(3))
    texts = {
        p: stream_in_pieces(LiveSpeech(file, p), samples, RATE, 0)[-1]["text"]
        for p in ("float32", "bfloat16", "int8")
    }
    assert set(texts.values()) == {"dab add"}
    status, out, _ = memorycell("prove", spelt[1], "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["ok"]


def test_a_language_model_of_the_task_text_in_the_search(spelt, tmp_path):
    from memorycell.applications.text.dataset import TEXT, TextSettings

    rng = np.random.default_rng(0)
    text = tmp_path / "t.txt"
    text.write_text(
        "\n".join(" ".join(rng.choice(["dab", "dab", "dab", "cab"], 4)) for _ in range(200))
    )
    lm = tmp_path / "lm.safetensors"
    settings = TextSettings(hidden=16, lanes=4, bptt=16, dropout=0.0)
    training.train(TEXT, str(text), settings, TrainSettings(epochs=6, lr=0.02, average=0.9), lm)
    file = modelfile.load(spelt[1])
    sf.write(tmp_path / "w.wav", spelled("dab cab", np.random.default_rng(1)), RATE)
    record = predict(file, str(tmp_path / "w.wav"), Hearing(lm=str(lm)))["recordings"][0]
    assert record["searched"] == "dab cab"
    with pytest.raises(UserError, match="a model of the task text was expected"):
        predict(file, str(tmp_path / "w.wav"), Hearing(lm=str(spelt[1])))


def test_the_command_line(heard, spelt, chirps, memorycell, tmp_path, monkeypatch):
    path = chirps / "down" / "down1.wav"
    status, out, _ = memorycell("predict", heard[1], path, "--json")
    assert status == 0
    assert json.loads(out)["recordings"][0]["label"] == "down"
    assert memorycell("predict", heard[1], path, "--out", tmp_path / "p.html")[0] == 0
    sf.write(tmp_path / "w.wav", spelled("dab cab", np.random.default_rng(1)), RATE)
    assert memorycell("predict", spelt[1], tmp_path / "w.wav", "--out", tmp_path / "w.html")[0] == 0
    assert "CTC" in (tmp_path / "w.html").read_text()
    assert memorycell("inspect", spelt[1], tmp_path / "w.wav", "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("inspect", heard[1], "--out", tmp_path / "i.html")[0] == 0
    status, out, _ = memorycell("evaluate", spelt[1], "--report", tmp_path / "e.html", "--json")
    assert status == 0
    assert json.loads(out)["metrics"] == pytest.approx(spelt[0]["metrics"])

    class Stdin:
        buffer = io.BufferedReader(io.BytesIO((tmp_path / "w.wav").read_bytes()))

    monkeypatch.setattr(sys, "stdin", Stdin())
    status, out, _ = memorycell("stream", spelt[1], "--set", "pause=0.5")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["text"] == "dab cab"
    Stdin.buffer = io.BufferedReader(io.BytesIO(b""))
    status, _, err = memorycell("stream", spelt[1])
    assert (status, err.count("\n")) == (2, 1)
    wrong = (
        ("predict", heard[1], tmp_path / "gone.wav"),
        ("predict", heard[1]),
        ("stream", heard[1], "--set", "format=mp3"),
    )
    for words in wrong:
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words


# ---- what may be wrong ---------------------------------------------------------------------------


def test_lists_of_transcripts(tmp_path):
    for name in ("a.wav", "sub/b.wav", "c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        sf.write(tmp_path / name, np.ones(10), RATE)
    (tmp_path / "transcripts.txt").write_text(
        "; a comment\n\na: One two: three\nsub/b\tFour\nd: gone\n"
    )
    found, written, notes = find_recordings(tmp_path, "set", (".wav",))
    assert [(r.path.name, r.said) for r in found] == [
        ("a.wav", "One two: three"),
        ("b.wav", "Four"),
    ]
    assert written
    assert notes == [
        "transcripts.txt: 1 transcripts without their file left out (the first: d)",
        "1 files without a transcript left out (the first: c.wav)",
    ]
    (tmp_path / "transcripts.txt").write_text("a: one\nno sign\n")
    with pytest.raises(DataError, match=r"transcripts.txt: line 2: expected name: text"):
        find_recordings(tmp_path, "set", (".wav",))
    (tmp_path / "transcripts.txt").unlink()
    (tmp_path / "labels.tsv").write_text("path\tlabel\na.wav\tyes\nsub/b.wav\tno\nc.wav\tyes\n")
    assert [r.said for r in find_recordings(tmp_path, "set", (".wav",))[0]] == ["yes", "yes", "no"]
    (tmp_path / "labels.tsv").write_text("one\ttwo\n1\t2\n")
    with pytest.raises(DataError, match="a column of file names"):
        find_recordings(tmp_path, "set", (".wav",))
    (tmp_path / "labels.tsv").unlink()
    found, written, _ = find_recordings(tmp_path, "set", (".wav",))
    assert ([r.said for r in found], written) == (["sub"], False)
    with pytest.raises(DataError, match="expected a pattern"):
        find_recordings(tmp_path, "set", (".wav",), names="{speaker}")
    with pytest.raises(DataError, match="no file's name is like"):
        find_recordings(tmp_path, "set", (".wav",), names="{label}_{index}")


def test_names_and_rules(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("up", "down"):
        for who in ("ann", "bob", "cyd"):
            for k in range(8):
                sf.write(tmp_path / f"{kind}_{who}_{k}.wav", chirp(kind, rng), RATE)
    sf.write(tmp_path / "other.wav", chirp("up", rng), RATE)
    names = "{label}_{group}_{index}"
    dataset = prepare(
        str(tmp_path), SpeechSettings(**SMALL, names=names, held_out="group=bob", checked="index<2")
    )
    assert {e.fields["group"] for e in dataset.parts["test"]} == {"bob"}
    assert len(dataset.parts["test"]) == 16
    assert {e.fields["index"] for e in dataset.parts["valid"]} == {"0", "1"}
    assert len(dataset.parts["train"]) == 24
    assert any("1 files left out whose names" in note for note in dataset.notes)
    with pytest.raises(DataError, match="cannot be told; it has"):
        prepare(str(tmp_path), SpeechSettings(**SMALL, names=names, held_out="age>3"))
    with pytest.raises(ValueError, match="expected FIELD=VALUE"):
        Rule.read("bob")


def test_bad_recordings_are_counted_and_training_goes_on(chirps, tmp_path):
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
    dataset = prepare(str(tmp_path), SpeechSettings(**SMALL))
    told = "\n".join(dataset.notes)
    for what in (
        "left out: 2 recordings that cannot be read",
        "1 recordings mixed down",
        "1 recordings clipped",
        "1 recordings silent, left out",
        "1 recordings longer than 40 s",
        "left out: 1 too short",
    ):
        assert what in told
    assert sum(len(part) for part in dataset.parts.values()) == 83
    assert dataset.codec.rate_hz == RATE
    (tmp_path / "only" / "a").mkdir(parents=True)
    (tmp_path / "only" / "a" / "x.wav").write_text("no")
    with pytest.raises(DataError, match="none of 1 recordings can be read"):
        prepare(str(tmp_path / "only"), SpeechSettings(**SMALL))


def test_texts_longer_than_their_sound_are_left_out(spellings, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for k in range(160):
        text = (
            " ".join(rng.choice(["ab", "cab", "dab", "add"], 3))
            + f" {'abcd'[k % 4]}{'abcd'[k // 4 % 4]}{'abcd'[k // 16 % 4]}"
        )
        sf.write(tmp_path / f"{k}.wav", spelled(text, rng), RATE)
        rows.append(f"{k}: {text}")
        sf.write(
            tmp_path / f"again{k}.wav", spelled(text, rng), RATE
        )  # the same text falls into the same part
        rows.append(f"again{k}: {text}")
    sf.write(tmp_path / "x.wav", spelled("a", rng)[:1600], RATE)
    rows.append("x: " + "abcd " * 30)
    rows.append("0b: [a tone]")
    sf.write(tmp_path / "0b.wav", chirp("up", rng), RATE)
    (tmp_path / "transcripts.txt").write_text("\n".join(rows))
    dataset = prepare(str(tmp_path), SpeechSettings(**SMALL))
    told = "\n".join(dataset.notes)
    assert "left out: 1 too short to hold what they say (the first: x.wav)" in told
    assert "1 recordings left out that say nothing" in told
    assert not {e.said for e in dataset.parts["train"]} & {e.said for e in dataset.parts["test"]}


def test_the_words_of_the_test_part_are_not_in_the_lexicon(spellings):
    dataset = prepare(str(spellings), SpeechSettings(**SMALL))
    assert set(dataset.codec.sentences) == {e.said for e in dataset.parts["train"]}
    assert dataset.codec.mean == pytest.approx(
        np.concatenate([dataset.codec.frames(e.raw.samples) for e in dataset.parts["train"]])
        .mean(0)
        .tolist(),
        rel=1e-4,
    )


def test_a_model_that_reads_both_ways_is_not_live(chirps, tmp_path):
    out = tmp_path / "b.safetensors"
    training.train(
        SPEECH,
        str(chirps),
        SpeechSettings(**{**SMALL, "direction": "both"}),
        TrainSettings(epochs=1),
        out,
    )
    with pytest.raises(UserError, match="direction=forward"):
        memorycell.stream(out)


def test_other_data_are_scored_with_what_was_learnt(heard, tmp_path):
    rng = np.random.default_rng(7)
    for kind in ("up", "down", "bell"):
        (tmp_path / kind).mkdir()
        for k in range(4):
            sf.write(
                tmp_path / kind / f"{k}.wav",
                chirp("up" if kind == "bell" else kind, rng, rate=16000),
                16000,
            )
    file = modelfile.load(heard[1])
    dataset = reopen(str(tmp_path), file)
    assert {e.said for e in dataset.parts["test"]} == {"up", "down"}
    assert dataset.evaluate(file.model, "test")["accuracy"] >= 0.75
    assert "nearest (dtw)" in dataset.baselines("test")


@pytest.mark.data
def test_free_spoken_digits(public_data):
    dataset = prepare("free-spoken-digits", SpeechSettings())
    assert {e.fields["index"] for e in dataset.parts["test"]} == {"0", "1", "2", "3", "4"}
    assert len(dataset.parts["test"]) == 300
    assert len(dataset.codec.labels) == 10
    assert len({e.fields["group"] for e in dataset.parts["train"]}) == 6


@pytest.mark.data
def test_asterisk(public_data):
    dataset = prepare("asterisk-en", SpeechSettings())
    assert dataset.codec.text is not None
    assert any("say nothing" in note for note in dataset.notes)
    assert not {e.said for e in dataset.parts["train"]} & {e.said for e in dataset.parts["test"]}


def test_a_codec_needs_an_output():
    scaling = {"rate_hz": RATE, "bins": 4, "stack": 1, "mean": [0.0] * 4, "std": [1.0] * 4}
    with pytest.raises(ValueError, match="two labels or more"):
        AudioCodec.from_json({"labels": [], "text": None, "sentences": [], **scaling})


def test_silence_and_noise_are_answered_and_noted(heard, tmp_path):
    file = modelfile.load(heard[1])
    sf.write(tmp_path / "s.wav", np.zeros(4000), RATE)
    record = predict(file, str(tmp_path / "s.wav"), Hearing())["recordings"][0]
    assert record["notes"] == ["silent"]
    assert 0 <= record["p"] <= 1
    sf.write(tmp_path / "t.wav", np.zeros(100), RATE)
    with pytest.raises(DataError, match="100 samples are too few"):
        predict(file, str(tmp_path / "t.wav"), Hearing())


def test_pieces_of_words(spellings, tmp_path):
    out = tmp_path / "p.safetensors"
    settings = SpeechSettings(**SMALL, unit="piece", vocabulary=16, direction="both")
    result = training.train(SPEECH, str(spellings), settings, TrainSettings(epochs=2, lr=0.02), out)
    assert result["metrics"]["log_loss"] < 4
    assert modelfile.load(out).codec.text.unit == "piece"
