"""Scores as a task: training, composing, live sessions, pages and refusals."""

import itertools
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from score_data import HYMNS, folder_of_hymns, hymn, written

pytest.importorskip("symusic", reason="pip install 'memorycell[music]'")

from memorycell.applications.music.score.abc_tunes import abc_tunes
from memorycell.applications.music.score.midi_scores import read_midi_scores
from memorycell.applications.music.score.musicxml_scores import read_musicxml_score
from memorycell.applications.music.score.notation import (
    Score,
)
from memorycell.applications.music.score.progress import Progress, header_of
from memorycell.applications.music.score.spelling import (
    key_name,
    spell,
    spelled_name,
)
from memorycell.errors import DataError
from memorycell.reading import Losses


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model of the hymns, trained through the Python face."""
    import memorycell

    folder = tmp_path_factory.mktemp("scores")
    path = folder / "hymns.safetensors"
    result = memorycell.train(
        "music", str(folder_of_hymns(folder / "midi")), out=path, view="score", hidden=24,
        epochs=12, dropout=0.0, weight_drop=0.0, noise=0.0,
    )  # fmt: skip
    return result, path


def test_training_and_composing(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    result, path = trained
    assert result.baselines
    assert all("gram" in name for name in result.baselines)
    assert result.metrics["nats_note"] == pytest.approx(2 * result.metrics["nats"])
    music, file = catalogue.load("music"), modelfile.load(path)
    options = music.predict_options(key="E minor", metre="3/4", bars=6, seed=3)
    record = json.loads(json.dumps(music.predict(file, None, options)))
    assert (record["key"], record["metre"], record["bars"]) == ("E minor", "3/4", 6)
    midi = tmp_path / "composed.mid"
    midi.write_bytes(music.figures[".mid"](file, record))
    (score,) = read_midi_scores(midi, Losses("pieces"))
    assert (str(score.metre), key_name(score.key)) == ("3/4", "E minor")
    assert score.bars in (5, 6)  # a rest at the end is not in the file
    assert "E minor, 3/4, 6 bars" in music.render(record)
    assert "<svg" in music.figures[".svg"](file, record)
    melody = written(Score(*_parts(HYMNS[1]), (HYMNS[1].voices[0],)), tmp_path / "melody.mid")
    record = music.predict(file, str(melody), music.predict_options(how="harmonise"))
    assert len(record["voices"]) == 4
    assert [n[:2] for n in record["voices"][0]] == [list(n[:2]) for n in HYMNS[1].voices[0]]
    options = music.predict_options(begin=8, bars=2, key="A minor")
    continued = music.predict(file, str(melody), options)
    assert continued["notes"] == ["key and metre are those of the input: Db major, 3/4"]
    assert continued["bars"] > 2
    assert [n[0] for n in continued["voices"][0][:8]] == [n.pitch for n in HYMNS[1].voices[0][:8]]


def _parts(score):
    return score.metre, score.key, score.pickup


def test_live_scores(trained):
    from memorycell.application import live, modelfile

    file = modelfile.load(trained[1])
    session = live.open_session(file)
    (answer,) = session.feed("key D major, metre 3/4, pickup 1")
    assert (answer["key"], answer["bar"], answer["quarter"], answer["voice"]) == (
        "D major",
        0,
        "3",
        1,
    )
    assert session.note_probabilities().sum() == pytest.approx(1, abs=1e-5)
    score = hymn(2, key="D major", metre="3/4", bars=3)
    total, queues, progress = (
        0.0,
        [list(v) for v in score.voices],
        Progress(file.codec, header_of(score)),
    )
    snapshot = session.snapshot()
    for count in itertools.count():
        if progress.done:
            break
        note = queues[progress.voice].pop(0)
        progress.add(note)
        text = f"{spelled_name(note.pitch, score.key)}:{note.length}/24{',' * note.phrase_end}"
        (answer,) = session.feed(text)
        assert answer["heard"][0]["note"].split(":")[0] == text.split(":")[0]
        total += answer["nats"]
        if count == 4:
            snapshot = session.snapshot()
            after = session.fork().feed("r:1")
    assert session.feed("")[0]["bar"] == 3
    other = live.open_session(file)
    other.restore(snapshot)
    assert other.feed("r:1") == after
    # Live, a piece has no end, so that only the beginning agrees with the evaluation.
    endless = header_of(score)._replace(length=1 << 40)
    progress, blocks, ids = Progress(file.codec, endless), [], []
    queues = [list(v) for v in score.voices]
    while any(queues):
        note = queues[progress.voice].pop(0)
        blocks.append(progress.blocks())
        pitch_id, length_id = progress.add(note)
        ids.append((length_id, 0, pitch_id))
    with torch.inference_mode():
        hidden, _ = file.model(torch.from_numpy(file.codec.inputs(np.array(blocks)))[None])
        expected = float(file.model.head.nats(hidden[0], torch.tensor(ids)).sum())
    assert total == pytest.approx(expected, abs=0.002 * len(ids))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("H5:1", "is not a note"),
        ("E5", "is not a note"),
        ("E5:0", "expected 1/24"),
        ("E5:1/0", "E5:1/0"),
        ("E5:1/5", "expected 1/24"),
        ("C0:1", "outside the piano"),
        ("key X major", "X4"),
        ("key C major, metre 7/8", "not in the training data; one of 3/4, 4/4"),
        ("key C major, pickup 9", "less than a bar"),
        ("key C major, tempo 9", "expected key, metre or pickup"),
    ],
)
def test_bad_lines_change_nothing(trained, line, error):
    from memorycell.application import live, modelfile

    session = live.open_session(modelfile.load(trained[1]))
    session.feed("E5:1 C5:1")
    before = session.snapshot()
    if line.startswith("key"):
        session = live.open_session(modelfile.load(trained[1]))
        before = session.snapshot()
    with pytest.raises(DataError, match=error):
        session.feed(line)
    assert session.snapshot() == before


def test_a_page_of_pieces(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    music, file = catalogue.load("music"), modelfile.load(trained[1])
    record = music.predict(file, None, music.predict_options(pieces=3, bars=2, seed=5))
    page = music.figures[".html"](file, json.loads(json.dumps(record)))
    assert page.count("<article>") == 3
    assert [f"seed {k}" in page for k in (4, 5, 6, 7, 8)] == [False, True, True, True, False]
    assert "http" not in page.replace("http://www.w3.org", "")
    with pytest.raises(ValueError, match="holds one piece"):
        music.figures[".mid"](file, record)


def test_the_main_picture_is_of_a_score(trained):
    """Its dots are the notes of a test piece; its colours are probabilities of their pitches."""
    from memorycell.application import catalogue, modelfile

    file = modelfile.load(trained[1])
    dataset = catalogue.load("music").reopen(None, file)
    picture = catalogue.load("music").picture(dataset, file.model, {})
    score = max(dataset.scores["test"], key=lambda score: score.length)
    low = 60 - picture.rows.index("C4")
    begins = set()
    for voice in score.voices:
        now = 0
        for note in voice:
            begins.add((now // 6, note.pitch - low))
            now += note.length
    assert set(picture.dots) == {dot for dot in begins if dot[0] < 128}
    assert all(0.04 <= p <= 1.001 for _, _, p in picture.cells)
    shares = {(at, row): p for at, row, p in picture.cells}
    blocks, ids = dataset.codec.encode(score)
    with torch.inference_mode():
        hidden, _ = file.model(torch.from_numpy(dataset.codec.inputs(blocks[:1]))[None])
        length, last, _ = torch.from_numpy(ids[0])
        p = file.model.head.pitch_scores(hidden[0, 0], length, last).softmax(-1)
    top = dataset.codec.pitch(int(p.argmax()), score.key[0]) - low
    assert p.max() > 0.04
    assert shares[0, top] >= float(p.max()) - 2e-3  # another voice may give the pitch more


def test_evaluation_in_steps_is_that_of_whole_pieces(trained):
    from memorycell.application import catalogue, modelfile

    file = modelfile.load(trained[1])
    dataset = catalogue.load("music").reopen(None, file)
    whole = dataset.evaluate(file.model, "test")["nats"]
    stepped = dataset._metrics(dataset._stepped_nats(file.model, "test", "float32"), "test")["nats"]
    assert stepped == pytest.approx(whole, rel=1e-4)
    assert whole == pytest.approx(file.info["metrics"]["nats"], rel=1e-4)
    events = {s: sum(len(ids) for _, ids in p) for s, p in dataset.pieces.items()}
    for by_voice in (False, True):
        tokens = dataset._tokens("test", by_voice)
        predicted = (tokens > 1) & (tokens < dataset._header_ids)
        assert predicted.sum() == 2 * events["test"]
        name, (_, ngram) = list(dataset._ngrams.items())[by_voice]
        nats = -np.log(ngram.probabilities(tokens)[predicted]).mean()
        assert dataset.baselines("test")[name]["nats"] == pytest.approx(nats)


def test_what_a_score_model_refuses(trained, tmp_path):
    from memorycell.application import catalogue, modelfile

    music, file = catalogue.load("music"), modelfile.load(trained[1])
    options = music.predict_options
    with pytest.raises(
        ValueError, match=r"metre=6/8: not in the training data; expected one of 3/4"
    ):
        music.predict(file, None, options(metre="6/8"))
    with pytest.raises(ValueError, match="expected a metre"):
        options(metre="x")
    waltz = written(hymn(1, metre="6/8"), tmp_path / "waltz.mid")
    with pytest.raises(ValueError, match=r"waltz.mid: in 6/8; the model knows 3/4, 4/4 alone"):
        music.predict(file, str(waltz), options())
    full = written(HYMNS[0], tmp_path / "full.mid")
    with pytest.raises(ValueError, match="nothing to add"):
        music.predict(file, str(full), options(how="harmonise"))
    with pytest.raises(ValueError, match="no melody given"):
        music.predict(file, None, options(how="harmonise"))
    json_file = tmp_path / "frames.json"
    json_file.write_text("[[60]]")
    with pytest.raises(ValueError, match="no metre"):
        music.predict(file, str(json_file), options())


def test_frames_models_refuse_a_metre(tmp_path):
    from memorycell.application.contract import ModelFile
    from memorycell.applications.music.codec import MusicCodec
    from memorycell.applications.music.model import Composer, ComposerConfig
    from memorycell.applications.music.predict import PredictOptions, predict

    model = Composer(ComposerConfig(hidden_size=4, voices=2))
    file = ModelFile(model, MusicCodec(1, 2), {}, {})
    with pytest.raises(ValueError, match="need a model of scores"):
        predict(file, None, PredictOptions(metre="3/4"))


def test_named_corpora():
    """What the package carries is found, and most of it can be read."""
    pytest.importorskip("music21", reason="pip install 'memorycell[musicxml]'")
    from memorycell.application.datasets import locate

    path, dataset = locate("chorales")
    assert dataset.settings == {"view": "score"}
    score = read_musicxml_score(Path(path) / "bwv269.mxl")
    assert (str(score.metre), key_name(score.key), score.pickup) == ("3/4", "G major", 24)
    assert len(score.voices) == 4
    right = []
    for file in sorted(Path(path).glob("bwv2*.mxl"))[:60]:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if not name.startswith("META"))
            root = ElementTree.fromstring(archive.read(name))
        key = read_musicxml_score(file).key
        for pitch in root.iter("pitch"):
            letter, octave = pitch.findtext("step"), int(pitch.findtext("octave"))
            alter = int(pitch.findtext("alter") or 0)
            midi = 12 * (octave + 1) + "C D EF G A B".index(letter) + alter
            right.append(spell(midi, key) == (letter, alter, octave))
    assert len(right) > 10_000
    assert np.mean(right) > 0.998
    path, _ = locate("essen")
    tunes = list(abc_tunes((Path(path) / "kinder0.abc").read_text()))
    assert sum(isinstance(tune, Score) for tune in tunes) > 0.9 * len(tunes)
