"""Drawings by split, as moves of a pen, with their baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, ModelFile, Record
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.drawing.baselines import LinearMoves
from memorycell.applications.drawing.codec import PenCodec, join_in_row
from memorycell.applications.drawing.model import NO_SIGN, DrawingBatch, Writer
from memorycell.applications.drawing.settings import DrawingSettings
from memorycell.errors import DataError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import by_length, padded
from memorycell.reading import Losses
from memorycell.signals.drawings import LABEL_KEYS, shown_name
from memorycell.signals.examples import MIN_EXAMPLES_PER_CLASS, Example, Splits
from memorycell.signals.splitting import split_examples
from memorycell.signals.stroke_augmentation import augment_strokes
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import Drawing
from memorycell.training.splits import SPLITS

DEFAULT_DATASET = "omniglot"
MAX_MOVES = 1500
"""Longer drawings are left out."""
RESOLUTION = 0.01
"""Of a position, as a fraction of the height: the unit of `nats_move`."""
EVALUATION_BUDGET = 16_000
"""Moves per batch."""
MAX_SHOWN_SIGNS = 12


class DrawingDataset(Dataset[Writer, DrawingBatch]):
    """See `Dataset`.

    examples   split -> normalised drawings
    moves      split -> their moves [T, 3]
    """

    codec: PenCodec

    def __init__(
        self,
        name: str,
        splits: Splits[Drawing],
        codec: PenCodec,
        settings: DrawingSettings,
        notes: list[str],
    ) -> None:
        self.name, self.codec, self.settings, self.notes = name, codec, settings, notes
        self.examples: Splits[Drawing] = {}
        self.moves: dict[str, list[np.ndarray]] = {}
        dropped = 0
        for split, examples in splits.items():
            normalised = [dataclasses.replace(e, raw=codec.normalise(e.raw)) for e in examples]
            moves = [codec.to_moves(e.raw) for e in normalised]
            kept = [k for k, m in enumerate(moves) if len(m) <= MAX_MOVES]
            dropped += len(moves) - len(kept)
            self.examples[split] = [normalised[k] for k in kept]
            self.moves[split] = [moves[k] for k in kept]
        losses, total = Losses("drawings"), sum(map(len, splits.values()))
        losses.skip(f"more than {MAX_MOVES:,} moves", dropped)
        losses.check(total, shown_name(name), settings.lossy)
        self.notes += losses.notes(total)
        self.fingerprint = fingerprint(
            f"{e.name}\t{e.label}" for examples in splits.values() for e in examples
        )

    def build(self) -> Writer:
        """See `Dataset`."""
        return Writer(self.settings.model_config(len(self.codec.signs)))

    def batches(self, seed: int) -> Iterator[DrawingBatch]:
        """See `Dataset`; augmented drawings of similar length, some joined with others by the same
        writer.
        """
        rng = np.random.default_rng(seed)
        examples = self.examples["train"]
        chains = [self._chain(k, rng) for k in range(len(examples))]
        sizes = np.array([sum(len(self.moves["train"][k]) for k in chain) for chain in chains])
        for rows in by_length(sizes, self.settings.budget, seed):
            moves, signs = [], []
            for chain in (chains[row] for row in rows):
                drawings = [self._augment(examples[k].raw, rng) for k in chain]
                drawing = join_in_row(drawings) if len(chain) > 1 else drawings[0]
                moves.append(self._with_jitter(self.codec.to_moves(drawing), rng))
                signs.append([i for k in chain for i in self.codec.sign_ids(examples[k].label)])
            yield _pad(moves, signs)

    def _augment(self, drawing: Drawing, rng: np.random.Generator) -> Drawing:
        if not self.settings.warp:
            return drawing
        warped = augment_strokes(drawing, rng, warp=self.settings.warp, order=0.0)
        return self.codec.normalise(warped)

    def _with_jitter(self, moves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Moves [T, 3] with each point displaced on its own, so that the model learns to return to
        the line: when it draws, it departs from it.
        """
        if not self.settings.jitter:
            return moves
        shifts = rng.normal(0, self.settings.jitter / self.codec.scale, (len(moves), 2))
        displaced = moves.copy()
        displaced[:, :2] += np.diff(shifts, axis=0, prepend=np.zeros((1, 2)))
        return displaced

    def _chain(self, first: int, rng: np.random.Generator) -> list[int]:
        """The indices of training drawings to join: one, and for characters others by the same
        writer.
        """
        if self.codec.height:
            return [first]
        own = self._by_writer[self.examples["train"][first].fields.get("writer", "")]
        others = rng.choice(own, int(rng.integers(0, self.settings.chain)))
        return [first, *others.tolist()]

    @cached_property
    def _by_writer(self) -> dict[str, np.ndarray]:
        """Writer -> indices of training drawings."""
        indices: dict[str, list[int]] = {}
        for k, example in enumerate(self.examples["train"]):
            indices.setdefault(example.fields.get("writer", ""), []).append(k)
        return {writer: np.array(own) for writer, own in indices.items()}

    @torch.inference_mode()
    def evaluate(self, model: Writer, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats per point, `nats_move` of the move and `nats_pen` of the pen."""
        model.eval()
        moves, examples = self.moves[split], self.examples[split]
        totals = np.zeros(2)
        for rows in by_length(np.array([len(m) for m in moves]), EVALUATION_BUDGET, 0):
            signs = [self.codec.sign_ids(examples[k].label) for k in rows]
            batch = _pad([moves[k] for k in rows], signs)
            totals += [float(nats.double().sum()) for nats in model.nats(batch)]
        move, pen = (totals / sum(map(len, moves))).tolist()
        return self._metrics(move, pen)

    def _metrics(self, move: float, pen: float) -> Metrics:
        """From nats per point, of the move as a density in units of the codec's scale, which is
        converted to positions at `RESOLUTION`, so that it does not depend on the scale.
        """
        move += 2 * math.log(self.codec.scale / RESOLUTION)
        return {"nats": move + pen, "nats_move": move, "nats_pen": pen}

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.moves:
            return {}
        linear = LinearMoves(self.moves["train"])
        return {"straight on": self._metrics(*linear.nats(self.moves[split]))}

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return np.concatenate(self.moves["test"])[:steps]

    def inspection_input(self) -> tuple[np.ndarray, list[int]]:
        """(moves [T, 3], sign ids) of the longest test drawing."""
        k = int(np.argmax([len(m) for m in self.moves["test"]]))
        return self.moves["test"][k], self.codec.sign_ids(self.examples["test"][k].label)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(examples) for split, examples in self.examples.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def _pad(moves: Sequence[np.ndarray], signs: Sequence[Sequence[int]]) -> DrawingBatch:
    x, lengths = padded(moves)
    padded_signs, _ = padded([np.array(ids, np.int64) for ids in signs], NO_SIGN)
    return DrawingBatch(x, lengths, padded_signs)


def prepare(data: str | None, settings: DrawingSettings) -> DrawingDataset:
    """See `Application`. Read the drawings, split them, then fit signs and scale to the training
    split.
    """
    data = data or DEFAULT_DATASET
    settings = with_dataset_settings(settings, locate(data)[1])
    examples, where, notes = _read(data, settings)
    names = _are_names(examples, settings)
    splits, split_notes = split_examples(examples, settings, classes=names, where=where)
    codec = _fit_codec(splits["train"], settings, names)
    known = set(codec.signs)
    splits = {
        split: [e for e in splits[split] if set(_signs(e, names)) <= known] for split in SPLITS
    }
    dataset = DrawingDataset(where, splits, codec, settings, [*notes, *split_notes])
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in dataset.examples.items())
    shown = " ".join(codec.signs[:MAX_SHOWN_SIGNS])
    shown += " …" if len(codec.signs) > MAX_SHOWN_SIGNS else ""
    dataset.notes.append(f"{len(examples):,} drawings: {sizes}; {len(codec.signs)} signs: {shown}")
    return dataset


def _are_names(examples: Sequence[Example[Drawing]], settings: DrawingSettings) -> bool:
    """Whether each label is the name of a character, instead of a text."""
    if settings.signs != "auto":
        return settings.signs == "names"
    labels = {example.label for example in examples}
    return len(examples) >= MIN_EXAMPLES_PER_CLASS * len(labels)


def _signs(example: Example[Drawing], names: bool) -> Sequence[str]:
    return [example.label] if names else example.label


def _fit_codec(
    train: Sequence[Example[Drawing]], settings: DrawingSettings, names: bool
) -> PenCodec:
    signs = sorted({sign for example in train for sign in _signs(example, names)})
    heights = [float(np.ptp(np.concatenate(e.raw)[:, 1])) for e in train]
    height = 0.0 if names else max(float(np.median(heights)), 1e-6)
    codec = PenCodec(tuple(signs), settings.spacing, height)
    moves = np.concatenate([codec.to_moves(codec.normalise(e.raw))[:, :2] for e in train])
    return dataclasses.replace(codec, scale=max(float(moves.std()), 1e-9))


def reopen(data: str | None, file: ModelFile[Writer, PenCodec]) -> DrawingDataset:
    """See `Application`."""
    settings = dataclasses.replace(file.typed_settings(DrawingSettings), lossy=True)
    codec = file.codec
    examples, where, notes = _read(data or file.data, settings)
    known = set(codec.signs)
    examples = [e for e in examples if set(_signs(e, not codec.letters)) <= known]
    if not examples:
        raise DataError(f"{where}: contains no sign that the model draws")
    if data is None or data == file.data:
        splits, _ = split_examples(examples, settings, classes=not codec.height, where=where)
        notes.append("evaluated: the test split")
    else:
        splits = {"test": examples}
        notes.append(f"evaluated: all {len(examples):,} drawings of another dataset; no baselines")
    return DrawingDataset(where, splits, codec, settings, notes)


def _read(data: str, settings: DrawingSettings) -> tuple[list[Example[Drawing]], str, list[str]]:
    """(labelled drawings, the name of the data, notes)"""
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    drawings, notes = read_strokes(path, where, encoding=settings.encoding, lossy=settings.lossy)
    examples = [
        Example(
            d.drawing,
            "_".join(d.label.split()) if settings.signs == "names" else d.label,
            d.name,
            d.fields,
        )
        for d in drawings
        if d.label
    ]
    if not examples:
        raise DataError(f"{where}: no drawing has a label ({', '.join(LABEL_KEYS)})")
    losses = Losses("drawings")
    losses.skip("no label", len(drawings) - len(examples))
    losses.check(len(drawings), where, settings.lossy)
    return examples, where, notes + losses.notes(len(drawings))
