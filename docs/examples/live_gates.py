# %% [markdown]
# # A live session with its gates drawn
#
# A sensor that counts pulses is read live; the model forecasts the next readings, and its gates
# show what it keeps.

# %%
import numpy as np
import pandas as pd

import memorycell

rng = np.random.default_rng(0)
hours = pd.date_range("2024-01-01", periods=1200, freq="h")
load = 50 + 10 * np.sin(np.arange(1200) * 2 * np.pi / 24) + rng.normal(size=1200)
readings = pd.DataFrame({"load": load}, index=hours)

model = memorycell.train("forecast", readings, target="load", horizon=6, hidden=16, epochs=4)

# %% [markdown]
# One row in, one forecast out. The state can be saved and continued elsewhere, also after a crash.

# %%
session = model.session()
for time, row in readings[:-24].iterrows():
    (answer,) = session.feed({"time": str(time), "load": row.load})
print(answer["time"], [round(v, 1) for v in answer["forecast"]["load"]["median"]])

elsewhere = model.session()
elsewhere.restore(session.snapshot())
next_row = {"time": str(hours[-24]), "load": load[-24]}
assert elsewhere.feed(next_row) == session.feed(next_row)

# %% [markdown]
# The gates while it reads the last days, as a plotly figure; `.page()` has the report.

# %%
inspection = model.inspect(readings[-240:])
print(inspection.summary)
gates = inspection.figure("gates")
gates.write_html("gates.html")

# %% [markdown]
# The same for any LSTM of yours, ours or torch's: a stream computes the same outputs as the
# complete sequence, can be forked, and goes back in time.

# %%
import torch  # noqa: E402

lstm = torch.nn.LSTM(3, 24, batch_first=True)
x = torch.randn(1, 200, 3)
stream = memorycell.stream(lstm, history=16)
outputs = torch.stack([stream.step(step) for step in x[0]])
with torch.no_grad():
    full, _ = lstm(x)
print(f"live = complete sequence, within {(outputs - full[0]).abs().max():.1e}")
fork = stream.fork()
stream.rewind(5)
memorycell.inspect(lstm, x).figure("saturation")
