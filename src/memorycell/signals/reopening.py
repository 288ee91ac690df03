"""The dataset of a trained model: its own test split, or other data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from memorycell.application.contract import ModelFile
from memorycell.errors import DataError, UserError
from memorycell.signals.codec import SignalCodec, describe_outputs
from memorycell.signals.dataset import SignalDataset
from memorycell.signals.examples import Example, R, Splits, drop_unknown_classes
from memorycell.signals.recognise import SignalModel
from memorycell.signals.settings import SignalSettings
from memorycell.signals.splitting import split_examples

D = TypeVar("D", bound=SignalDataset[Any, Any])


def reopen(
    data: str | None,
    file: ModelFile[SignalModel, SignalCodec],
    settings: SignalSettings,
    read: Callable[[str], tuple[list[Example[R]], str]],
    build: Callable[[str, Splits[R], Sequence[str]], D],
) -> D:
    """See `Application.reopen`. Of other data all examples are evaluated.

    read    path or dataset name -> (examples, name of the data)
    build   (name, splits, notes) -> dataset
    """
    codec = file.codec
    classes = codec.text is None

    def own_splits() -> Splits[R]:
        examples, where = read(file.data)
        splits = split_examples(examples, settings, classes=classes, where=where)
        return drop_unknown_classes(splits, codec.labels)[0] if classes else splits

    if data is None or data == file.data:
        dataset = build(file.data, own_splits(), ["evaluated on the held-out test split"])
        if dataset.fingerprint != file.fingerprint:
            dataset.notes.append(f"{file.data} has changed since the model was trained")
        return dataset
    examples, where = read(data)
    if classes:
        examples = [example for example in examples if example.label in set(codec.labels)]
    try:
        splits = {split: own for split, own in own_splits().items() if split != "test"}
        note = f"the baselines were fitted on {file.data}, like the model"
    except UserError as error:
        splits, note = {}, f"no baselines: the training data are not available ({error})"
    if not examples:
        known = describe_outputs(codec)
        raise DataError(f"{data}: contains no example with a known label ({known})")
    notes = [f"evaluated on all {len(examples):,} examples of other data", note]
    return build(where, {**splits, "test": examples}, notes)
