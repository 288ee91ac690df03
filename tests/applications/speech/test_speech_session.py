"""Speech live: chunks of any size give the results of the full recording."""

import io
import json

import numpy as np
import pytest
from signal_data import RATE, SMALL_SPEECH, chirp, letter_tones, sf

import memorycell
from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech import APPLICATION
from memorycell.applications.speech.audio import Sound
from memorycell.applications.speech.session import SpeechSession, StreamOptions
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import DataError, StateError, UserError
from memorycell.signals import ctc
from memorycell.signals.recognise import recognise
from memorycell.training import loop as training


def feed_in_chunks(session: SpeechSession, samples: np.ndarray, rate: int, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.integers(0, len(samples), 25))
    records = []
    for chunk in np.split(samples, cuts):
        records += session.feed_samples(chunk, rate)
    return records + session.close()


@pytest.mark.parametrize("seed", range(4))
def test_text_is_that_of_the_full_recording(spelling_model, seed):
    file = modelfile.load(spelling_model[1])
    rng = np.random.default_rng(100 + seed)
    spoken = rng.choice(["cab", "bad", "add", "dab"], 4)
    samples = letter_tones(" ".join(spoken), rng)
    letters = ctc.greedy_letters(recognise(file, file.codec.encode(Sound(samples, RATE))))
    records = feed_in_chunks(SpeechSession(file), samples, RATE, seed)
    assert records[-1]["text"] == ctc.letters_to_text(file.codec, letters)
    final = [(r["word"], r["begin_s"], r["end_s"]) for r in records if r.get("final")]
    step = file.codec.step_s
    assert final == [
        (w.word, round(w.begin * step, 3), round(w.end * step, 3))
        for w in ctc.letters_to_words(file.codec, letters)
    ]
    assert len(final) == 4
    assert sum(word == true for (word, _, _), true in zip(final, spoken, strict=True)) >= 3
    assert any(r.get("final") is False for r in records)


def test_label_is_that_of_the_full_recording(chirp_model):
    file = modelfile.load(chirp_model[1])
    rng = np.random.default_rng(9)
    for kind in ("up", "down", "flat"):
        sound = Sound(chirp(kind, rng), RATE)
        p = np.exp(recognise(file, file.codec.encode(sound)))
        session = SpeechSession(file, options=StreamOptions(pause=0))
        record = feed_in_chunks(session, sound.samples, RATE, 0)[-1]
        assert record["final"]
        assert record["label"] == file.codec.labels[int(p.argmax())] == kind
        assert record["p"] == pytest.approx(float(p.max()), abs=2e-4)


def test_silence_ends_an_utterance(chirp_model):
    """Chirps of 0.35 to 0.5 s with 1 s of silence before, between and after them."""
    file = modelfile.load(chirp_model[1])
    rng = np.random.default_rng(4)
    quiet = (0.003 * rng.standard_normal(RATE)).astype(np.float32)
    chirps = [chirp(kind, rng) for kind in ("up", "flat", "down")]
    samples = np.concatenate([quiet, *(part for c in chirps for part in (c, quiet))])
    records = feed_in_chunks(SpeechSession(file), samples, RATE, 1)
    final = [r for r in records if r["final"]]
    assert [r["label"] for r in final] == ["up", "flat", "down"]
    ends = np.cumsum([1.0, *(part for c in chirps for part in (len(c) / RATE, 1.0))])[1::2]
    for record, end_s in zip(final, ends, strict=True):
        assert end_s + 0.6 < record["end_s"] < end_s + 1.0
    for previous, following in zip(final, final[1:], strict=False):
        assert following["begin_s"] == previous["end_s"]


def test_restored_session_continues(spelling_model):
    file = modelfile.load(spelling_model[1])
    samples = letter_tones("bad cab add dab", np.random.default_rng(8))
    half = len(samples) // 2 + 37
    one, two = SpeechSession(file), SpeechSession(file)
    before = one.feed_samples(samples[:half], RATE)
    two.restore(one.snapshot())
    rest = [*two.feed_samples(samples[half:], RATE), *two.close()]
    assert rest == [*one.feed_samples(samples[half:], RATE), *one.close()]
    assert rest[-1]["text"] == "bad cab add dab"
    final = [r["word"] for r in before + rest if r.get("final")]
    assert final == ["bad", "cab", "add", "dab"]


