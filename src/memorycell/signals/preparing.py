"""Split labelled data and fit the outputs on the training split."""

from __future__ import annotations

from typing import Any

from memorycell.signals.codec import fit_outputs
from memorycell.signals.examples import LabelledData, R, Splits, drop_unknown_classes
from memorycell.signals.settings import SignalSettings
from memorycell.signals.splitting import split_examples


def split_and_fit(
    data: LabelledData[R], settings: SignalSettings, head: str
) -> tuple[Splits[R], dict[str, Any], list[str]]:
    """(splits, the output fields of a `SignalCodec`, notes). Raises `DataError`.

    head   "classes" or "text"
    """
    classes = head == "classes"
    splits, split_notes = split_examples(data.examples, settings, classes=classes, where=data.name)
    notes = [*data.notes, *split_notes]
    labels = [example.label for example in splits["train"]]
    outputs = fit_outputs(labels, head, settings.unit, settings.vocabulary, data.name)
    if not classes:
        return splits, outputs, notes
    splits, unknown = drop_unknown_classes(splits, outputs["labels"])
    return splits, outputs, notes + unknown
