"""Anomaly detection against closed forms, other libraries and independent computations."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Categorical, StudentT
from typer.testing import CliRunner

from memorycell import proof
from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.batches import slow_variation
from memorycell.applications.anomaly.codec import longest_run, run_lengths
from memorycell.applications.anomaly.columns import Columns, Recording
from memorycell.applications.anomaly.fitting import fit_codec
from memorycell.applications.anomaly.head import NextRow
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.predict import PredictOptions, predict, read_recordings
from memorycell.applications.anomaly.prepare import prepare
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.score import exponential_average, normal_deviates
from memorycell.applications.anomaly.scoring import flagged_ranges, score_recording
from memorycell.applications.anomaly.session import AnomalySession, StreamOptions
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.source import infer_columns
from memorycell.applications.anomaly.splits import split_recordings
from memorycell.cli.verbs import app
from memorycell.errors import DataError, StateError
from memorycell.models.quantiles import tail_quantile
from memorycell.setting_fields import parse_settings, settings_from_json
from memorycell.streaming.stream import Stream
from memorycell.tables.times import TimeColumns
from memorycell.training import loop as training
from memorycell.training import metrics

ANOMALY = catalogue.load("anomaly")
run = CliRunner().invoke
MACHINE = {
    "label": "fault",
    "hidden": "24",
    "epochs": "16",
    "bptt": "100",
    "smooth": "1",
    "corrupt": "0",
    "drift": "0",
}


def test_head_likelihood_equals_torch_distributions():
    torch.manual_seed(0)
    head = NextRow(5, 3, (4, 2), window=2)
    torch.nn.init.normal_(head.recurrent.weight, std=0.4)
    hidden, window = torch.randn(2, 7, 5), torch.randn(2, 7, 2, 3)
    target = torch.cat(
        [torch.randn(2, 7, 3), torch.randint(0, 4, (2, 7, 1)), torch.randint(0, 2, (2, 7, 1))], -1
    )
    y = head(hidden, window)
    out = head.recurrent(hidden)
    mean = out[..., :3] + 0.5 * window[..., -1, :]
    expected = [-StudentT(5.0, mean, out[..., 3:6].exp()).log_prob(target[..., :3])]
    expected += [-Categorical(logits=out[..., 6:10]).log_prob(target[..., 3])[..., None]]
    expected += [-Categorical(logits=out[..., 10:]).log_prob(target[..., 4])[..., None]]
    torch.testing.assert_close(head.nats(y, target), torch.cat(expected, -1))
    target[0, 0] = torch.nan
    assert torch.equal(head.nats(y, target)[0, 0], torch.zeros(5))


def test_deviates_of_predicted_rows_are_normal():
    u = np.concatenate([np.linspace(-8, 8, 101), [100.0, -1000.0]])
    y = np.tile(np.array([[0.5, np.log(2.0)]], np.float32), (len(u), 1))
    found = normal_deviates(y, (0.5 + 2 * u)[:, None], np.zeros((len(u), 0), int), ())[:, 0]
    tail = stats.t(5).sf(np.abs(u))
    exact = np.sign(u) * stats.norm.isf(tail)
    np.testing.assert_allclose(found, exact, atol=0.03, rtol=0.03)  # Wallace's approximation


def test_category_deviate_has_its_density():
    y = np.array([[0.0, 0.0, np.log(0.25), np.log(0.75)]], np.float32)
    found = normal_deviates(y, np.array([[np.nan]]), np.array([[0]]), (2,))[0]
    assert np.isnan(found[0])
    assert found[1] ** 2 / 2 == pytest.approx(-np.log(0.25))


@pytest.mark.parametrize(
    "law", [stats.expon(), stats.genpareto(0.2), stats.uniform(), stats.chi2(8)]
)
def test_tail_quantile_extrapolates(law):
    rng = np.random.default_rng(0)
    found = [tail_quantile(law.rvs(1000, random_state=rng), 1e-3) for _ in range(60)]
    assert np.median(found) == pytest.approx(law.isf(1e-3), rel=0.12)
    many = law.rvs(200_000, random_state=rng)
    assert tail_quantile(many, 1e-3) == pytest.approx(law.isf(1e-3), rel=0.12)
    with pytest.raises(ValueError, match="20 values"):
        tail_quantile(many[:10], 1e-3)


def test_detection_metrics_by_hand():
    labels = [np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 0], bool)]
    flagged = [np.array([0, 1, 0, 1, 1, 1, 0, 0, 0, 0], bool)]
    found = metrics.detection_metrics(flagged, [np.arange(10.0)], labels)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 3))
    assert found["far"] == pytest.approx(2 / 5)
    assert found["mar"] == pytest.approx(3 / 5)
    assert (found["delay"], found["found"]) == (1.0, 0.5)


@given(st.lists(st.sampled_from([1.0, 2.0, float("nan")]), max_size=30))
def test_run_lengths(values):
    runs, count = [], 0
    for k, value in enumerate(values):
        count = 0 if np.isnan(value) else (count + 1 if k and values[k - 1] == value else 1)
        runs.append(count)
    assert run_lengths(np.array(values)).tolist() == runs
    assert longest_run(np.array(values)) == max(runs, default=0)


# ---- synthetic data ------------------------------------------------------------------------------


def sensors(rows: int = 1500, seed: int = 0) -> pl.DataFrame:
    """Two sensors on a circle, and noise; in rows 1200 to 1260 the points of the circle come in
    random order.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    broken = (t >= 1200) & (t < 1260)
    phase = np.where(broken, rng.permutation(rows), t) / 9
    swing, follow = (f(phase) + 0.05 * rng.normal(size=rows) for f in (np.sin, np.cos))
    stamps = [f"2026-01-{1 + k // 1440:02d} {k // 60 % 24:02d}:{k % 60:02d}:00" for k in t]
    return pl.DataFrame(
        {
            "time": stamps,
            "swing": swing,
            "follow": follow,
            "noise": rng.normal(size=rows),
            "fault": broken.astype(int),
        }
    )