def test_invalid_states_change_nothing(spelling_model, chirp_model):
    file = modelfile.load(spelling_model[1])
    samples = letter_tones("bad cab", np.random.default_rng(8))
    session = SpeechSession(file)
    session.feed_samples(samples[:6000], RATE)
    state = session.snapshot()
    foreign = SpeechSession(modelfile.load(chirp_model[1])).snapshot()
    incomplete = session._stream.snapshot(ear=None)
    for invalid in (b"", b"no state", state[:-8], foreign, incomplete):
        with pytest.raises(StateError):
            session.restore(invalid)
        assert session.snapshot() == state
    resampling = SpeechSession(file)
    resampling.feed_samples(samples, 2 * RATE)
    with pytest.raises(StateError, match="another rate"):
        resampling.snapshot()


def wav(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("form", ["PCM_16", "FLOAT", "PCM_32", "raw", "stereo"])
def test_bytes_in_chunks_of_any_size(spelling_model, size, form):
    file = modelfile.load(spelling_model[1])
    samples = letter_tones("cab ab", np.random.default_rng(2))
    options = StreamOptions()
    if form == "raw":
        data, options = (samples * 32767).astype("<i2").tobytes(), StreamOptions(rate=RATE)
    elif form == "stereo":
        data = wav(np.stack([samples, samples], 1), RATE)
    else:
        data = wav(samples, RATE, subtype=form)
    session = SpeechSession(file, options=options)
    for begin in range(0, len(data), size):
        session.feed(data[begin : begin + size])
    assert session.close()[-1]["text"] == "cab ab"


def test_other_chunks_of_a_wav_file_are_not_samples(spelling_model):
    file = modelfile.load(spelling_model[1])
    data = wav(letter_tones("cab ab", np.random.default_rng(2)), RATE)
    junk = np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)
    list_chunk = b"LIST" + (4000).to_bytes(4, "little") + bytes(junk)
    alone, followed = SpeechSession(file), SpeechSession(file)
    expected = [*alone.feed(data), *alone.close()]
    chunks = [data + list_chunk[:9], list_chunk[9:]]
    records = [*(r for chunk in chunks for r in followed.feed(chunk)), *followed.close()]
    assert records[-1] == expected[-1]
    assert records[-1]["text"] == "cab ab"
    for damaged in (
        data[:16] + b"\x04\0\0\0" + data[20:],
        data[:12] + b"junk\xff\xff\xff\xff" + data[12:],
    ):
        with pytest.raises(DataError, match="damaged WAV header"):
            SpeechSession(file).feed(damaged)


def test_items_must_be_bytes(spelling_model):
    session = SpeechSession(modelfile.load(spelling_model[1]))
    for item in ("text", {"x": 1}):
        with pytest.raises(DataError, match="expected bytes"):
            session.feed(item)
    with pytest.raises(DataError, match="no samples"):
        session.close()


def test_precisions_give_the_same_text(spelling_model, memorycell):
    file = modelfile.load(spelling_model[1])
    samples = letter_tones("dab add", np.random.default_rng(3))
    for precision in ("float32", "bfloat16", "int8"):
        records = feed_in_chunks(SpeechSession(file, precision), samples, RATE, 0)
        assert records[-1]["text"] == "dab add", precision
    status, out, _ = memorycell("prove", spelling_model[1], "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["ok"]


def test_bidirectional_models_cannot_run_live(chirps, tmp_path):
    out = tmp_path / "b.safetensors"
    settings = SpeechSettings(**SMALL_SPEECH, direction="both")
    training.train(APPLICATION, str(chirps), settings, TrainSettings(epochs=1), out)
    with pytest.raises(UserError, match="direction=forward"):
        memorycell.stream(out)
