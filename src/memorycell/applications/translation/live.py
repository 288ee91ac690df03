"""A translator at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.application.modelfile import ModelFile
from memorycell.applications.translation.codec import PairCodec, release
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.search import Hypothesis, beam_search
from memorycell.errors import DataError, UserError
from memorycell.language.codec import PLACEHOLDERS, normalise
from memorycell.models.batches import by_length, padded

LONGEST = 300
"""Tokens of a source that are read at once."""


@dataclass(frozen=True)
class Translating:
    """What --set can say about translating.

    beam    translations followed side by side
    alpha   how much longer translations are favoured
    """

    beam: int = 5
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= 100:
            raise ValueError(f"beam={self.beam}: expected 1 to 100")
        if not 0 <= self.alpha <= 5:
            raise ValueError(f"alpha={self.alpha}: expected 0 to 5")


@dataclass(frozen=True)
class Translation:
    """One translation.

    p          geometric mean of its tokens' probabilities
    tokens     its tokens, and `sources` those of the source, as they read
    attention  [T, S]: what each token looked at
    """

    source: str
    text: str
    p: float
    tokens: list[str]
    sources: list[str]
    attention: np.ndarray
    cut: bool


def translate(
    file: ModelFile, texts: list[str], how: Translating | None = None
) -> list[Translation]:
    """Translate texts, each on its own. What is empty stays empty; of what is too long the first
    `LONGEST` tokens.
    """
    codec, model = file.codec, file.model
    if not (isinstance(codec, PairCodec) and isinstance(model, Translator)):
        raise UserError("predict: not a translator")
    if how is None:
        settings = file.info.get("settings", {})
        how = Translating(settings.get("beam", 5), settings.get("alpha", 1.0))
    encoded = [codec.encode(text) for text in texts]
    rows = [np.array(tokens[:LONGEST] or [0], np.int64) for tokens, _, _ in encoded]
    marks = [c for c in PLACEHOLDERS if c in codec.target.token_ids and c in codec.source.token_ids]
    once = tuple(codec.target.token_ids[c] for c in marks)
    read = torch.tensor([codec.source.token_ids[c] for c in marks], dtype=torch.int64)
    found: list[Translation | None] = [None] * len(texts)
    for batch in by_length(np.array([len(row) for row in rows]), 800, 0):
        source, lengths = padded([rows[k] for k in batch])
        owed = (source[:, :, None] == read).sum(1)
        best = beam_search(
            model, source, lengths, width=how.beam, alpha=how.alpha, once=once, owed=owed
        )
        for k, hypothesis in zip(batch, best, strict=True):
            found[k] = _translation(codec, texts[k], encoded[k], hypothesis)
    return [one for one in found if one is not None]


def _translation(
    codec: PairCodec, text: str, encoded: tuple[list[int], list[str], list[str]], best: Hypothesis
) -> Translation:
    tokens, written, held = encoded
    surfaces = []
    for k, token in enumerate(best.tokens):
        if (
            token == 0 and written
        ):  # unknown: copied from where it looked (Luong et al. 2015, arXiv:1410.8206)
            surfaces.append(" " + written[min(int(best.attention[k].argmax()), len(written) - 1)])
        else:
            surfaces.append(codec.target.surfaces[token])
    return Translation(
        text,
        release(codec.target.strip_line_starts("".join(surfaces)), held) if tokens else "",
        float(np.exp(best.log_p)),
        [release(s, held) for s in surfaces],
        [
            release(codec.source.surfaces[t] if t else written[k], held)
            for k, t in enumerate(tokens[:LONGEST])
        ],
        best.attention,
        len(tokens) > LONGEST,
    )


def predict(file: ModelFile, source: str | None, how: Translating) -> dict[str, Any]:
    """`{"translations": [{"source", "text", "p", "tokens", "sources", "attention"}]}`, one a line
    of the source.
    """
    lines = normalise(source or "").split("\n")
    if not any(line.strip() for line in lines):
        raise DataError("predict: no text; give one, or a file of lines")
    while lines and not lines[-1].strip():
        lines.pop()
    records = []
    for one in translate(file, lines, how):
        record = {
            "source": one.source,
            "text": one.text,
            "p": round(one.p, 4),
            "tokens": one.tokens,
            "sources": one.sources,
            "attention": [[round(float(v), 4) for v in row] for row in one.attention],
        }
        if one.cut:
            record["note"] = f"only the first {LONGEST} tokens were read; give shorter lines"
        records.append(record)
    return {"translations": records}


def show(record: dict[str, Any]) -> str:
    """The record for people: a line a line."""
    return "\n".join(
        one["text"] + (f"   [{one['note']}]" if "note" in one else "")
        for one in record["translations"]
    )