def cards(rows: int = 6000, seed: int = 0) -> pl.DataFrame:
    """Twenty cards, each of which buys bread, fuel and books in this order; a fraud breaks the
    order.
    """
    rng = np.random.default_rng(seed)
    order = ["bread", "fuel", "books"]
    price = {"bread": 3.0, "fuel": 50.0, "books": 20.0}
    at, table = rng.integers(0, 3, 20), []
    moment = 1_700_000_000
    for k in range(rows):
        card = int(rng.integers(20))
        moment += int(rng.integers(60, 600))
        fraud = k > 0.75 * rows and rng.random() < 0.04
        what = order[(at[card] + 1) % 3 if fraud else at[card]]
        at[card] = at[card] if fraud else (at[card] + 1) % 3
        table.append(
            (moment, f"card {card}", what, price[what] * np.exp(0.1 * rng.normal()), int(fraud))
        )
    return pl.DataFrame(
        table, schema=["when", "card", "what", "price", "fraud"], orient="row"
    ).with_columns(when=pl.from_epoch("when").dt.strftime("%Y-%m-%d %H:%M:%S"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    sensors().write_csv(folder / "m.csv")
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), MACHINE)
    result = training.train(ANOMALY, str(folder / "m.csv"), chosen, how, folder / "m.safetensors")
    return folder, result, modelfile.load(folder / "m.safetensors")


def test_detects_what_single_rows_do_not_show(machine):
    _, result, _ = machine
    assert result["primary"] == "f1"
    assert result["metrics"]["f1"] > 0.8
    assert result["metrics"]["f1"] > 1.5 * max(
        result["baselines"][m]["f1"] for m in ("mahalanobis", "isolation forest")
    )
    assert set(result["baselines"]) == set(ANOMALY.baselines)
    assert result["baselines"]["flag everything"]["mar"] == 0


def test_labels_do_not_affect_training(machine, tmp_path):
    _, _, file = machine
    sensors().with_columns(fault=1 - pl.col("fault")).write_csv(tmp_path / "m.csv")
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), MACHINE)
    training.train(ANOMALY, str(tmp_path / "m.csv"), chosen, how, tmp_path / "m.safetensors")
    again = modelfile.load(tmp_path / "m.safetensors").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in file.model.state_dict().items())


