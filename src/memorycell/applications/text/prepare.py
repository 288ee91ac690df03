"""Texts for training and for evaluation."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.text.dataset import (
    TEST_FRACTION,
    TextDataset,
    read_texts,
    split_texts,
)
from memorycell.applications.text.mapped import mapped_files, prepare_files, reopen_files
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import UserError, counted
from memorycell.language.codec import UNKNOWN_ID, TextCodec, fingerprint, fit_text_codec
from memorycell.language.model import LanguageModel

DEFAULT_DATASET = "tinyshakespeare"


def prepare(data: str | None, settings: TextSettings) -> TextDataset:
    """See `Application`. The vocabulary is that of the training split."""
    if data is not None and (files := mapped_files(data)) is not None:
        return prepare_files(files, data, settings)
    texts, name, notes = read_texts(data or DEFAULT_DATASET, settings)
    splits = split_texts(texts, settings.valid)
    codec = fit_text_codec(splits["train"], settings.unit, vocabulary=settings.vocabulary)
    dataset = TextDataset(name, splits, codec, settings)
    unknown = float((dataset.tokens["valid"] == UNKNOWN_ID).mean())
    sizes = ", ".join(f"{len(tokens) - 1:,} {split}" for split, tokens in dataset.tokens.items())
    dataset.notes = [
        *notes,
        (
            f"{counted(len(texts), 'texts')}, {sum(map(len, texts)):,}"
            f" characters; {settings.unit}s: {sizes}"
        ),
        (
            f"vocabulary: {len(codec) - codec.num_special:,}; unknown in the validation split:"
            f" {unknown:.2%}"
        ),
    ]
    return dataset


def reopen(data: str | None, file: ModelFile[LanguageModel, TextCodec]) -> TextDataset:
    """See `Application`: the test split of the model's own text, or all of another text."""
    settings = file.typed_settings(TextSettings)
    if (files := mapped_files(data or file.data)) is not None:
        return reopen_files(files, data or file.data, file.codec, settings, file.fingerprint)
    texts, name, notes = read_texts(data or file.data, settings)
    splits = split_texts(texts, settings.valid)
    if fingerprint([part for parts in splits.values() for part in parts]) == file.fingerprint:
        dataset = TextDataset(name, splits, file.codec, settings)
        dataset.notes = [f"evaluated on the held-out test split, the last {TEST_FRACTION:.0%}"]
        return dataset
    try:
        own = split_texts(read_texts(file.data, settings)[0], settings.valid)
    except UserError as error:
        own = {}
        note = f"no n-gram baseline: the training text is not available ({error})"
    else:
        note = f"the n-gram baseline is trained on {file.data}, as the model is"
    dataset = TextDataset(name, {**own, "test": texts}, file.codec, settings)
    count = len(dataset.tokens["test"]) - 1
    dataset.notes = [
        *notes,
        f"evaluated on all {count:,} {settings.unit}s of another text",
        note,
    ]
    return dataset
