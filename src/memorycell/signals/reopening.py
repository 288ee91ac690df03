"""The dataset of a trained model: its own test split, or other data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from memorycell.application.contract import ModelFile
from memorycell.errors import DataError, UserError
from memorycell.signals.codec import SignalCodec, describe_outputs
from memorycell.signals.dataset import SignalDataset
from memorycell.signals.examples import LabelledData, R, Splits, drop_unknown_classes
from memorycell.signals.recognise import SignalModel
from memorycell.signals.settings import SignalSettings
from memorycell.signals.splitting import split_examples
from memorycell.signals.unknown import separate_unknown

D = TypeVar("D", bound=SignalDataset[Any, Any])


def reopen(
    data: str | None,
    file: ModelFile[SignalModel, SignalCodec],
    settings: SignalSettings,
    read: Callable[[str], LabelledData[R]],
    build: Callable[[str, Splits[R], Sequence[str]], D],
) -> D:
    """See `Application.reopen`. Of other data all examples are evaluated.

    read    path or dataset name -> labelled examples
    build   (name, splits, notes) -> dataset
    """
    codec = file.codec
    classes = codec.text is None

    def own_splits() -> tuple[Splits[R], Splits[R], list[str]]:
        own = read(file.data)
        examples, apart = separate_unknown(own, settings.unknown if classes else None)
        splits, notes = split_examples(examples, settings, classes=classes, where=own.name)
        if not classes:
            return splits, apart, [*own.notes, *notes]
        splits, unknown = drop_unknown_classes(splits, codec.labels)
        return splits, apart, [*own.notes, *notes, *unknown]

    if data is None or data == file.data:
        own, apart, own_notes = own_splits()
        dataset = build(file.data, own, [*own_notes, "evaluated on the held-out test split"])
        dataset.set_unknown(apart)
        if dataset.fingerprint != file.fingerprint:
            dataset.notes.append(f"{file.data} has changed since the model was trained")
        return dataset
    other = read(data)
    examples, notes = other.examples, other.notes
    if classes:
        kept, unknown = drop_unknown_classes({"test": examples}, codec.labels)
        examples, notes = kept["test"], notes + unknown
    try:
        own, _, _ = own_splits()
        splits = {split: members for split, members in own.items() if split != "test"}
        note = f"the baselines were fitted on {file.data}, like the model"
    except UserError as error:
        splits, note = {}, f"no baselines: the training data are not available ({error})"
    if not examples:
        known = describe_outputs(codec)
        raise DataError(f"{data}: contains no example with a known label ({known})")
    notes = [*notes, f"evaluated on all {len(examples):,} examples of other data", note]
    return build(other.name, {**splits, "test": examples}, notes)