def test_row_by_row_equals_full_sequence(machine):
    folder, _, file = machine
    recording = read_recordings(file.codec, str(folder / "m.csv"))[0][0]
    recording.values[700:720, 1] = np.nan
    recording.values[800] = np.nan
    full = score_recording(file.model, file.codec, recording)
    scorer = RowScorer(file.model, file.codec, Stream(file.model, history=0))
    choices = file.codec.category_ids(recording.words)
    scores = []
    for values, own, time in zip(recording.values, choices, recording.time, strict=True):
        score, contributions, stuck = scorer.step(values, own, int(time))
        scores.append(score)
        assert score == pytest.approx(contributions.sum(), abs=1e-9)
        assert not stuck.any()
    np.testing.assert_allclose(scores, full.scores, rtol=1e-3, atol=1e-3)
    assert not full.stuck.any()


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 2),
    st.sampled_from([0, 60, 100]),
    st.sampled_from([1, 7]),
    st.sampled_from([0, 50]),
    st.integers(0, 9),
)
def test_row_by_row_equals_full_sequence_for_any_model(categories, settle, smooth, adapt, seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows, columns = 130, 3
    values = rng.normal(size=(rows, columns)) * [1, 10, 1000] + [0, 5, 1e4]
    values[rng.random(values.shape) < 0.05] = np.nan
    words = np.array(["", "x", "y", "z"], object)[rng.integers(0, 4, (rows, categories))]
    time = np.arange(rows) * 1_000_000
    recording = Recording("", time, values, words, None, np.arange(rows))
    names = tuple(f"k{j}" for j in range(categories))
    codec = fit_codec(
        Columns(("a", "b", "c"), names, TimeColumns(("t",))), settle, [recording], [recording]
    )
    assert codec.gappy
    assert codec.sizes == (4,) * categories
    model = Detector(
        DetectorConfig(
            input_size=codec.input_size,
            columns=columns,
            sizes=codec.sizes,
            hidden_size=9,
            window=4,
            smooth=smooth,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.center.fill_(0.2)
    model.threshold.fill_(4.0)
    full = score_recording(model.eval(), codec, recording, adapt=adapt)
    scorer = RowScorer(model, codec, Stream(model, history=0), adapt)
    choices = codec.category_ids(words)
    for k in range(rows):
        scored = scorer.step(values[k], choices[k], int(time[k]))
        if k < settle:
            assert scored is None
            continue
        assert scored.score == pytest.approx(full.scores[k], rel=2e-4, abs=2e-4)
        if not full.flagged[k]:
            scorer.adapt_level(values[k])
    assert scorer.threshold == pytest.approx(full.threshold, rel=1e-4)
    if not adapt:
        x, z, choices = codec.encode(recording)
        y = model.run(x)
        deviates = np.nan_to_num(normal_deviates(y[:-1], z[1:], choices[1:], codec.sizes))
        center = np.full(deviates.shape[1], 0.2)
        averaged = exponential_average(np.concatenate([center[None], deviates]), smooth, center)
        d = averaged - 0.2
        d[:, columns:] = np.maximum(d[:, columns:], 0)
        np.testing.assert_allclose(
            full.scores, 0.5 * (d**2).sum(1), rtol=1e-5, atol=1e-5
        )  # the inverse covariance is 1


def test_snapshot_and_restore(machine):
    _, _, file = machine
    rows = sensors(300).drop("fault").to_dicts()
    full, first, second = AnomalySession(file), AnomalySession(file), AnomalySession(file)
    expected = [full.step(row) for row in rows]
    answers = [first.step(row) for row in rows[:150]]
    second.restore(first.snapshot())
    with pytest.raises(StateError):
        second.restore(b"no state")
    assert answers + [second.step(row) for row in rows[150:]] == expected
    model = Detector(replace(file.model.config, smooth=2))
    other = AnomalySession(modelfile.ModelFile(model, file.codec, file.info))
    with pytest.raises(StateError):
        other.restore(first.snapshot())


def test_stuck_and_huge_readings_are_flagged_and_blamed(machine):
    _, _, file = machine
    rows = sensors(400, seed=3).drop("fault").to_dicts()
    live = AnomalySession(file)
    for row in rows[:300]:
        live.step(row)
    for row in rows[300:340]:
        row["noise"] = rows[299]["noise"]
        answer = live.step(row)
    assert answer["anomaly"]
    assert answer["stuck"] == ["noise"]
    for row in rows[340:345]:
        row["follow"] *= 1000
        answer = live.step(row)
    assert answer["anomaly"]
    assert next(iter(answer["blame"])) == "follow"
    for row in rows[345:350]:
        row["follow"] = 1e300
        assert np.isfinite(live.step(row)["score"])


def test_unreadable_rows_change_nothing(machine):
    _, _, file = machine
    rows = sensors(40).drop("fault").to_dicts()
    live, other = AnomalySession(file), AnomalySession(file)
    for row in rows[:20]:
        live.step(row), other.step(row)
    for change, message in (
        ({"swing": "warm"}, "'swing': 'warm' is not a finite number"),
        ({"swing": "inf"}, "'swing': 'inf' is not a finite number"),
        ({"time": rows[3]["time"]}, "the time goes back"),
        ({"time": "soon"}, "'soon' is not a time"),
    ):
        with pytest.raises(DataError, match=message):
            live.step({**rows[20], **change})
    with pytest.raises(DataError, match="no column 'swing'"):
        live.step({"time": rows[20]["time"]})
    assert live.step(rows[20]) == other.step(rows[20])


def test_prove(machine):
    _, _, file = machine
    dataset = ANOMALY.reopen(None, file)
    found = proof.prove(file, dataset.sample(150), exports=())
    assert found.ok, found
    assert {c.precision for c in found.checks} == {"float32", "bfloat16", "int8"}


def test_predict(machine):
    folder, _, file = machine
    record = predict(file, str(folder / "m.csv"), PredictOptions())
    (one,) = record["recordings"]
    worst = max(one["anomalies"], key=lambda a: a["rows"])
    assert 1195 <= worst["row"] <= 1262
    assert {"swing", "follow"} >= set(worst["blame"])
    assert flagged_ranges(np.array([1, 1, 0, 1], bool)) == [(0, 1), (3, 3)]


# ---- events --------------------------------------------------------------------------------------


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


# ---- reading -------------------------------------------------------------------------------------


def test_columns_are_inferred():
    frame = cards(200).with_columns(
        note="n" + pl.int_range(200).cast(pl.String) + "x", same=pl.lit(3)
    )
    columns, notes = infer_columns(frame, "t.csv", group="card", label="fraud")
    assert (columns.numbers, columns.categories, columns.times.columns) == (
        ("price", "(gap)"),
        ("what",),
        ("when",),
    )
    assert [n.split(" left out")[0] for n in notes] == ["column 'same'", "column 'note'"]
    columns, _ = infer_columns(sensors(100), "t.csv", label="fault")
    assert (columns.numbers, columns.categories) == (("swing", "follow", "noise"), ())


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        ({}, {"label": "nothing"}, "no column 'nothing'"),
        ({"fault": 2}, {"label": "fault"}, "row 1, column 'fault': '2' is not a label"),
        ({"swing": "x"}, {"columns": "swing,noise"}, "'x' is not a number"),
        ({"swing": 1.0}, {"columns": "swing,noise"}, "column 'swing' is always the same"),
        ({}, {"settle": "2000"}, "no recording is longer than settle=2000"),
        (
            {"time": "2026-01-01 00:00:00"},
            {"group": "swing"},
            "no recording has rows to train on",
        ),
    ],
)
def test_unusable_tables(tmp_path, change, params, message):
    frame = sensors(300)
    if change == {"swing": "x"}:
        words = frame["swing"].cast(pl.String).to_list()
        frame = frame.with_columns(swing=pl.Series([*words[:200], "x", *words[201:]]))
    else:
        frame = frame.with_columns(**{name: pl.lit(value) for name, value in change.items()})
    frame.write_csv(tmp_path / "t.csv")
    result = run(
        app,
        [
            "train",
            "anomaly",
            str(tmp_path / "t.csv"),
            "--out",
            str(tmp_path / "o.safetensors"),
            *(x for k, v in params.items() for x in ("--set", f"{k}={v}")),
        ],
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "o.safetensors").exists()


def test_time_must_not_go_back(tmp_path):
    frame = sensors(200)
    pl.concat([frame[:100], frame[50:]]).write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="row 101: the time goes back.*group=COLUMN"):
        prepare(str(tmp_path / "t.csv"), AnomalySettings(label="fault"))


