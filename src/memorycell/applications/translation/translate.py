"""Translate texts with a translator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from memorycell.applications.translation.codec import EncodedText, PairCodec
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.placeholders import unmask
from memorycell.applications.translation.search import Hypothesis, beam_search
from memorycell.language.codec import PLACEHOLDERS, UNKNOWN_ID
from memorycell.models.batches import by_length, padded
from memorycell.models.heads import IGNORE

MAX_SOURCE_TOKENS = 300
BUDGET = 800
"""Source tokens per batch."""
SCORING_BUDGET = 2000
"""Tokens per batch of translations that are scored."""


@dataclass(frozen=True)
class Translation:
    """A translation.

    p           geometric mean of the probabilities of its tokens
    tokens, source_tokens   the surfaces of the tokens of both sides
    attention   [T, S]
    truncated   whether the source was longer than `MAX_SOURCE_TOKENS`
    similarity  of the training sentence whose translation it is; None: the network's own
    expected    its predicted chrF++, where a ranking chose it
    """

    source: str
    text: str
    p: float
    tokens: list[str]
    source_tokens: list[str]
    attention: np.ndarray
    truncated: bool
    similarity: float | None = None
    expected: float | None = None


def translate(
    model: Translator,
    codec: PairCodec,
    texts: list[str],
    *,
    beam: int = 5,
    alpha: float = 1.0,
    coverage: float = 0.0,
) -> list[Translation]:
    """Translate texts independently. An empty text has an empty translation. See `beam_search`."""
    if not texts:
        return []
    encoded = [codec.encode(text) for text in texts]
    sources = [np.array(e.tokens[:MAX_SOURCE_TOKENS] or [UNKNOWN_ID], np.int64) for e in encoded]
    source_ids, target_ids = codec.source.token_ids, codec.target.token_ids
    placeholders = [c for c in PLACEHOLDERS if c in source_ids and c in target_ids]
    copied = tuple(target_ids[c] for c in placeholders)
    in_source = torch.tensor([source_ids[c] for c in placeholders], dtype=torch.int64)
    hypotheses: dict[int, Hypothesis] = {}
    for rows in by_length(np.array([len(s) for s in sources]), BUDGET, 0):
        source, lengths = padded([sources[k] for k in rows])
        required = (source[:, :, None] == in_source).sum(1)
        found = beam_search(
            model,
            source,
            lengths,
            width=beam,
            alpha=alpha,
            coverage=coverage,
            copied=copied,
            required=required,
        )
        hypotheses |= dict(zip(rows.tolist(), found, strict=True))
    return [_translation(codec, texts[k], encoded[k], hypotheses[k]) for k in range(len(texts))]


@torch.inference_mode()
def mean_log_p(model: Translator, codec: PairCodec, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The mean log-probability per token [N] that a network gives translations of sources."""
    model.eval()
    result = np.empty(len(pairs))
    encoded = [codec.encode_pair(*pair) for pair in pairs]
    sizes = np.array([len(source) + len(target) for source, target in encoded])
    for rows in by_length(sizes, SCORING_BUDGET, 0) if pairs else []:
        source, lengths = padded([encoded[k][0][:MAX_SOURCE_TOKENS] for k in rows])
        x, _ = padded([encoded[k][1][:-1] for k in rows])
        target, _ = padded([encoded[k][1][1:] for k in rows], IGNORE)
        logits, _, _ = model.decode(x, *model.encode(source, lengths))
        known = target >= 0
        log_p = logits.float().log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
        result[rows] = ((log_p * known).sum(1) / known.sum(1)).numpy()
    return result


def _translation(
    codec: PairCodec, text: str, encoded: EncodedText, best: Hypothesis
) -> Translation:
    """The translation of a hypothesis. Unknown tokens are replaced by the source word with the
    highest attention (Luong et al. 2015, arXiv:1410.8206).
    """
    tokens, words, replaced = encoded
    surfaces = []
    for token, attention in zip(best.tokens, best.attention, strict=True):
        if token == UNKNOWN_ID and words:
            surfaces.append(" " + words[min(int(attention.argmax()), len(words) - 1)])
        else:
            surfaces.append(codec.target.surfaces[token])
    joined = codec.target.strip_line_starts("".join(surfaces))
    source_surfaces = [
        words[k] if token == UNKNOWN_ID else codec.source.surfaces[token]
        for k, token in enumerate(tokens[:MAX_SOURCE_TOKENS])
    ]
    return Translation(
        source=text,
        text=unmask(joined, replaced) if tokens else "",
        p=float(np.exp(best.log_p)),
        tokens=[unmask(surface, replaced) for surface in surfaces],
        source_tokens=[unmask(surface, replaced) for surface in source_surfaces],
        attention=best.attention,
        truncated=len(tokens) > MAX_SOURCE_TOKENS,
    )
