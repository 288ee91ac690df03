"""The codec of translators: one text codec per language, or a shared one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memorycell.applications.translation.cleaning import Pairs
from memorycell.applications.translation.placeholders import mask, mask_pair
from memorycell.language.codec import END_ID, PLACEHOLDERS, UNKNOWN_ID, TextCodec, fit_text_codec
from memorycell.setting_fields import from_json


class EncodedText(NamedTuple):
    """A source text.

    tokens     token ids of the text with placeholders
    words      the span that each token is part of
    replaced   the strings that the placeholders stand for
    """

    tokens: list[int]
    words: list[str]
    replaced: list[str]


@dataclass(frozen=True)
class PairCodec:
    """The codecs of the two languages; one object where they share a vocabulary."""

    kind: ClassVar[str] = "pairs"
    source: TextCodec
    target: TextCodec

    @cached_property
    def shared(self) -> bool:
        """Whether the languages share a vocabulary."""
        return self.source is self.target

    def encode(self, text: str) -> EncodedText:
        """Encode a source text."""
        masked, replaced = mask(text)
        tokens: list[int] = []
        words: list[str] = []
        for span in self.source.spans(masked):
            ids = self.source.encode_span(span)
            tokens += ids
            words += [span.strip()] * len(ids)
        return EncodedText(tokens, words, replaced)

    def encode_pair(
        self, source: str, target: str, sampling: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of a source, and of its translation between two `END_ID`; `sampling`: see
        `TextCodec.encode_sampled`.
        """
        source, target, _ = mask_pair(source, target, first=len(source) + len(target))
        if sampling:
            a, b = (
                codec.encode_sampled(text, sampling)
                for codec, text in ((self.source, source), (self.target, target))
            )
        else:
            a, b = self.source.encode(source), self.target.encode(target)
        return np.array(a or [UNKNOWN_ID], np.int64), np.array([END_ID, *b, END_ID], np.int64)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "vocabulary": len(self.target),
            "source_vocabulary": 0 if self.shared else len(self.source),
        }

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {
            "source": None if self.shared else self.source.to_json(),
            "target": self.target.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PairCodec:
        """See `Codec`."""
        stored = from_json(_Description, data)
        target = TextCodec.from_json(stored.target)
        source = target if stored.source is None else TextCodec.from_json(stored.source)
        if source.unit != target.unit:
            raise ValueError(f"units {source.unit} and {target.unit}: expected one for both sides")
        return cls(source, target)


@dataclass(frozen=True)
class _Description:
    """`PairCodec.to_json`; source is None where the languages share a vocabulary."""

    source: dict[str, Any] | None
    target: dict[str, Any]


def fit_pair_codec(pairs: Pairs, unit: str, *, vocabulary: int, joint: bool) -> PairCodec:
    """A codec of training pairs, with one vocabulary for both languages if `joint`."""
    masked = [mask_pair(source, target) for source, target in pairs]
    sides = [source for source, _, _ in masked], [target for _, target, _ in masked]

    def fit(texts: list[str]) -> TextCodec:
        return fit_text_codec(texts, unit, vocabulary=vocabulary, separate=PLACEHOLDERS)

    if joint:
        codec = fit([*sides[0], *sides[1]])
        return PairCodec(codec, codec)
    return PairCodec(fit(sides[0]), fit(sides[1]))
