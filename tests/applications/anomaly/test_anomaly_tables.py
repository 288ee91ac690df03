"""Anomaly detection on tables as people write them: columns, labels, scaling, bounds, output."""

import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.labels import read_labels
from memorycell.applications.anomaly.predict import PredictOptions, predict
from memorycell.applications.anomaly.prepare import prepare
from memorycell.applications.anomaly.session import AnomalySession
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.errors import DataError, StateError
from memorycell.state import State
from memorycell.training import loop as training

ANOMALY = catalogue.load("anomaly")
ROWS = 600


def machine(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Two sensors a minute apart; one column is constant, one only in the first 80% of the rows."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    return pl.DataFrame(
        {
            "time": [f"2026-03-{1 + k // 1440:02d} {k // 60 % 24:02d}:{k % 60:02d}" for k in t],
            "temp": 50 + np.sin(t / 5) + 0.1 * rng.normal(size=rows),
            "load": 1_237_445.25 + np.cos(t / 5) + 0.1 * rng.normal(size=rows),
            "const": 1,
            "late": (t > 0.8 * rows) * rng.normal(size=rows),
            "mode": rng.choice(["run", "idle"], rows),
            "site": "north",
            "part": np.where(t > 0.8 * rows, "b", "a"),
        }
    )


def written(tmp_path, frame: pl.DataFrame, name="t.csv"):
    frame.write_csv(tmp_path / name)
    return str(tmp_path / name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, model file) of a small detector."""
    folder = tmp_path_factory.mktemp("machine")
    written(folder, machine())
    how = TrainSettings(epochs=8, lr=0.01)
    settings = AnomalySettings(columns="temp,load", hidden=8, bptt=50, smooth=1)
    training.train(ANOMALY, str(folder / "t.csv"), settings, how, folder / "m.safetensors")
    return folder, modelfile.load(folder / "m.safetensors")


# ---- columns -------------------------------------------------------------------------------------


def test_constant_columns_are_left_out_with_a_note(tmp_path):
    dataset = prepare(written(tmp_path, machine()), AnomalySettings())
    assert dataset.codec.columns == ("temp", "load")
    assert list(dataset.codec.categories) == ["mode"]
    assert dataset.notes[:5] == [
        "column 'const' left out: it is always the same",
        "column 'site' left out: it is always the same",
        "column 'late' left out: it is constant or empty in the training rows",
        "the time between rows left out: it is always the same",
        "column 'part' left out: it is constant or empty in the training rows",
    ]
    with pytest.raises(DataError, match="column 'late' is constant.*remove it from --set"):
        prepare(str(tmp_path / "t.csv"), AnomalySettings(columns="temp,late"))
    assert prepare(str(tmp_path / "t.csv"), AnomalySettings(columns="temp")).codec.columns


def test_irregular_times_are_kept(tmp_path):
    frame = machine().with_row_index("k").filter(pl.col("k") % 7 != 3).drop("k")
    assert "(gap)" in prepare(written(tmp_path, frame), AnomalySettings()).codec.columns


def test_nothing_that_varies_is_refused(tmp_path):
    path = written(tmp_path, machine().select("time", "mode", "const"))
    with pytest.raises(DataError, match="no number varies in the training rows"):
        prepare(path, AnomalySettings())


@pytest.mark.parametrize(
    "settings", [{"columns": "temp,temp"}, {"columns": "temp,load", "label": "load"}]
)
def test_a_column_has_one_role(tmp_path, settings):
    with pytest.raises(DataError, match="column '(temp|load)' is named twice"):
        prepare(written(tmp_path, machine()), AnomalySettings(**settings))


def test_counters_and_indexes_are_no_inputs(tmp_path):
    frame = machine().with_columns(id=pl.int_range(7, 7 + ROWS)).with_row_index("")
    dataset = prepare(written(tmp_path, frame), AnomalySettings())
    assert not {"", "id"} & set(dataset.codec.columns)
    assert sum("left out: a" in note for note in dataset.notes) == 2
    named = prepare(str(tmp_path / "t.csv"), AnomalySettings(columns="temp,id"))
    assert named.codec.columns == ("temp", "id")


def test_numbers_with_decimal_commas_and_other_encodings(tmp_path):
    frame = machine()
    plain = prepare(written(tmp_path, frame), AnomalySettings(columns="temp,load"))
    with_commas = frame.select(
        "time",
        pl.col("temp").cast(pl.String).str.replace(".", ",", literal=True).alias("Wärme"),
        pl.col("load").cast(pl.String).str.replace(".", ",", literal=True),
    )
    text = with_commas.write_csv(separator=";")
    (tmp_path / "c.csv").write_bytes(text.encode("cp1252"))
    with pytest.raises(DataError, match=r"--set encoding=cp1252"):
        prepare(str(tmp_path / "c.csv"), AnomalySettings())
    dataset = prepare(str(tmp_path / "c.csv"), AnomalySettings(encoding="cp1252"))
    assert dataset.codec.columns == ("Wärme", "load")
    assert "column 'load': decimal comma" in dataset.notes
    np.testing.assert_array_equal(
        dataset.recordings[0].recording.values, plain.recordings[0].recording.values
    )
    again = ReadingsCodec.from_json(json.loads(json.dumps(dataset.codec.to_json())))
    assert again == dataset.codec
    (recording,) = again.read(pl.read_csv(text.encode(), separator=";", infer_schema=False), "c")
    np.testing.assert_array_equal(recording.values, plain.recordings[0].recording.values)


def test_answers_have_the_zone_of_the_file(tmp_path):
    frame = machine().with_columns(pl.col("time") + ":00+05:30")
    dataset = prepare(written(tmp_path, frame), AnomalySettings(columns="temp,load"))
    first = dataset.recordings[0].recording.time[0]
    assert dataset.codec.format_time(int(first)) == "2026-03-01 00:00:00+05:30"


def test_labels():
    def labels(*values, dtype=None):
        return read_labels(pl.Series("fault", list(values), dtype=dtype), "t.csv").tolist()

    for normal, anomaly in (
        ("0", "1"),
        ("0.0", "1.0"),
        ("False", "True"),
        ("normal", "Anomaly"),
        (" no", "YES "),
    ):
        assert labels(normal, anomaly, normal) == [False, True, False]
    assert labels(0, 1) == labels(0.0, 1.0) == labels(False, True) == [False, True]
    for wrong in ("2", "maybe", "", None, "nan"):
        with pytest.raises(DataError, match="row 2, column 'fault'.*is not a label"):
            labels("0", wrong)
    with pytest.raises(DataError, match="0.5 is not a label"):
        labels(0.5)


@pytest.mark.parametrize(("label", "word"), [(0, "normal"), (1, "an anomaly")])
def test_labels_that_are_all_the_same_are_reported(tmp_path, label, word):
    frame = machine().with_columns(fault=pl.lit(label))
    dataset = prepare(written(tmp_path, frame), AnomalySettings(label="fault"))
    assert f"every test row is labelled {word}: detection cannot be measured" in dataset.notes
    model = dataset.build()
    dataset.fit_score(model)
    assert math.isfinite(dataset.evaluate(model, "test")["f1"])


# ---- scaling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("settle", [0, 200])
def test_scaling_comes_from_training_rows_alone(tmp_path, settle):
    frame = machine().select("time", "temp", "load")
    settings = AnomalySettings(settle=settle)
    before = prepare(written(tmp_path, frame), settings)
    split = before.recordings[0].split
    train = before.recordings[0].recording.values[split == 0]
    t = np.arange(ROWS)
    other = frame.with_columns(
        pl.when(pl.Series(split == 0)).then("load").otherwise(pl.Series(1e9 + t)).alias("load")
    )
    after = prepare(written(tmp_path, other), settings)
    assert (after.codec.mean, after.codec.std) == (before.codec.mean, before.codec.std)
    np.testing.assert_allclose(before.codec.mean, train.mean(0))
    np.testing.assert_allclose(before.codec.std, train.std(0))
    if not settle:
        assert after.codec.change == before.codec.change


# ---- live ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("absurd", [1e38, -1e38, 1e300, 1e9])
def test_one_absurd_reading_is_flagged_and_has_no_effect_later(trained, absurd):
    _, file = trained
    rows = machine(seed=1).select("time", "temp", "load").to_dicts()
    live, other = AnomalySession(file), AnomalySession(file)
    for row in rows[:200]:
        live.step(row), other.step(row)
    answer = live.step({**rows[200], "temp": absurd})
    other.step({**rows[200], "temp": None})
    assert answer["anomaly"]
    assert answer["score"] > 3 * answer["threshold"]
    assert next(iter(answer["blame"])) == "temp"
    for row in rows[201:260]:
        ours, theirs = live.step(row), other.step(row)
        assert ours["anomaly"] == theirs["anomaly"]
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("missing", [None, "", "NaN", math.nan, pd.NaT, pd.NA, np.nan])
def test_missing_values_of_other_libraries(trained, missing):
    _, file = trained
    rows = machine(40).select("time", "temp", "load").to_dicts()
    live, other = AnomalySession(file), AnomalySession(file)
    for row in rows[:20]:
        live.step(row), other.step(row)
    assert live.step({**rows[20], "temp": missing}) == other.step({**rows[20], "temp": None})
    with pytest.raises(DataError, match="time .* is missing"):
        live.step({**rows[21], "time": missing})
    moment = np.datetime64("2026-03-01T00:21")
    assert live.step({**rows[21], "time": moment}) == other.step(rows[21])
    assert live.step({**rows[22], "time": pd.Timestamp(rows[22]["time"])}) == other.step(rows[22])


def test_text_instead_of_a_number_names_the_line(trained):
    _, file = trained
    live = AnomalySession(file)
    live.feed("time,temp,load")
    live.feed("2026-03-01 00:00,50,1237445")
    with pytest.raises(DataError, match="line 3, column 'temp': 'warm' is not a finite number"):
        live.feed("2026-03-01 00:01,warm,1237445")


# ---- output --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_are_written_in_full_precision(trained, memorycell, tmp_path, suffix):
    folder, file = trained
    frame = machine(300, seed=2).with_columns(
        temp=pl.when(pl.int_range(300) == 250).then(1e6).otherwise("temp")
    )
    path, out = written(tmp_path, frame), tmp_path / f"scores{suffix}"
    status, _, err = memorycell("predict", folder / "m.safetensors", path, "--out", out)
    assert status == 0, err
    table = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    assert table.columns == ["row", "time", "score", "threshold", "anomaly", "blame"]
    assert table["row"].to_list() == list(range(1, 301))
    assert table["time"][250] == "2026-03-01 04:10:00"
    live = AnomalySession(file)
    answers = [live.step(row) for row in frame.to_dicts()]
    np.testing.assert_allclose(table["score"], [a["score"] for a in answers], rtol=1e-3, atol=1e-3)
    assert table["anomaly"].to_list() == [a["anomaly"] for a in answers]
    assert table["anomaly"][250]
    assert next(iter(json.loads(table["blame"][250]))) == "temp"
    assert table["blame"].null_count() == 300 - table["anomaly"].sum()
    record = predict(file, path, PredictOptions())
    (one,) = record["recordings"]
    assert one["threshold"] == table["threshold"][0] == float(file.model.threshold)
    assert max(a["peak"] for a in one["anomalies"]) == table["score"].max()


def test_settling_rows_have_no_score(tmp_path):
    frame = pl.concat([machine(200, k).with_columns(unit=pl.lit(f"m{k}")) for k in range(3)])
    path = written(tmp_path, frame)
    settings = AnomalySettings(columns="temp,load", group="unit", settle=80, hidden=4, gap=False)
    how = TrainSettings(epochs=1)
    training.train(ANOMALY, path, settings, how, tmp_path / "m.safetensors")
    file = modelfile.load(tmp_path / "m.safetensors")
    record = predict(file, path, PredictOptions())
    table = pl.read_csv(ANOMALY.figures[".csv"](file, record))
    assert table.columns[0] == "recording"
    assert table["recording"].unique(maintain_order=True).to_list() == ["m0", "m1", "m2"]
    assert table["score"].is_null().to_list() == ([True] * 80 + [False] * 120) * 3
    assert table["anomaly"].null_count() == 240


# ---- descriptions --------------------------------------------------------------------------------


WRONG_CODECS = [
    {"columns": []},
    {"columns": ["temp", "temp"]},
    {"columns": ["temp"]},
    {"columns": "temp"},
    {"columns": ["temp", "(gap)"], "times": None},
    {"columns": ["(gap)", "temp"]},
    {"categories": {"temp": ["a"]}},
    {"categories": {"m": ["a", "a"]}},
    {"categories": {"m": [1]}},
    {"categories": {"m": [f"{k}" for k in range(65)]}},
    {"categories": []},
    {"group": "temp"},
    {"times": {"columns": ["temp"]}},
    {"times": {"columns": []}},
    {"times": "time"},
    {"settle": -1},
    {"settle": True},
    {"settle": 10**9},
    {"mean": [0.0]},
    {"mean": [0.0, "1"]},
    {"mean": [0.0, 1e200]},
    {"std": [1.0, 0.0]},
    {"std": [1.0, -1.0]},
    {"std": [1.0, True]},
    {"change": [1.0, 1e-300]},
    {"longest": [1, 1.5]},
    {"longest": [1]},
    {"gappy": ["x"]},
    {"gappy": ["temp", "temp"]},
    {"cycles": ["month"]},
    {"cycles": ["day"], "times": None},
    {"formats": {"x": {"decimal": ","}}},
    {"formats": {"temp": {"decimal": "!"}}},
    {"more": 1},
]


@pytest.mark.parametrize("change", WRONG_CODECS)
def test_invalid_codecs(trained, change):
    data = json.loads(json.dumps(trained[1].codec.to_json()))
    assert ReadingsCodec.from_json(data) == trained[1].codec
    with pytest.raises(ValueError, match="."):
        ReadingsCodec.from_json({**data, **change})


@pytest.mark.parametrize("name", ["columns", "categories", "settle", "mean", "longest", "group"])
def test_codecs_without_a_field(trained, name):
    data = json.loads(json.dumps(trained[1].codec.to_json()))
    del data[name]
    with pytest.raises(ValueError, match=name):
        ReadingsCodec.from_json(data)


WRONG_MEMORIES = [
    {"mean": [0.0]},
    {"mean": ["nan", 0.0]},
    {"mean": ["x", 0.0]},
    {"std": [0.0, 1.0]},
    {"_runs": [-1.0, 0.0]},
    {"_smoothed": [0.0, "inf"]},
    {"_filled": [True, 0.0]},
    {"rows": -1},
    {"rows": 0},
    {"rows": "7"},
    {"y": None},
    {"y": [0.0]},
    {"y": [0.0, 0.0, 600.0, 0.0]},
    {"y": [0.0, 0.0, 0.0, "nan"]},
    {"threshold": []},
    {"threshold": ["nan"]},
    {"begun": [[0, [0.0, 0.0], []]]},
    {"time": None},
    {"time": 1e300},
]


@pytest.mark.parametrize("change", WRONG_MEMORIES)
def test_invalid_states(trained, change):
    _, file = trained
    rows = machine(40).select("time", "temp", "load").to_dicts()
    live, other = AnomalySession(file), AnomalySession(file)
    for row in rows[:20]:
        live.step(row)
    state, extra = State.from_bytes(live.snapshot())
    print_of = live._initial.fingerprint
    other.restore(state.to_bytes(fingerprint=print_of, extra=extra))
    changed = {**extra, "memory": [{**extra["memory"][0], **change}]}
    with pytest.raises(StateError, match="not the state of an anomaly session"):
        other.restore(state.to_bytes(fingerprint=print_of, extra=changed))
    for wrong in ({"names": []}, {"names": ["", "x"]}, {"unknown": {"x": 1}}, {"memory": 5}):
        with pytest.raises(StateError, match="not the state of an anomaly session"):
            other.restore(state.to_bytes(fingerprint=print_of, extra={**extra, **wrong}))
    assert [live.step(row) for row in rows[20:]] == [other.step(row) for row in rows[20:]]


def test_states_of_settling_recordings_are_checked(tmp_path):
    path = written(tmp_path, machine(300).select("time", "temp", "mode"))
    dataset = prepare(path, AnomalySettings(settle=100, hidden=4))
    torch.manual_seed(0)
    file = modelfile.ModelFile(dataset.build().eval(), dataset.codec, {})
    live, other = AnomalySession(file), AnomalySession(file)
    rows = machine(300, seed=3).to_dicts()
    for row in rows[:50]:
        live.step(row)
    state, extra = State.from_bytes(live.snapshot())
    print_of = live._initial.fingerprint
    (memory,) = extra["memory"]
    time, values, choices = memory["begun"][0]
    for wrong in (
        memory["begun"][1:],
        [[time, values, [99]], *memory["begun"][1:]],
        [[time, values, []], *memory["begun"][1:]],
        [[time, [*values, 0.0], choices], *memory["begun"][1:]],
        [[2.5, values, choices], *memory["begun"][1:]],
    ):
        changed = {**extra, "memory": [{**memory, "begun": wrong}]}
        with pytest.raises(StateError):
            other.restore(state.to_bytes(fingerprint=print_of, extra=changed))
    other.restore(live.snapshot())
    assert [live.step(row) for row in rows[50:]] == [other.step(row) for row in rows[50:]]
