"""Predictions of sequences as records, tables and pages; occlusion and inspection."""

import io

import numpy as np
import polars as pl
import pytest

import memorycell
from memorycell.applications.sequences import APPLICATION
from memorycell.applications.sequences.earliness import NEVER
from memorycell.applications.sequences.occlusion import occlude
from memorycell.applications.sequences.predict import (
    PredictOptions,
    answer_columns,
    predict,
    render,
    to_csv,
    to_parquet,
)
from memorycell.applications.sequences.prepare import reopen
from memorycell.errors import DataError


@pytest.fixture(scope="module")
def classes(class_model):
    """(model file, prediction of its table)."""
    _, file, table = class_model
    return file, predict(file, str(table), PredictOptions())


def test_probabilities_by_class(classes):
    _, record = classes
    assert record["kind"] == "class"
    assert len(record["sequences"]) == 44
    for one in record["sequences"]:
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=2e-4)
        assert one["p"] == max(one["probabilities"].values())
        assert one["probabilities"][one["label"]] == one["p"]
        assert one["sure_after"] is None or 0 < one["sure_after"] <= one["steps"]


def test_labels_are_not_needed_and_columns_may_be_anywhere(class_model, classes, tmp_path):
    _, file, table = class_model
    frame = pl.read_csv(table).drop("y").with_columns(extra=pl.lit(3))
    frame = frame.select("mode", "extra", "b", "site", "a", "step", "recording")
    path = tmp_path / "new.csv"
    frame.write_csv(path)
    again = predict(file, str(path), PredictOptions())
    assert again["sequences"] == classes[1]["sequences"]
    frame.drop("b").write_csv(path)
    with pytest.raises(DataError, match="'?b'?"):
        predict(file, str(path), PredictOptions())


def test_tables_of_answers(classes, number_model, steps_model):
    file, record = classes
    table = pl.read_csv(io.BytesIO(to_csv(file, record)))
    assert table.columns == ["sequence", "label", "p", "p down", "p up"]
    assert table["label"].to_list() == [one["label"] for one in record["sequences"]]
    assert pl.read_parquet(io.BytesIO(to_parquet(file, record))).equals(table)
    _, file, source = number_model
    columns = answer_columns(file, predict(file, str(source), PredictOptions()))
    assert list(columns) == ["sequence", "y", "y low80", "y high80"]
    low, middle, high = (np.array(columns[name]) for name in ("y low80", "y", "y high80"))
    assert ((low <= middle) & (middle <= high)).all()
    _, file, source = steps_model
    columns = answer_columns(file, predict(file, str(source), PredictOptions()))
    rows = pl.read_csv(source).height
    assert {len(values) for values in columns.values()} == {rows}
    assert columns["step"][:3] == [1, 2, 3]


def test_text_for_people_hides_control_characters(classes):
    _, record = classes
    first = {**record["sequences"][0], "name": "a\x1b[31m\nb"}
    text = render({**record, "sequences": [first]})
    assert "\x1b" not in text
    assert text.count("\n") == len(record["notes"])


def test_occlusion_finds_the_half_that_decides(class_model):
    """`a` in the second half decides; `b` is noise."""
    _, file, _ = class_model
    part = reopen(None, file).part("train")
    effects = []
    for k in range(12):
        found = occlude(file.model, file.codec, part.values[k], part.static[k])
        a, b = (found.channels.index(name) for name in ("a", "b"))
        late = found.edges[:-1] >= len(part.values[k]) // 2
        effects.append([np.abs(found.effect[a, late]).sum(), np.abs(found.effect[b]).sum()])
        assert found.edges[0] == 0
        assert found.edges[-1] == len(part.values[k])
    decides, noise = np.mean(effects, 0)
    assert decides > 1.5 * noise


@pytest.mark.parametrize("name", ["class_model", "number_model", "steps_model"])
def test_pages(name, request, tmp_path):
    pytest.importorskip("plotly")
    result, file, table = request.getfixturevalue(name)
    record = predict(file, str(table), PredictOptions())
    page = APPLICATION.figures[".html"](file, record)
    assert "least certain are shown" in page
    report = APPLICATION.report(file, None, {**result, "skill": None})
    figures = report.figures()
    assert "reliability" in figures
    assert ("residuals" in figures) == (name != "class_model")


def test_hostile_names_are_escaped(class_model):
    pytest.importorskip("plotly")
    _, file, table = class_model
    record = predict(file, str(table), PredictOptions())
    record["notes"] = ["<script>alert(1)</script>"]
    assert "<script>alert(1)</script>" not in APPLICATION.figures[".html"](file, record)


def test_inspection_begins_with_what_mattered(class_model):
    pytest.importorskip("plotly")
    _, file, table = class_model
    found = APPLICATION.inspect(file, str(table))
    assert found.sections[0].title == "The steps that mattered"
    assert "The steps that mattered" in found.page()
    assert any("first of 2 members" in note for note in found.notes)


def test_from_python(tmp_path):
    """Arrays of several lengths in, frames out."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2)) + (k % 2) for k, n in enumerate(rng.integers(5, 9, 30))]
    y = ["odd" if k % 2 else "even" for k in range(30)]
    model = memorycell.train(
        "sequences",
        list(zip(x, y, strict=True)),
        epochs=2,
        lr=0.05,
        hidden=8,
        members=1,
        augment="none",
        progress=False,
    )
    assert model.metrics["accuracy"] >= 0.5
    record = model.predict(list(zip(x, y, strict=True)))  # the labels are not read
    assert [one["steps"] for one in record["sequences"]] == [len(own) for own in x]
    session = model.session()
    answers = [session.read(row) for row in x[0]]
    assert answers[-1].argmax() == model.codec.names.index(record["sequences"][0]["label"])


def test_evaluate_has_details_by_class(steps_model, class_model, tmp_path):
    _, file, _ = class_model
    dataset = reopen(None, file)
    details = dataset.details(file.model, "test")
    assert set(details["per_class"]) == {"down", "up"}
    assert details["sure"] == NEVER  # too few sequences for an early answer
    _, file, _ = steps_model
    assert set(reopen(None, file).details(file.model, "test")) <= {"per_sequence", "per_group"}
