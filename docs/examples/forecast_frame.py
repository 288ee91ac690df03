# %% [markdown]
# # Forecast the rows of a data frame
#
# Hourly readings of a week-long pattern with noise; the model forecasts the next day.

# %%
import numpy as np
import polars as pl

import memorycell

rng = np.random.default_rng(0)
hours = np.arange(24 * 7 * 8)
daily, weekly = 2 * np.pi * hours / 24, 2 * np.pi * hours / (24 * 7)
readings = pl.DataFrame(
    {
        "time": np.datetime64("2024-01-01", "us") + hours.astype("timedelta64[h]"),
        "load": 50 + 10 * np.sin(daily) + 5 * np.sin(weekly) + rng.normal(size=len(hours)),
    }
)

# %% [markdown]
# Train on the first part, select on the next, and test on the last; the baselines are tested on the
# same hours.

# %%
model = memorycell.train("forecast", readings, target="load", horizon=24, epochs=4, hidden=16)
print(model)

# %% [markdown]
# A frame goes in, the same kind of frame comes out: one row per hour ahead.

# %%
print(model.predict(readings))

# %% [markdown]
# The model as a file, and live: one reading in, one forecast out.

# %%
model.save("load.safetensors")
session = memorycell.load("load.safetensors").session()
for row in readings[-48:].iter_rows(named=True):
    (answer,) = session.feed(row)
print(answer["time"], "next hour:", answer["forecast"]["load"]["median"][0])