def test_missing_column_in_another_table(machine, tmp_path):
    folder, _, _ = machine
    sensors(200).drop("swing").write_csv(tmp_path / "t.csv")
    result = run(app, ["predict", str(folder / "m.safetensors"), str(tmp_path / "t.csv")])
    assert result.exit_code == 2
    assert "no column 'swing', which the model reads" in result.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "settle=5",
        "budget=0",
        "budget=0.9",
        "drift=-1",
        "corrupt=1",
        "adapt=-1",
        "gap=maybe",
        "smooth=0",
        "scales=0",
    ],
)
def test_invalid_settings(wrong):
    result = run(app, ["train", "anomaly", "x.csv", "--set", wrong])
    assert result.exit_code == 2
    assert wrong.split("=")[0] in result.stderr


def test_only_numbers_of_recordings_that_settle_drift_in_training(tmp_path):
    sensors(400).drop("fault", strict=False).write_csv(tmp_path / "s.csv")
    cards(8000).write_csv(tmp_path / "c.csv")
    for name, params, drift in (
        ("s", {}, 0.0),
        ("s", {"settle": 60}, 2.0),
        ("s", {"settle": 60, "drift": 0.5}, 0.5),
        ("c", {"group": "card", "label": "fraud", "settle": 60}, 0.0),
    ):
        dataset = prepare(str(tmp_path / f"{name}.csv"), AnomalySettings(**params))
        assert dataset.settings.drift_scale(bool(dataset.codec.categories)) == drift
        scale = slow_variation(dataset.recordings, dataset.settings.bptt) * drift
        assert (dataset._batches._drift is None) == (drift == 0)
        assert drift == 0 or np.array_equal(dataset._batches._drift, scale)


