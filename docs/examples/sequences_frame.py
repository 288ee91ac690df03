# %% [markdown]
# # Classify sequences in a data frame
#
# A wrist sensor with two channels: people walk, run or stand, for three to six seconds each. The
# lengths differ, and some values are missing.

# %%
import numpy as np
import polars as pl

import memorycell

rng = np.random.default_rng(0)
PACE = {"stand": 0.0, "walk": 1.0, "run": 2.2}
rows = []
for recording in range(90):
    activity = list(PACE)[recording % 3]
    for step in range(int(rng.integers(15, 31))):
        swing = np.sin(PACE[activity] * step + recording) if PACE[activity] else 0.0
        rows.append(
            {
                "recording": f"r{recording}",
                "step": step,
                "forward": None if rng.random() < 0.05 else swing + 0.3 * rng.normal(),
                "up": 0.5 * abs(swing) + 0.2 * rng.normal(),
                "activity": activity,
            }
        )
sensor = pl.DataFrame(rows)

# %% [markdown]
# The column `recording` names the sequence of each row; `activity` is constant in a sequence, so
# one class is predicted for each. Sequences are split, never their rows.

# %%
model = memorycell.train(
    "sequences",
    sensor,
    sequence="recording",
    target="activity",
    hidden=16,
    members=2,
    lr=0.02,
    epochs=6,
)
print(model)

# %% [markdown]
# The probabilities of each sequence; the labels are not read.

# %%
print(model.predict(sensor.drop("activity")).head(4))

# %% [markdown]
# Live: an answer after every row, and whether it is sure yet.

# %%
session = model.session()
for row in sensor.filter(pl.col("recording") == "r1").drop("recording", "activity").to_dicts():
    (answer,) = session.feed(row)
    if answer["sure"]:
        break
print(f"{answer['label']} ({answer['p']:.0%}) after {answer['step']} rows")
