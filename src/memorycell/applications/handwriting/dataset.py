"""handwriting: which character was drawn, or what was written; from pen strokes as they are drawn,
or from pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.handwriting import lines
from memorycell.applications.handwriting.lines import LineCodec
from memorycell.errors import DataError
from memorycell.settings import check_counts
from memorycell.signals import dataset as signals
from memorycell.signals import strokes
from memorycell.signals.codec import fit_outputs
from memorycell.signals.dataset import Example, SignalDataset, SignalSettings, head_of, parted
from memorycell.signals.dtw import NearestByWarping
from memorycell.signals.recordings import find_recordings
from memorycell.signals.strokes import Drawn, StrokeCodec, read_strokes


@dataclass(frozen=True)
class HandwritingSettings(SignalSettings):
    """What --set can say about a model of handwriting, besides `SignalSettings`.

    names    of pictures: a pattern of their names, such as "{label}_{group}_{index}", where there
             is no list of transcripts
    spacing  of strokes: from one point to the next, as a share of the drawing's height
    warp     how much training drawings are bent (0: not at all); order: probability that two
             strokes change places
    height, stack   of pictures: rows they are brought to, columns in a step
    splice   of pictures whose letters' borders are known: the share of training words made of
             letters at random
    """

    hidden: int = 128
    dropout: float = 0.4
    names: str | None = None
    spacing: float = 0.06
    warp: float = 1.0
    order: float = 0.2
    height: int = 16
    stack: int = 2
    splice: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "height", "stack")
        if not (
            0.005 <= self.spacing <= 0.5
            and 0 <= self.warp <= 3
            and 0 <= self.order <= 1
            and 0 <= self.splice <= 1
        ):
            raise ValueError(
                "spacing: expected 0.005 to 0.5; warp: 0 to 3; order, splice: probabilities"
            )


class StrokeDataset(SignalDataset):
    """Drawings; `raw` of an example is a list of strokes."""

    codec: StrokeCodec
    settings: HandwritingSettings

    def encode(self, example: Example) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def varied(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`: as another hand might have drawn it."""
        s = self.settings
        return self.codec.encode(strokes.redrawn(example.raw, rng, warp=s.warp, order=s.order))

    def nearest(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`: over where the points lie and whether the pen was up."""

        def places(split: str) -> list[np.ndarray]:
            return [x[:, [6, 7, 4]] for x in self.features[split]]

        known = NearestByWarping(places("train"), self.truth["train"])
        return lambda split: known.classify(places(split))


class LineDataset(SignalDataset):
    """Pictures of lines; `raw` of an example is a `Line`."""

    codec: LineCodec
    settings: HandwritingSettings

    def encode(self, example: Example) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def varied(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`: bent and specked."""
        return self.codec.encode(lines.rewritten(example.raw, rng, warp=self.settings.warp))

    def respelled(self, example: Example, rng: np.random.Generator) -> Example:
        """See `SignalDataset`: now and then a word that nobody wrote, so that letters are learnt,
        not words.
        """
        if self.classes or not self._cut or rng.random() >= self.settings.splice:
            return example
        length = max(1, len(example.said) + int(rng.integers(-2, 3)))
        line, said = lines.spliced(
            [e.raw for e in self._cut], [e.said for e in self._cut], rng, length
        )
        return dataclasses.replace(example, raw=line, said=said)

    @cached_property
    def _cut(self) -> list[Example]:
        """The training examples whose letters' borders are known."""
        return [e for e in self.parts["train"] if len(e.raw.ends) == len(e.said)]

    def nearest(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`."""
        known = NearestByWarping(self.features["train"], self.truth["train"])
        return lambda split: known.classify(self.features[split])


def prepare(data: str | None, settings: HandwritingSettings) -> SignalDataset:
    """Read what was written, split it, and only then fit letters, scale and lexicon, to the
    training part.
    """
    examples, written, where, settings, notes = _read(data or "omniglot", settings)
    head = head_of(examples, settings, written=written)
    parts = parted(examples, settings, classes=head == "classes", where=where)
    outputs = fit_outputs(
        [e.said for e in parts["train"]], head, settings.unit, settings.vocabulary, where
    )
    if head == "classes":
        parts, unseen = signals.known_classes(parts, outputs["labels"])
        notes += unseen
    dataset: SignalDataset
    if isinstance(examples[0].raw, lines.Line):
        codec = LineCodec(**outputs, height=settings.height, stack=settings.stack)
        dataset = LineDataset(where, parts, codec, settings, notes)
    else:
        heights = [float(np.ptp(np.concatenate(e.raw)[:, 1])) for e in parts["train"]]
        dataset = StrokeDataset(
            where,
            parts,
            StrokeCodec(
                **outputs,
                frame="box" if head == "classes" else "line",
                height=max(float(np.median(heights)), 1e-6),
                spacing=settings.spacing,
            ),
            settings,
            notes,
        )
    steps = np.mean([len(x) for x in dataset.features["train"]])
    dataset.notes.append(
        f"{len(examples):,} examples, {steps:.0f} steps each: "
        + ", ".join(f"{len(part):,} {split}" for split, part in dataset.parts.items())
    )
    dataset.notes.append(signals.outputs_in_words(dataset.codec))
    return dataset


def reopen(data: str | None, file: ModelFile) -> SignalDataset:
    """The same for a trained model. Its own data: the held-out test part. Others: all of them."""
    kind = LineDataset if isinstance(file.codec, LineCodec) else StrokeDataset
    found: SignalDataset = signals.reopen(
        data, file, HandwritingSettings, kind, lambda name, s: _opened(name, s, file)
    )
    return found


def _opened(data: str, settings: HandwritingSettings, file: ModelFile) -> tuple[list[Example], str]:
    examples, _, where, _, _ = _read(data, settings)
    pictures = isinstance(examples[0].raw, lines.Line)
    if pictures != isinstance(file.codec, LineCodec):
        raise DataError(
            f"{where}: holds {'pictures' if pictures else 'strokes'}; the model reads the other"
        )
    return examples, where


def _read(
    data: str, settings: HandwritingSettings
) -> tuple[list[Example], bool, str, HandwritingSettings, list[str]]:
    """(examples, whether what is said was written, the data's name, the settings with the set's
    own, notes).
    """
    path, source = locate(data)
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    if path.suffix == ".npz":
        words = lines.read_letters(path)
        return (
            [Example(line, said, name) for line, said, name in words],
            True,
            where,
            _as_text(settings),
            [],
        )
    holds_pictures = path.is_dir() and any(
        p.suffix.lower() in lines.ENDINGS for p in path.rglob("*")
    )
    if holds_pictures or path.suffix in (".csv", ".tsv", ".parquet"):
        return _read_pictures(data, settings)
    drawn, notes = read_strokes(path, where)
    named = [d for d in drawn if d.said]
    if len(named) < len(drawn):
        notes.append(
            f"left out: {len(drawn) - len(named):,} drawings that do not say what they are"
        )
    if not named:
        raise DataError(f"{where}: no drawing says what it is ({', '.join(strokes.SAYS)})")
    return [_example(d) for d in named], all(len(d.said) > 1 for d in named), where, settings, notes


def _as_text(settings: HandwritingSettings) -> HandwritingSettings:
    return dataclasses.replace(settings, head="text") if settings.head == "auto" else settings


def _example(drawn: Drawn) -> Example:
    return Example(drawn.drawing, drawn.said, drawn.name, drawn.fields)


def _read_pictures(
    data: str, settings: HandwritingSettings
) -> tuple[list[Example], bool, str, HandwritingSettings, list[str]]:
    path, _ = locate(data)
    found, written, notes = find_recordings(path, str(data), lines.ENDINGS, names=settings.names)
    base = path if path.is_dir() else path.parent
    examples, bad = [], []
    for one in found:
        try:
            line = lines.read_line(one.path)
        except DataError as error:
            bad.append(str(error))
            continue
        examples.append(Example(line, one.said, one.path.relative_to(base).as_posix(), one.fields))
    if not examples:
        raise DataError(f"{data}: none of {len(found)} pictures can be read; the first: {bad[0]}")
    if bad:
        notes.append(f"left out: {len(bad):,} pictures that cannot be read; the first: {bad[0]}")
    return examples, written, str(data), settings, notes
