"""A series that begins after the training split, where each series has its own scale."""

import numpy as np

from memorycell.application import catalogue
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.training import loop


def test_it_is_scaled_by_its_own_rows(tmp_path):
    rng = np.random.default_rng(0)
    days = np.arange(np.datetime64("2024-01-01"), np.datetime64("2024-09-01"))
    rows = [f"{d},A,{10 + v:.2f}" for d, v in zip(days, rng.normal(size=len(days)), strict=True)]
    rows += [
        f"{d},late,{500 + 20 * v:.2f}" for d, v in zip(days[-9:], rng.normal(size=9), strict=True)
    ]
    table = tmp_path / "shops.csv"
    table.write_text("date,shop,sales\n" + "\n".join(rows) + "\n")
    settings = ForecastSettings(
        target="sales", group="shop", scaling="series", horizon=2, hidden=4, normal="no", window=2
    )
    notes = []
    result = loop.train(
        catalogue.load("forecast"),
        str(table),
        settings,
        TrainSettings(epochs=1),
        tmp_path / "m.safetensors",
        log=notes.append,
    )
    assert "series 'late' begins after the training split: scaled by its own rows" in notes
    assert np.isfinite(result["metrics"]["crps"])
    dataset = catalogue.load("forecast").prepare(str(table), settings)
    mean, std, _ = dataset.codec.own["late"]
    values = np.array([float(row.split(",")[2]) for row in rows[-9:]])
    assert np.allclose([mean[0], std[0]], [values.mean(), values.std()])
