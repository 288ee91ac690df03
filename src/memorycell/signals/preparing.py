"""Split labelled data and fit the outputs on the training split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from memorycell.signals.codec import fit_outputs
from memorycell.signals.examples import LabelledData, R, Splits, drop_unknown_classes
from memorycell.signals.settings import SignalSettings
from memorycell.signals.splitting import split_examples
from memorycell.signals.unknown import separate_unknown


@dataclass(frozen=True)
class Prepared(Generic[R]):
    """Split examples, and what is fitted on them.

    unknown   examples of classes that the model does not learn, see `signals.unknown`
    outputs   the output fields of a `SignalCodec`
    """

    splits: Splits[R]
    unknown: Splits[R]
    outputs: dict[str, Any]
    notes: list[str]


def split_and_fit(data: LabelledData[R], settings: SignalSettings, head: str) -> Prepared[R]:
    """Split and fit. Raises `DataError`.

    head   "classes" or "text"
    """
    classes = head == "classes"
    examples, apart = separate_unknown(data, settings.unknown if classes else None)
    splits, split_notes = split_examples(examples, settings, classes=classes, where=data.name)
    notes = [*data.notes, *split_notes]
    labels = [example.label for example in splits["train"]]
    outputs = fit_outputs(labels, head, settings.unit, settings.vocabulary, data.name)
    if not classes:
        return Prepared(splits, apart, outputs, notes)
    splits, unknown = drop_unknown_classes(splits, outputs["labels"])
    return Prepared(splits, apart, outputs, notes + unknown)
