# %% [markdown]
# # Find unexpected rows in a data frame
#
# Two sensors of a machine that follow each other, until one of them stops following.

# %%
import numpy as np
import polars as pl

import memorycell

rng = np.random.default_rng(0)
steps = np.arange(3000)
speed = np.sin(steps / 20) + 0.05 * rng.normal(size=len(steps))
current = 0.8 * speed + 0.05 * rng.normal(size=len(steps))
current[2700:2720] = rng.normal(size=20)  # a fault that no threshold on either column shows
machine = pl.DataFrame({"speed": speed, "current": current})

# %%
detector = memorycell.train("anomaly", machine, epochs=4, hidden=16)
print(detector)

# %% [markdown]
# A score and a verdict for every row, and the columns responsible.

# %%
scores = detector.predict(machine)
print(scores.filter(pl.col("anomaly")).head(8))
