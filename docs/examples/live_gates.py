# %% [markdown]
# # A live layer with its gates
#
# Any LSTM, ours or torch's, runs one step at a time with its state kept; every gate can be read.

# %%
import torch

import memorycell

torch.manual_seed(0)
lstm = memorycell.LSTM(3, 24, batch_first=True)
x = torch.randn(1, 200, 3)

# %% [markdown]
# A stream computes the same outputs as the full sequence, can be forked, and goes back in time.

# %%
stream = memorycell.stream(lstm, history=16)
outputs = [stream.step(step) for step in x[0]]
with torch.no_grad():
    full, _ = lstm(x)
print(f"live = full sequence, within {(torch.stack(outputs) - full[0]).abs().max():.1e}")

fork = stream.fork()
stream.rewind(5)

# %% [markdown]
# The gates while it reads x, as a page and as a figure.

# %%
inspection = memorycell.inspect(lstm, x)
print(inspection.summary)
with open("gates.html", "w", encoding="utf-8") as file:
    file.write(inspection.page())
