# %% [markdown]
# # Forecast the rows of a data frame
#
# The level of a water tank, every ten minutes. A pump starts when the level is low and stops when
# it is high; whether it is running is not in the data. A forecaster has to remember it, and to know
# at which level the line will turn: a linear model can do neither well.

# %%
import numpy as np
import polars as pl

import memorycell

rng = np.random.default_rng(0)
level, pump, readings = 60.0, False, []
for k in range(4000):
    hour = k / 6 % 24
    pump = level < 30 or (pump and level < 90)
    level += 4.0 * pump - (1.2 + 0.9 * np.sin(2 * np.pi * (hour - 9) / 24) + 0.15 * rng.normal())
    readings.append(level + 0.2 * rng.normal())
times = np.datetime64("2024-01-01", "us") + 10 * np.arange(4000).astype("timedelta64[m]")
tank = pl.DataFrame({"time": times, "level": readings})

# %% [markdown]
# Train on the first part, select on the next, and test on the last; the baselines are tested on the
# same rows. `memorycell.settings("forecast")` lists the settings.

# %%
model = memorycell.train("forecast", tank, target="level", horizon=12, hidden=32, epochs=24)
print(model)

# %% [markdown]
# A frame goes in, the same kind of frame comes out: one row per step ahead. In a notebook
# `model.figure("typical period")` is a plotly figure, and so is every other picture.

# %%
print(model.predict(tank, quantiles=[0.05, 0.5, 0.95]))
print(list(model.figures()))

# %% [markdown]
# The model as a file, and live: one reading in, one forecast out.

# %%
model.save("tank.safetensors")
session = memorycell.load("tank.safetensors").session()
for row in tank[-200:].iter_rows(named=True):
    (answer,) = session.feed(row)
print(answer["time"], "in two hours:", round(answer["forecast"]["level"]["median"][-1], 1))
