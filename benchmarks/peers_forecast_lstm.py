"""NeuralForecast's LSTM on the job of peers_forecast.py; runs in the environment of that script."""

import json
import logging
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.models import LSTM
from pytorch_lightning.callbacks import Callback

INPUT_HORIZONS = 3
"""NeuralForecast's default length of history, in horizons."""


class TimeLimit(Callback):
    """Stops training after some seconds of a clock.

    steps   of training, of all copies that NeuralForecast makes
    """

    steps = 0

    def __init__(self, seconds, clock):
        self.clock, self.seconds, self.end = clock, seconds, float("inf")

    def on_fit_start(self, *_):
        """See `Callback`."""
        self.end = self.clock() + self.seconds

    def on_train_batch_end(self, trainer, *_):
        """See `Callback`."""
        TimeLimit.steps += 1
        trainer.should_stop = trainer.should_stop or self.clock() >= self.end


def main(folder: Path, job: dict) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    arrays = np.load(folder / "job.npz")
    values, start = arrays["values"], arrays["start"]
    length, horizon = INPUT_HORIZONS * job["horizon"], job["horizon"]
    others = [f"x{k}" for k in range(1, values.shape[1])]
    limit = TimeLimit(
        job["seconds"], time.process_time if job["processor_time"] else time.monotonic
    )
    model = LSTM(
        h=horizon,
        input_size=length,
        hist_exog_list=others or None,
        start_padding_enabled=True,
        max_steps=10**6,
        random_seed=job["seed"] + 1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        callbacks=[limit],
    )
    peer = NeuralForecast([model], freq=1)
    fit = np.flatnonzero(arrays["fit"])
    sizes = pd.Series(fit).groupby(start[fit]).transform("size").to_numpy()
    fit = fit[sizes > horizon]  # a segment must hold a forecast
    peer.fit(frame(values, fit, start[fit], fit))
    # The steps up to each origin; where a segment is short, its first one is repeated.
    past = np.arange(-length + 1, 1)
    origins = [np.maximum(step + past, start[step]) for step in arrays["at"]]
    steps = np.concatenate(origins)
    count = len(arrays["at"])
    ids, ds = np.repeat(np.arange(count), length), np.tile(np.arange(length), count)
    found = peer.predict(frame(values, steps, ids, ds)).sort_values(["unique_id", "ds"])
    forecasts = found["LSTM"].to_numpy(np.float64).reshape(count, horizon)
    np.savez(folder / "forecasts.npz", forecasts=forecasts)
    print(f"NeuralForecast: {TimeLimit.steps} steps of training", file=sys.stderr)


def frame(values, steps, ids, ds) -> pd.DataFrame:
    """Rows of the values [N, C] in the columns that NeuralForecast expects."""
    columns = {f"x{k}": values[steps, k] for k in range(1, values.shape[1])}
    return pd.DataFrame({"unique_id": ids, "ds": ds, "y": values[steps, 0], **columns})


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
