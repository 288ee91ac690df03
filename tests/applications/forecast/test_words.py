"""Words that vary over time as inputs: learned, known in advance, live, unknown, exported."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast import words
from memorycell.applications.forecast.next_inputs import next_inputs
from memorycell.applications.forecast.predict import PredictOptions, predict
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.session import ForecastSession
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError
from memorycell.training import loop as training

FORECAST = catalogue.load("forecast")
SMALL = ForecastSettings(
    target="visits",
    hidden=8,
    horizon=3,
    context=12,
    window=3,
    bptt=24,
    normal="no",
    calendar="none",
)
EFFECT = {"sun": 30.0, "rain": -30.0, "snow": 0.0}


def city(hours=900, seed=0) -> pl.DataFrame:
    """Visits that follow the weather of the same hour, and noise; the weather is unpredictable."""
    rng = np.random.default_rng(seed)
    weather = rng.choice(list(EFFECT), hours)
    visits = 100 + np.array([EFFECT[w] for w in weather]) + rng.normal(size=hours)
    stamps = np.datetime64("2026-01-01T00:00:00") + np.arange(hours) * np.timedelta64(1, "h")
    return pl.DataFrame(
        {
            "time": [str(t).replace("T", " ") for t in stamps],
            "visits": visits.round(3),
            "weather": weather,
            "code": [list(EFFECT).index(w) for w in weather],
        }
    )


def delayed(hours=900, seed=0) -> pl.DataFrame:
    """The weather decides the visits of the next three hours."""
    frame = city(hours, seed)
    effect = np.array([EFFECT[w] for w in frame["weather"]])
    after = sum(np.concatenate([np.zeros(k), effect[:-k]]) for k in (1, 2, 3))
    noise = np.random.default_rng(1).normal(size=hours)
    return frame.with_columns(pl.Series("visits", (100 + after + noise).round(3)))


def train(folder, frame, settings, epochs=12):
    frame.write_csv(folder / "t.csv")
    out = folder / "m.safetensors"
    result = training.train(
        FORECAST, str(folder / "t.csv"), settings, TrainSettings(epochs=epochs, lr=2e-2), out
    )
    return modelfile.load(out), result


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(folder, model file, result) of a model that knows the weather in advance."""
    folder = tmp_path_factory.mktemp("known")
    return folder, *train(folder, city(), replace(SMALL, inputs="none", known="weather"))


@pytest.fixture(scope="module")
def present(tmp_path_factory):
    """(folder, model file, result) of a model that reads the present weather."""
    folder = tmp_path_factory.mktemp("present")
    return folder, *train(folder, delayed(), replace(SMALL, inputs="weather"))


def live_rows(frame, reach):
    rows = frame.drop("code").to_dicts()
    return [
        {**row, **{f"weather+{k}": rows[at + k]["weather"] for k in range(1, reach + 1)}}
        for at, row in enumerate(rows[: len(rows) - reach])
    ]


def test_words_known_in_advance_decide_the_forecast(known):
    _, _, result = known
    assert result["metrics"]["mae"] < 6  # a few epochs; the noise alone has 0.8
    assert result["baselines"]["persistence"]["mae"] > 20
    assert result["baselines"]["ridge"]["mae"] < 3  # baselines read the words, too


def test_present_words_beat_the_same_model_without_them(present, tmp_path):
    _, _, result = present
    _, without = train(tmp_path, delayed(), replace(SMALL, inputs="none"))
    assert result["metrics"]["mae"] < 0.75 * without["metrics"]["mae"]


def test_each_known_future_word_moves_its_own_step(known, tmp_path):
    _, file, _ = known
    frame = city()
    future = ["sun", "rain", "snow"]
    rows = frame.drop("code").with_columns(
        pl.when(pl.int_range(pl.len()) < 897).then(pl.col("visits")).alias("visits"),
        pl.Series("weather", [*frame["weather"][:-3], *future]),
    )
    rows.write_csv(tmp_path / "t.csv")
    record = predict(file, str(tmp_path / "t.csv"), PredictOptions())
    median = record["forecasts"][0]["forecast"]["visits"]["median"]
    np.testing.assert_allclose(median, [100 + EFFECT[w] for w in future], atol=8)
    rows[:-1].write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="'weather' must be known 3 steps after"):
        predict(file, str(tmp_path / "t.csv"), PredictOptions())


