"""The base of codecs for signals: a sequence of features in, a class or a text out."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import regex
from msgspec import Meta

from memorycell.errors import DataError, quote
from memorycell.language.codec import TextCodec, fit_text_codec
from memorycell.reading import normalise
from memorycell.setting_fields import from_json

if TYPE_CHECKING:
    from typing import Self

BLANK_ID = 0
"""CTC's blank. It is the text codec's token for unknown text, which is never a target."""
MAX_SENTENCES = 20_000
"""Training transcripts stored for the lexicon search."""
_BRACKETED = regex.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_PUNCTUATION = regex.compile(r"[^\p{L}\p{M}\p{N}'’]+")


@dataclass(frozen=True)
class SignalCodec(ABC):
    """The outputs of a model of signals: one of `labels`, or a text.

    labels      class names; empty for a text
    text        characters or subwords of a text; None for classes
    sentences   training transcripts: the lexicon and the n-grams of the lexicon search
    unknown_below   probability of the best class below which the answer is "unknown"
    """

    kind: ClassVar[str]
    labels: tuple[str, ...] = ()
    text: TextCodec | None = None
    sentences: tuple[str, ...] = ()
    unknown_below: Annotated[float, Meta(ge=0, le=1)] = 0.0

    @property
    @abstractmethod
    def input_size(self) -> int:
        """Features per step."""

    @property
    def output_size(self) -> int:
        """Number of classes, or of tokens including the blank."""
        return len(self.labels) or len(self.text or ())

    def targets(self, text: str) -> list[int]:
        """Token ids of a transcript, without text that is not in the vocabulary."""
        assert self.text is not None
        return [token for token in self.text.encode(text) if token >= self.text.num_special]

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        classes = {"classes": len(self.labels)} if self.text is None else {}
        vocabulary = 0 if self.text is None else len(self.text)
        return {"input_size": self.input_size, "vocabulary": vocabulary, **classes}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        text = None if self.text is None else self.text.to_json()
        return {
            "labels": list(self.labels),
            "text": text,
            "sentences": list(self.sentences),
            "unknown_below": self.unknown_below,
        }

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """See `Codec`."""

    @classmethod
    def _checked_from_json(cls, data: Mapping[str, Any], optional: Sequence[str] = ()) -> Self:
        """A codec whose fields have the types and ranges of this class. Raises KeyError, TypeError
        or ValueError.

        optional   fields that earlier versions did not write
        """
        for field in dataclasses.fields(cls):
            if field.name not in data and field.name not in ("unknown_below", *optional):
                raise ValueError(f"missing field {field.name}")
        codec = from_json(cls, {**data, "text": None})
        text = None if data["text"] is None else TextCodec.from_json(data["text"])
        if (text is None) == (len(codec.labels) < 2) or (text is not None and codec.labels):
            raise ValueError("a codec needs either two labels or more, or a text")
        if len(set(codec.labels)) < len(codec.labels) or not all(codec.labels):
            raise ValueError("labels: has duplicates or an empty label")
        if text is not None and not all(text.surfaces):
            raise ValueError("text: has an empty token")
        if len(codec.sentences) > MAX_SENTENCES:
            raise ValueError(f"sentences: more than {MAX_SENTENCES:,}")
        return dataclasses.replace(codec, text=text)


def min_ctc_steps(target: Sequence[int]) -> int:
    """Steps that CTC needs for a target: one per token, and a blank between equal neighbours."""
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def fit_outputs(
    labels: Sequence[str], head: str, unit: str, vocabulary: int, where: str
) -> dict[str, Any]:
    """The output fields of a `SignalCodec`, fitted on training labels. Raises `DataError`.

    head   "classes" or "text"
    """
    if head == "text":
        sentences = tuple(dict.fromkeys(labels))[:MAX_SENTENCES]
        return {"text": fit_text_codec(labels, unit, vocabulary=vocabulary), "sentences": sentences}
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise DataError(
            f"{where}: every example is {quote(classes[0])}; at least two classes are needed"
        )
    return {"labels": classes}


def normalise_transcript(text: str) -> str:
    """Lower-case words without punctuation and without text in brackets."""
    bare = _PUNCTUATION.sub(" ", _BRACKETED.sub(" ", normalise(text)).lower()).replace("’", "'")
    return " ".join(word.strip("'") for word in bare.split() if word.strip("'"))


def describe_outputs(codec: SignalCodec) -> str:
    """The outputs in words, for notes."""
    if codec.text is None:
        shown = ", ".join(codec.labels[:12]) + (" …" if len(codec.labels) > 12 else "")
        return f"{len(codec.labels)} classes: {shown}"
    lexicon = {word for sentence in codec.sentences for word in sentence.split()}
    units = f"{len(codec.text) - codec.text.num_special} {codec.text.unit}s"
    return f"text of {units}; a lexicon of {len(lexicon):,} words"
