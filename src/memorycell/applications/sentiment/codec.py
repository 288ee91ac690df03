"""The codec of text classifiers: text in, one of some labels out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from memorycell.language.codec import TextCodec


@dataclass(frozen=True)
class LabelledCodec:
    """Encodes texts with `text`; class k is `labels[k]`."""

    kind: ClassVar[str] = "labelled"
    text: TextCodec
    labels: tuple[str, ...]

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.text)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": self.vocabulary, "classes": len(self.labels)}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {"text": self.text.to_json(), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelledCodec:
        """See `Codec`."""
        labels = tuple(data["labels"])
        if len(labels) < 2 or not all(isinstance(label, str) for label in labels):
            raise ValueError("not the labels of a classifier")
        return cls(TextCodec.from_json(data["text"]), labels)