def test_live_rows_have_the_inputs_of_the_table(known):
    _, file, _ = known
    codec = file.codec
    frame = city(40, seed=3)
    inputs = codec.encode(codec.read(frame, "t"))
    session = ForecastSession(file)
    rows = live_rows(frame, 3)
    for at, row in enumerate(rows):
        encoder = session._series[""][0] if session._series else session._new_series("")[0]
        memory = dict(encoder.memory)
        live, _ = encoder.encode(row)
        np.testing.assert_array_equal(live[0], inputs[at])
        encoder.memory = memory
        session.step(row)
    weather = codec.words["weather"]
    at = codec.features.index(f"weather is {weather[0]}")
    np.testing.assert_array_equal(inputs[:, at], frame["weather"] == weather[0])
    two = codec.features.index(f"weather in 2 is {weather[1]}")
    np.testing.assert_array_equal(inputs[:38, two], (frame["weather"] == weather[1])[2:])


def test_a_live_stream_of_lines_and_its_state(present):
    _, file, _ = present
    frame = delayed(30, seed=4).drop("code")
    lines = frame.write_csv().splitlines()
    session = ForecastSession(file)
    for line in lines[:20]:
        session.feed(line)
    other = ForecastSession(file)
    other.restore(session.snapshot())
    assert [session.feed(line) for line in lines[20:]] == [other.feed(line) for line in lines[20:]]


def test_an_unknown_word_is_read_as_one_and_said(present, tmp_path):
    _, file, _ = present
    codec = file.codec
    frame = delayed(60, seed=5)
    strange = frame.with_columns(pl.Series("weather", [*frame["weather"][:-1], "hail"]))
    strange.write_csv(tmp_path / "t.csv")
    record = predict(file, str(tmp_path / "t.csv"), PredictOptions())
    (note,) = [note for note in record["notes"] if "weather" in note]
    assert "column 'weather': 1 step with" in note
    assert "('hail')" in note
    inputs = codec.encode(codec.read(strange, "t"))
    at = codec.words_at
    np.testing.assert_array_equal(inputs[59, at : at + 4], [0, 0, 0, 1])
    session = ForecastSession(file)
    answers = [session.step(row) for row in strange.to_dicts()]
    assert answers[-1]["unknown"] == {"weather": "hail"}
    assert all("unknown" not in answer for answer in answers[:-1])
    restored = ForecastSession(file)
    restored.restore(session.snapshot())
    missing = session.step({"time": "2026-01-03 12:00:00", "visits": 100.0, "weather": None})
    assert "unknown" not in missing
    with pytest.raises(DataError, match="no column 'weather'"):
        session.step({"time": "2026-01-03 13:00:00", "visits": 100.0})
    # Its weights were trained, and it is an average word: the forecast stays within the range.
    values = record["forecasts"][0]["forecast"]["visits"]["median"]
    assert all(0 < value < 200 for value in values)


def test_the_weights_of_unknown_words_are_trained(tmp_path):
    delayed().write_csv(tmp_path / "t.csv")
    dataset = prepare(str(tmp_path / "t.csv"), replace(SMALL, inputs="weather"))
    at = dataset.codec.words_at
    assert dataset.inputs[:, at + 3].sum() == 0
    x = np.concatenate(
        [batch.x.numpy().reshape(-1, dataset.inputs.shape[1]) for batch in dataset.batches(0)]
    )
    np.testing.assert_array_equal(x[:, at : at + 4].sum(1), 1)
    assert 0.005 < x[:, at + 3].mean() < 0.05
    assert dataset.inputs[:, at + 3].sum() == 0  # the dataset's own are unchanged


