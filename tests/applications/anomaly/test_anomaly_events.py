"""Anomalies in the events of many senders, each with a state of its own."""

import pytest
from anomaly_data import cards

from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.session import AnomalySession, StreamOptions
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import infer_columns
from memorycell.applications.anomaly.splits import split_recordings
from memorycell.setting_fields import parse_settings
from memorycell.training import loop as training

ANOMALY = catalogue.load("anomaly")


@pytest.fixture(scope="module")
def fraud(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fraud")
    cards().write_csv(folder / "c.csv")
    chosen, how = parse_settings(
        (AnomalySettings(), ANOMALY.training),
        {"label": "fraud", "group": "card", "epochs": "12", "bptt": "100", "dropout": "0"},
    )
    result = training.train(ANOMALY, str(folder / "c.csv"), chosen, how, folder / "c.safetensors")
    return folder, result, modelfile.load(folder / "c.safetensors")


def test_detects_broken_order(fraud):
    _, result, file = fraud
    assert file.codec.columns == ("price", "(gap)")
    assert set(file.codec.categories["what"]) == {"bread", "fuel", "books"}
    assert file.model.config.smooth == 1
    assert result["metrics"]["mar"] == 0
    assert result["metrics"]["far"] < 0.08  # the row after a fraud, at most
    assert result["metrics"]["auc_pr"] > 0.85
    assert result["metrics"]["f1"] > 0.5
    assert result["baselines"]["mahalanobis"]["f1"] < 0.3
    assert result["baselines"]["isolation forest"]["f1"] < 0.3


def test_unknown_categories_are_reported_and_counted(fraud):
    _, _, file = fraud
    rows = cards(400, seed=1).drop("fraud").to_dicts()
    live = AnomalySession(file)
    for row in rows[:300]:
        live.step(row)
    answers = [live.step({**row, "what": "diamonds"}) for row in rows[300:310]]
    assert all(a["unknown"] == ["what"] for a in answers)
    assert live.unknown == {"what": 10}
    assert sum(a["anomaly"] for a in answers) >= 8
    assert {a["card"] for a in answers} == {row["card"] for row in rows[300:310]}


def test_each_card_has_its_own_state(fraud):
    _, _, file = fraud
    rows = cards(300, seed=2).drop("fraud").to_dicts()
    together, alone = AnomalySession(file), AnomalySession(file)
    mixed = [together.step(row) for row in rows]
    card = rows[0]["card"]
    assert [a for a in mixed if a["card"] == card] == [
        alone.step(row) for row in rows if row["card"] == card
    ]
    half = AnomalySession(file)
    for row in rows[:150]:
        half.step(row)
    restored = AnomalySession(file, "float32", StreamOptions(0))
    restored.restore(half.snapshot())
    assert [restored.step(row) for row in rows[150:]] == mixed[150:]


def test_all_cards_are_split_at_the_same_times():
    frame = cards(1000)
    columns, _ = infer_columns(frame, "t", group="card", label="fraud")
    recordings = columns.read(frame, "t")
    splits, _ = split_recordings(recordings, AnomalySettings(group="card"), "t")
    last = max(
        int(r.time[s == 0].max()) for r, s in zip(recordings, splits, strict=True) if (s == 0).any()
    )
    first = min(
        int(r.time[s == 2].min()) for r, s in zip(recordings, splits, strict=True) if (s == 2).any()
    )
    assert last < first
