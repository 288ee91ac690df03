"""Run a forecaster live over the last day of its data and compare with the full sequence.

python docs/examples/live_day.py demo/glucose.safetensors
"""

import sys
import time

import numpy as np

import memorycell
from memorycell.application.datasets import locate
from memorycell.tables.table import read_table

DAY = 288  # steps of five minutes

file = memorycell.load(sys.argv[1])
path, _ = locate(file.data)
rows = read_table(path)[-8 * DAY :]  # the last day, after a week that sets the state

# Full sequence: all rows at once; the forecasts at every step of the last day.
series = file.codec.read(rows, str(path))
steps = np.flatnonzero(series.row >= 0)[-DAY:]
inputs = file.codec.encode(series)
full = file.codec.unscale(file.model.run(inputs, series.start, steps).astype(np.float64))

# Live: one row after another, as a sensor sends them.
session = memorycell.stream(file)
answers, streamed, micros = [], [], []
for row in rows.iter_rows(named=True):
    began = time.perf_counter()
    answer = session.step(row)
    micros.append((time.perf_counter() - began) * 1e6)
    if "repeat" not in answer:
        answers.append(answer)
        streamed.append(session.quantiles)
difference = np.abs(np.stack(streamed[-DAY:]) - full).max()

print("\nThe last day, live: forecasts one hour ahead, every hour (mg/dl)\n")
print("time                  now   forecast   80% interval")
for answer, step in list(zip(answers[-DAY:], steps, strict=True))[::12]:
    values = answer["forecast"]["glucose"]
    interval = f"{values['low80'][-1]:.0f} … {values['high80'][-1]:.0f}"
    print(
        f"{answer['time']}  {series.values[step, 0]:5.0f}  {values['median'][-1]:9.0f}   {interval}"
    )
print(f"\nlive = full sequence: largest difference {difference:.1e} mg/dl in {DAY} forecasts")
print(f"one live step, from a row to its forecast: {np.median(micros):.0f} µs (median)")
