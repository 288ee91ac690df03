"""Live forecasts: steps, chunks and restored states give the numbers of the full sequence."""

import numpy as np
import pytest
import torch

import memorycell
from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.predict import forecast_table
from memorycell.applications.forecast.session import ForecastSession
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.cells import CELLS
from memorycell.errors import DataError, StateError
from memorycell.tables.table import read_table
from memorycell.training import loop as training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small forecaster of an hourly series with gaps and missing values, and its rows."""
    folder = tmp_path_factory.mktemp("live")
    rng = np.random.default_rng(0)
    hours = np.cumsum(rng.choice([1, 1, 1, 1, 2, 5], size=500))
    stamps = np.datetime64("2024-01-01T00:00:00") + hours * np.timedelta64(1, "h")
    lines = ["time,y,x"]
    for stamp, hour in zip(stamps, hours, strict=True):
        y = f"{10 * np.sin(hour / 4) + rng.normal():.3f}" if rng.random() > 0.05 else ""
        lines.append(f"{str(stamp).replace('T', ' ')},{y},{rng.normal():.3f}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    settings = ForecastSettings(target="y", inputs="x", hidden=8, horizon=5, context=30, bptt=24)
    training.train(
        catalogue.load("forecast"),
        str(folder / "rows.csv"),
        settings,
        TrainSettings(epochs=2),
        folder / "m.safetensors",
    )
    return folder


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_a_model_of_every_cell_steps_as_it_runs_whole(cell):
    torch.manual_seed(0)
    model = Forecaster(
        ForecasterConfig(input_size=4, hidden_size=7, horizon=3, num_layers=2, window=5, cell=cell)
    )
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(40, 4)
    whole = model.eval()(x[None])[0][0].detach()
    stream = memorycell.stream(model)
    steps = torch.stack(
        [stream.step(row) for row in x[:20]]
        + list(stream.step(x[20:33]))
        + list(stream.step(x[33:]))
    )
    assert float((steps - whole).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_torchs_own_layers_stream(kind):
    layer = getattr(torch.nn, kind)(3, 5, 2)
    x = torch.randn(9, 1, 3)
    stream = memorycell.stream(layer)
    steps = torch.from_numpy(np.stack([stream.step(row.numpy()) for row in x[:, 0]]))
    torch.testing.assert_close(steps, layer(x)[0][:, 0], rtol=0, atol=1e-6)


def test_state_is_kept_forked_and_taken_up(tmp_path):
    stream = memorycell.stream(memorycell.LSTM(3, 5, batch_first=True))
    x = torch.randn(12, 3)
    stream.step(x[:6])
    kept = stream.state.fork()
    stream.save(tmp_path / "s.bin", note=3)
    after = stream.step(x[6:])
    stream.state = kept
    assert torch.equal(stream.step(x[6:]), after)
    stream.reset()
    assert not torch.equal(stream.step(x[6:]), after)
    assert stream.load(tmp_path / "s.bin") == {"note": 3}
    assert torch.equal(stream.step(x[6:]), after)
    with pytest.raises(StateError, match="other weights"):
        memorycell.stream(memorycell.LSTM(3, 5)).load(tmp_path / "s.bin")


def test_bidirectional_layers_cannot_run_live():
    with pytest.raises(ValueError, match="needs the future"):
        memorycell.stream(memorycell.LSTM(3, 5, bidirectional=True))
    with pytest.raises(TypeError, match="expected a recurrent layer"):
        memorycell.stream(3)


def test_streamed_rows_give_the_forecasts_of_the_whole_table(trained):
    file = modelfile.load(trained / "m.safetensors")
    frame = read_table(trained / "rows.csv")
    series = file.codec.read(frame, "rows")
    at = np.flatnonzero(series.row >= 0)
    whole = file.codec.unscale(
        file.model.run(file.codec.encode(series), series.start, at).astype(float), [""] * len(at)
    )
    live = memorycell.stream(trained / "m.safetensors")
    for k, row in enumerate(frame.iter_rows(named=True)):
        answer = live.step(row)
        assert np.abs(live.quantiles - whole[k]).max() < 1e-4
    records, _ = forecast_table(file, frame, "rows")
    assert (records[0]["time"], records[0]["ahead"]) == (answer["time"], answer["ahead"])
    assert records[0]["forecast"]["y"]["median"] == pytest.approx(
        answer["forecast"]["y"]["median"], abs=1e-3
    )


def test_a_restored_session_continues_exactly(trained):
    file = modelfile.load(trained / "m.safetensors")
    rows = list(read_table(trained / "rows.csv").iter_rows(named=True))
    whole = ForecastSession(file)
    expected = [whole.step(row) for row in rows]
    header, *lines = (trained / "rows.csv").read_text().splitlines()
    first = ForecastSession(file)
    assert first.feed(header) == []
    got = [answer for line in lines[:217] for answer in first.feed(line)]
    second = ForecastSession(file)
    second.restore(first.snapshot())  # the header too
    assert got + [answer for line in lines[217:] for answer in second.feed(line)] == expected


def test_a_bad_row_changes_nothing(trained):
    file = modelfile.load(trained / "m.safetensors")
    rows = list(read_table(trained / "rows.csv").iter_rows(named=True))
    one, other = ForecastSession(file), ForecastSession(file)
    for row in rows[:50]:
        one.step(row)
        other.step(row)
    for wrong, words in (
        ({**rows[50], "y": "abc"}, "not a finite number"),
        ({**rows[50], "y": "inf"}, "not a finite number"),
        ({**rows[50], "time": "yesterday"}, "not a time"),
        ({**rows[50], "time": ""}, "missing"),
        ({**rows[50], "time": rows[3]["time"]}, "goes back"),
        ({**rows[50], "time": rows[49]["time"][:-5] + "17:00"}, "whole number of steps|goes back"),
        ({"time": rows[50]["time"], "y": "1"}, "no column 'x'"),
    ):
        with pytest.raises(DataError, match=words):
            one.step(wrong)
    assert one.step(rows[50]) == other.step(rows[50])


def test_series_of_one_stream_keep_apart(trained, tmp_path):
    frame = read_table(trained / "rows.csv")
    import polars as pl

    both = pl.concat([frame.with_columns(g=pl.lit("a")), frame[100:].with_columns(g=pl.lit("b"))])
    both.write_csv(tmp_path / "both.csv")
    settings = ForecastSettings(target="y", group="g", hidden=4, horizon=3, context=20)
    training.train(
        catalogue.load("forecast"),
        str(tmp_path / "both.csv"),
        settings,
        TrainSettings(epochs=1),
        tmp_path / "m.safetensors",
    )
    file = modelfile.load(tmp_path / "m.safetensors")
    mixed, alone = ForecastSession(file), ForecastSession(file)
    a, b = ([r for r in both.iter_rows(named=True) if r["g"] == g] for g in "ab")
    for k in range(60):
        answer = mixed.step(a[k])
        mixed.step(b[k])
        if k == 30:
            snapshot = mixed.snapshot()
            mixed = ForecastSession(file)
            mixed.restore(snapshot)
        assert answer == alone.step(a[k])
    assert answer["g"] == "a"
