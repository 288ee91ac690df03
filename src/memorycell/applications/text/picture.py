"""The main picture of a language model: how likely it finds the words of the test text."""

from __future__ import annotations

import math
from itertools import accumulate

import torch

from memorycell.application.contract import Record
from memorycell.application.picture import MAX_WORD_CHARS, Picture
from memorycell.applications.text.dataset import TextDataset
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.model import LanguageModel

UNKNOWN = "\ufffd"
"""Shown for a token that is not in the vocabulary."""
UNITS = {"char": "character", "piece": "piece of a word"}
"""Unit of a vocabulary -> what one is called."""
MIN_TOKENS = 200
"""From the beginning of the test text, read before those that are shown, where there are more."""


@torch.inference_mode()
def text_picture(dataset: TextDataset, model: LanguageModel, result: Record) -> Picture | None:
    """The first tokens of the test text after some that are only read, coloured by their nats; the
    full colour is that of a guess at random.
    """
    codec, tokens = dataset.codec, torch.from_numpy(dataset.tokens["test"])
    skipped = MIN_TOKENS if len(tokens) > 2 * MIN_TOKENS else 0
    shown = tokens[: skipped + MAX_WORD_CHARS][None]
    x, y = shown[:, :-1], shown[:, 1:]
    nats = model.nats(x, y, x == END_ID)[0, skipped:].tolist()
    pairs = zip(shown[0, skipped + 1 :].tolist(), nats, strict=True)
    every = [
        (UNKNOWN if token == UNKNOWN_ID else codec.surfaces[token], round(value, 3))
        for token, value in pairs
        if token != END_ID
    ]
    sizes = accumulate(len(word) for word, _ in every)
    words = [word for word, size in zip(every, sizes, strict=True) if size <= MAX_WORD_CHARS]
    if not words:
        return None
    return Picture(
        title="The test text; the stronger the colour, the less likely the model found a"
        f" {UNITS.get(codec.unit, codec.unit)}",
        words=words,
        full=round(math.log(len(codec)), 3),
        unit="nats",
    )
