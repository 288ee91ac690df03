"""The codec of text classifiers: text in, one of some labels out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from memorycell.language.codec import TextCodec
from memorycell.setting_fields import from_json

MAX_LABELS = 10_000


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
        stored = from_json(_Description, data)
        if len(set(stored.labels)) != len(stored.labels):
            raise ValueError("labels: a label is repeated")
        return cls(TextCodec.from_json(stored.text), stored.labels)


@dataclass(frozen=True)
class _Description:
    """`LabelledCodec.to_json`."""

    text: dict[str, Any]
    labels: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=2, max_length=MAX_LABELS)
    ]