def test_gap_setting_of_earlier_versions():
    assert settings_from_json(AnomalySettings, {"gap": "yes"}).gap is True
    assert settings_from_json(AnomalySettings, {"gap": None}).gap is None
    assert parse_settings((AnomalySettings(),), {"gap": "no"})[0].gap is False


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


# ---- commands -----------------------------------------------------------------------------------


def test_commands_without_labels(tmp_path):
    sensors(900).drop("fault").write_csv(tmp_path / "t.csv")
    out = tmp_path / "o.safetensors"
    result = run(
        app,
        [
            "train",
            "anomaly",
            str(tmp_path / "t.csv"),
            "--out",
            str(out),
            "--json",
            "--set",
            "epochs=2",
            "--set",
            "hidden=8",
            "--set",
            "adapt=100",
        ],
    )
    assert result.exit_code == 0, result.stderr
    trained = json.loads(result.stdout.splitlines()[-1])
    assert trained["primary"] == "nats"
    assert not trained["higher"]
    assert set(trained["metrics"]) == {"flagged", "nats"}
    again = json.loads(run(app, ["evaluate", str(out), "--json"]).stdout.splitlines()[-1])
    assert again["metrics"] == pytest.approx(trained["metrics"])
    page = tmp_path / "p.html"
    result = run(app, ["predict", str(out), str(tmp_path / "t.csv"), "--out", str(page)])
    assert result.exit_code == 0, result.stderr
    assert "rows flagged" in result.stdout
    assert "rows flagged" in page.read_text()
    result = run(
        app, ["predict", str(out), str(tmp_path / "t.csv"), "--out", str(tmp_path / "p.png")]
    )
    assert result.exit_code == 2
    lines = (tmp_path / "t.csv").read_text().splitlines()
    result = run(app, ["stream", str(out)], input="\n".join(lines[:30]))
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 29
    assert set(answers[-1]) == {"time", "score", "threshold", "anomaly"}
    assert run(app, ["inspect", str(out), "--out", str(tmp_path / "i.html")]).exit_code == 0


def test_a_folder_of_recordings_with_their_own_levels(tmp_path):
    for k in range(3):
        frame = sensors(500, seed=k).with_columns(
            pl.col("swing") + 100 * k, fault=(pl.int_range(500) >= 450).cast(int)
        )
        (frame.drop("fault") if k == 2 else frame).write_csv(tmp_path / f"{k}.csv")
    log: list[str] = []
    chosen, how = parse_settings(
        (AnomalySettings(), ANOMALY.training),
        {"label": "fault", "settle": "200", "epochs": "1", "hidden": "8"},
    )
    out = tmp_path / "o.safetensors"
    result = training.train(ANOMALY, str(tmp_path), chosen, how, out, log=log.append)
    assert any("1 of 3 tables, without the column 'fault': 2.csv" in line for line in log)
    assert result["baselines"]["flag everything"]["f1"] == pytest.approx(2 * 50 / (2 * 50 + 250))
    live = AnomalySession(modelfile.load(out))
    answers = [live.step(row) for row in sensors(220, seed=5).to_dicts()]
    assert [a.get("settling") for a in answers[:200]] == list(range(199, -1, -1))
    assert all("score" in a for a in answers[200:])


@pytest.mark.data
@pytest.mark.slow
def test_skab_beats_every_baseline(public_data, tmp_path):
    chosen, how = parse_settings((AnomalySettings(), ANOMALY.training), {"epochs": "24"})
    result = training.train(ANOMALY, "skab", chosen, how, tmp_path / "s.safetensors")
    baselines = result["baselines"]
    assert baselines["flag everything"]["f1"] == pytest.approx(0.698, abs=0.001)
    assert result["metrics"]["f1"] > max(scores["f1"] for scores in baselines.values())
    assert result["metrics"]["far"] < baselines["mahalanobis"]["far"]
