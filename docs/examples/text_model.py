# %% [markdown]
# # A model of text
#
# The log of a cluster, letter by letter: texts are a list of strings.

# %%
import numpy as np

import memorycell

rng = np.random.default_rng(0)
users = ["ada", "grace", "alan", "edsger"]
lines = [
    f"{users[rng.integers(4)]} starts on node {(node := rng.integers(10, 99))} and then, much"
    f" later, ends on node {node}."
    for _ in range(1500)
]

# %% [markdown]
# The baseline is an n-gram model with Kneser-Ney smoothing, its order chosen on validation.

# %%
model = memorycell.train("text", lines, hidden=64, embedding=16, bptt=100, epochs=12)
print(model)

# %% [markdown]
# Continue a line, and look at the probabilities of the next letters.

# %%
answer = model.predict("edsger starts on node 42 and then, much l", length=24)
print(answer["text"] + "|" + answer["continuation"])
print([(choice["word"], round(choice["p"], 3)) for choice in answer["next"][:3]])
model.figure("next word", "edsger starts on node 42 and then, much l")

# %% [markdown]
# Live: a session reads line by line, and keeps the state.

# %%
session = model.session()
session.feed("grace starts on node 17 and then,")
(after,) = session.feed("much later, ends")
print(after["next"][0])