def test_sampled_paths_advance_the_known_words(known):
    _, file, _ = known
    codec, frame = file.codec, city(40, seed=6)
    series = codec.read(frame, "t")
    x = codec.encode(series)
    y = (series.values[11:12, :1] - codec.mean[0]) / codec.std[0]
    advanced = next_inputs(codec, x[10:11], y, series.time[11:12], [""])
    last = codec.words_at + 4 + 2 * 4  # the step beyond those known repeats the last one
    np.testing.assert_allclose(advanced[0, :last], x[11, :last], atol=1e-6)
    np.testing.assert_array_equal(advanced[0, last:], x[11, last - 4 : last])


def test_codes_are_words_where_named_and_text_is_refused(tmp_path):
    frame = city().with_columns(pl.Series("id", [f"row {k}" for k in range(900)]))
    frame.write_csv(tmp_path / "t.csv")
    path = str(tmp_path / "t.csv")
    dataset = prepare(path, replace(SMALL, inputs="none", words="code"))
    assert set(dataset.codec.words["code"]) == {"0", "1", "2"}
    assert any("words of 'code'" in note for note in dataset.notes)
    with pytest.raises(DataError, match=r"'id' has \d+ different words"):
        prepare(path, replace(SMALL, inputs="id"))
    with pytest.raises(DataError, match="another use"):
        prepare(path, replace(SMALL, inputs="none", words="visits"))
    frame.with_columns(pl.lit("x").alias("weather")).write_csv(path)
    with pytest.raises(DataError, match="'weather' has one word, or none"):
        prepare(path, replace(SMALL, inputs="weather"))
    with pytest.raises(DataError, match="no column 'wether'"):
        prepare(path, replace(SMALL, known="wether"))


def test_too_many_inputs_known_in_advance_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "MAX_KNOWN_FEATURES", 10)
    city().write_csv(tmp_path / "t.csv")
    with pytest.raises(
        DataError, match="3 words at 3 steps ahead would be 12 inputs, of at most 10"
    ):
        prepare(str(tmp_path / "t.csv"), replace(SMALL, known="weather"))


def test_words_and_columns_that_help_are_chosen(tmp_path):
    rng = np.random.default_rng(0)
    frame = delayed().with_columns(
        pl.Series("noise", rng.normal(size=900).round(3)),
        pl.Series("colour", rng.choice(["red", "blue"], 900)),
        pl.Series("city", ["Bern"] * 900),
    )
    frame.drop("code").write_csv(tmp_path / "t.csv")
    dataset = prepare(str(tmp_path / "t.csv"), SMALL)
    assert dataset.codec.inputs == ()
    assert list(dataset.codec.words) == ["weather"]
    (note,) = [note for note in dataset.notes if note.startswith("inputs=weather chosen")]
    assert "--set inputs=all uses noise,colour too" in note
    every = prepare(str(tmp_path / "t.csv"), replace(SMALL, inputs="all"))
    assert every.codec.inputs == ("noise",)
    assert set(every.codec.words) == {"weather", "colour"}


def test_a_model_with_words_is_exported(present):
    onnxruntime = pytest.importorskip("onnxruntime")
    _, file, _ = present
    exported = FORECAST.exporters["onnx"].write(file, "words")
    (content,) = (part for name, part in exported.files.items() if name.endswith(".onnx"))
    run = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    codec = file.codec
    x = codec.encode(codec.read(delayed(50, seed=7), "t"))
    state = {k: v.numpy() for k, v in file.model.initial_state(1).asdict().items()}
    quantiles = run.run(["quantiles"], {"x": x[None], **state})[0]
    ours = file.model.run(x, np.zeros(50, np.int64), np.arange(50))
    np.testing.assert_allclose(quantiles[0], ours, atol=1e-4)
    header = FORECAST.exporters["c"].write(file, "words").files["words.h"]
    at = codec.words_at
    assert f"x[{at}]  weather is {codec.words['weather'][0]}: 1 if so, else 0\n" in header
    assert f"x[{at + 3}]  weather is another word: 1 if so, else 0\n" in header
