"""What is read from sound, pen strokes and pictures has in common: a sequence of features in, a
class or a text out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from memorycell.errors import DataError
from memorycell.language.codec import TextCodec, fit, normalise

_ASIDE = regex.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_SOUNDLESS = regex.compile(r"[^\p{L}\p{M}\p{N}'’]+")
BLANK = 0
"""The token that stands for "nothing new" between two letters (of a text codec's, it is the unknown
one).
"""


@dataclass(frozen=True)
class SignalCodec:
    """What comes out: one of `labels`, or a text.

    text        the letters (or pieces of words) of a text; None where classes are told apart
    sentences   what the training texts said: their words are the lexicon, their order the language
                model of a search
    """

    labels: tuple[str, ...] = ()
    text: TextCodec | None = None
    sentences: tuple[str, ...] = ()

    vocabulary = 0
    """Tokens that go in: none, features do."""

    @property
    def outputs_size(self) -> int:
        """How many a model tells apart: classes, or letters with the blank."""
        return len(self.labels) or len(self.text or ())

    def targets(self, text: str) -> list[int]:
        """The tokens of a text as a model can give them: without those it does not know."""
        assert self.text is not None
        return [token for token in self.text.encode(text) if token >= self.text.marks]

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        outputs = {"classes": len(self.labels)} if self.text is None else {}
        letters = 0 if self.text is None else len(self.text)
        return {"input_size": self.input_size, "vocabulary": letters, **outputs}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        text = None if self.text is None else self.text.to_json()
        return {"labels": list(self.labels), "text": text, "sentences": list(self.sentences)}

    @staticmethod
    def outputs(data: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of this class from JSON. Raises KeyError, TypeError or ValueError."""
        text = None if data["text"] is None else TextCodec.from_json(data["text"])
        labels, sentences = tuple(data["labels"]), tuple(data["sentences"])
        if not all(isinstance(one, str) for one in (*labels, *sentences)):
            raise ValueError("not texts")
        if (text is None) == (len(labels) < 2):
            raise ValueError("a codec has two labels or more, or a text")
        return {"labels": labels, "text": text, "sentences": sentences}


def frames_needed(target: Sequence[int]) -> int:
    """Steps that CTC needs at least for a text: one a token, and a blank between two of the same."""
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def fit_outputs(
    said: Sequence[str], head: str, unit: str, vocabulary: int, where: str
) -> dict[str, Any]:
    """What comes out, from what the training examples are: `labels`, or `text` and `sentences`.
    Raises `DataError`.
    """
    if head == "classes":
        labels = tuple(sorted(set(said)))
        if len(labels) < 2:
            raise DataError(
                f"{where}: every example is {labels[0]!r}; two classes or more are needed"
            )
        return {"labels": labels}
    return {
        "text": fit(said, unit, vocabulary=vocabulary),
        "sentences": tuple(dict.fromkeys(said))[:20_000],
    }


def spoken(text: str) -> str:
    """What is heard or read of a transcript: words in small letters, without signs and without what
    stands in brackets.
    """
    bare = _SOUNDLESS.sub(" ", _ASIDE.sub(" ", normalise(text)).lower()).replace("’", "'")
    return " ".join(word.strip("'") for word in bare.split() if word.strip("'"))
