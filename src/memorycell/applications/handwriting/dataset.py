"""The datasets of handwriting models: pen strokes, or images of lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.applications.handwriting.augmentation import augment_line, splice_letters
from memorycell.applications.handwriting.codec import Line, LineCodec
from memorycell.applications.handwriting.reading import (
    Source,
    find_source,
    read_drawings,
    read_images,
)
from memorycell.applications.handwriting.settings import HandwritingSettings
from memorycell.errors import DataError
from memorycell.signals import reopening
from memorycell.signals.codec import describe_outputs
from memorycell.signals.dataset import SignalDataset
from memorycell.signals.dtw import DtwClassifier
from memorycell.signals.examples import Example, LabelledData, choose_head
from memorycell.signals.preparing import split_and_fit
from memorycell.signals.recognise import SignalModel
from memorycell.signals.stroke_augmentation import augment_strokes
from memorycell.signals.strokes import Drawing, StrokeCodec

DTW_FEATURES = [6, 7, 4]
"""Of `StrokeCodec.encode`: x, y, and whether a stroke begins."""


class StrokeDataset(SignalDataset[Drawing, StrokeCodec]):
    """Drawings."""

    settings: HandwritingSettings

    def encode(self, example: Example[Drawing]) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def augment(self, example: Example[Drawing], rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`."""
        s = self.settings
        order = s.for_strokes("classes" if self.classes else "text").order
        return self.codec.encode(augment_strokes(example.raw, rng, warp=s.warp, order=order))

    def fit_dtw(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`: on positions and stroke beginnings."""

        def features(split: str) -> list[np.ndarray]:
            return [x[:, DTW_FEATURES] for x in self.features[split]]

        classifier = DtwClassifier(features("train"), self.truth["train"])
        return lambda split: classifier.classify(features(split))


class LineDataset(SignalDataset[Line, LineCodec]):
    """Images of lines."""

    settings: HandwritingSettings

    def encode(self, example: Example[Line]) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def augment(self, example: Example[Line], rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(augment_line(example.raw, rng, warp=self.settings.warp))

    def substitute(self, example: Example[Line], rng: np.random.Generator) -> Example[Line]:
        """See `SignalDataset`: sometimes a word of random letters, so that the model learns letters
        and not words.
        """
        source = self._with_letter_ends
        if self.classes or not source or rng.random() >= self.settings.splice:
            return example
        length = max(1, len(example.label) + int(rng.integers(-2, 3)))
        line, label = splice_letters(
            [e.raw for e in source], [e.label for e in source], rng, length
        )
        return dataclasses.replace(example, raw=line, label=label)

    @cached_property
    def _with_letter_ends(self) -> list[Example[Line]]:
        return [e for e in self.splits["train"] if len(e.raw.letter_ends) == len(e.label)]

    def fit_dtw(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`: on the pixels."""
        classifier = DtwClassifier(self.features["train"], self.truth["train"])
        return lambda split: classifier.classify(self.features[split])


def prepare(data: str | None, settings: HandwritingSettings) -> StrokeDataset | LineDataset:
    """See `Application.prepare`: outputs and scale are fitted on the training split."""
    source = find_source(data or "omniglot", settings)
    dataset = _prepare_lines(source) if source.has_images else _prepare_strokes(source)
    steps = np.mean([len(x) for x in dataset.features["train"]])
    dataset.notes += [f"{steps:.0f} steps per example", describe_outputs(dataset.codec)]
    return dataset


def _prepare_lines(source: Source) -> LineDataset:
    labelled, settings = read_images(source), source.settings
    prepared = split_and_fit(labelled, settings, choose_head(settings.head, labelled))
    codec = LineCodec(**prepared.outputs, height=settings.height, stack=settings.stack)
    dataset = LineDataset(labelled.name, prepared.splits, codec, settings, prepared.notes)
    dataset.set_unknown(prepared.unknown)
    dataset.notes.append(f"{len(labelled.examples):,} images: {dataset.split_sizes()}")
    return dataset


def _prepare_strokes(source: Source) -> StrokeDataset:
    labelled, settings = read_drawings(source), source.settings
    head = choose_head(settings.head, labelled)
    prepared = split_and_fit(labelled, settings, head)
    heights = [float(np.ptp(np.concatenate(e.raw)[:, 1])) for e in prepared.splits["train"]]
    codec = StrokeCodec(
        **prepared.outputs,
        frame="box" if head == "classes" else "line",
        height=max(float(np.median(heights)), 1e-6),
        spacing=settings.for_strokes(head).spacing,
    )
    dataset = StrokeDataset(labelled.name, prepared.splits, codec, settings, prepared.notes)
    dataset.set_unknown(prepared.unknown)
    dataset.notes.append(f"{len(labelled.examples):,} drawings: {dataset.split_sizes()}")
    return dataset


def reopen(
    data: str | None, file: ModelFile[SignalModel, StrokeCodec | LineCodec]
) -> StrokeDataset | LineDataset:
    """See `Application.reopen`."""
    codec = file.codec
    settings = dataclasses.replace(file.typed_settings(HandwritingSettings), lossy=True)

    def source_for(name: str) -> Source:
        source = find_source(name, settings)
        kinds = ("images", "strokes") if source.has_images else ("strokes", "images")
        if source.has_images != isinstance(codec, LineCodec):
            raise DataError(f"{source.name}: contains {kinds[0]}; the model reads {kinds[1]}")
        return source

    if isinstance(codec, LineCodec):
        line_codec = codec

        def lines(name: str) -> LabelledData[Line]:
            return read_images(source_for(name))

        return reopening.reopen(
            data,
            file,
            settings,
            lines,
            lambda name, splits, notes: LineDataset(name, splits, line_codec, settings, notes),
        )
    stroke_codec = codec

    def drawings(name: str) -> LabelledData[Drawing]:
        return read_drawings(source_for(name))

    return reopening.reopen(
        data,
        file,
        settings,
        drawings,
        lambda name, splits, notes: StrokeDataset(name, splits, stroke_codec, settings, notes),
    )
