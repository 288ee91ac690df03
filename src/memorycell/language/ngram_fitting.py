"""Mixing the n-gram model of the training text into a trained language model, where that helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.language.mixing import MIN_GAIN, NGramMix, Sequences
from memorycell.language.model import LanguageModel
from memorycell.language.ngram import KneserNey


def mix_where_better(model: LanguageModel, ngram: KneserNey, valid: Sequence[Sequences]) -> str:
    """Add the n-gram model to a language model if that lowers its loss on validation sequences;
    what was done, as a note.
    """
    name = f"{ngram.order}-gram"
    mix = NGramMix.of(ngram)
    if mix is None:
        return f"not mixed with the {name}, whose table would be too large"
    network = [model.network_nats(data.x, data.target, data.reset) for data in valid]
    counted = [
        nats.numpy()[data.target.numpy() >= 0] for nats, data in zip(network, valid, strict=True)
    ]
    alone = float(np.concatenate(counted).mean())
    ngram_alone, mixed = mix.fit(network, valid)
    losses = f"nats on validation: network {alone:.4f}, {name} {ngram_alone:.4f}"
    if mixed > min(alone, ngram_alone) - MIN_GAIN and alone <= ngram_alone:
        return f"not mixed with the {name}, which would not help; {losses}"
    model.add_ngram(mix)
    if alone > ngram_alone:
        losses += "; alone, the n-gram model is the better one: train longer, or on more text"
    return f"mixed with the {name} (mix=no: the network alone); {losses}, mixed {mixed:.4f}"
