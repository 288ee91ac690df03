"""drawing: characters and words drawn by hand, as people draw them, in the style of one of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import (
    Dataset,
    Metrics,
    ModelFile,
)
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.drawing.baselines import StraightOn
from memorycell.applications.drawing.codec import PenCodec, side_by_side
from memorycell.applications.drawing.model import Drawn, Writer, WriterConfig
from memorycell.errors import DataError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import by_length, padded
from memorycell.settings import check_choices, check_counts
from memorycell.signals.examples import MIN_EXAMPLES_PER_CLASS, Example, Splits
from memorycell.signals.splitting import SplitSettings, split_examples
from memorycell.signals.stroke_augmentation import augment_strokes
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import Drawing
from memorycell.training.splits import SPLITS

LONGEST = 1500
"""Moves of a drawing; longer ones are left out."""
GRAIN = 0.01
"""How closely the metrics tell a place, as a share of the height."""


@dataclass(frozen=True)
class DrawingSettings:
    """What --set can say about a model that draws.

    signs        what a drawing's label is: the letters of a text, the name of one character, or
                 auto
    held_out, checked, test_share   what is tested and validated on; see `SignalSettings`
    chain        characters of one writer that training puts side by side, at most, so that their
                 style is learnt
    spacing      from one point to the next, as a share of the height
    warp         how much training drawings are bent (0: not at all)
    cell, hidden   of both recurrent layers; mixtures: Gaussians of the next move
    budget       moves in a batch, padding included
    """

    signs: str = "auto"
    held_out: str | None = None
    checked: str | None = None
    test_share: float = 0.1
    chain: int = 2
    spacing: float = 0.08
    warp: float = 0.5
    cell: str = "lstm"
    hidden: int = 192
    mixtures: int = 12
    dropout: float = 0.2
    budget: int = 2500

    def __post_init__(self) -> None:
        check_choices(self, signs=("auto", "letters", "names"))
        check_counts(self, "chain", "hidden", "mixtures", "budget")
        if not (0.01 <= self.spacing <= 0.5 and 0 <= self.warp <= 3):
            raise ValueError("spacing: expected 0.01 to 0.5; warp: 0 to 3")
        self.rules()
        self.model_config(3)  # says what is wrong with the rest

    def rules(self) -> SplitSettings:
        """How examples are split, see `split_examples`."""
        return SplitSettings(
            held_out=self.held_out, checked=self.checked, test_share=self.test_share
        )

    def model_config(self, signs: int) -> WriterConfig:
        """The sizes of the model these settings ask for."""
        return WriterConfig(
            signs=signs,
            hidden_size=self.hidden,
            cell=self.cell,
            mixtures=self.mixtures,
            dropout=self.dropout,
        )


class DrawingDataset(Dataset):
    """Framed drawings by split, as moves."""

    def __init__(
        self,
        name: str,
        parts: Splits[Drawing],
        codec: PenCodec,
        settings: DrawingSettings,
        notes: list[str],
    ) -> None:
        self.name, self.codec, self.settings, self.notes = name, codec, settings, notes
        self.parts: Splits[Drawing] = {}
        self.moves: dict[str, list[np.ndarray]] = {}
        long = 0
        for split, part in parts.items():
            framed = [dataclasses.replace(e, raw=codec.framed(e.raw)) for e in part]
            moves = [codec.moves(e.raw) for e in framed]
            short = [k for k, m in enumerate(moves) if len(m) <= LONGEST]
            long += len(moves) - len(short)
            self.parts[split], self.moves[split] = (
                [framed[k] for k in short],
                [moves[k] for k in short],
            )
        if long:
            self.notes.append(f"left out: {long:,} drawings of more than {LONGEST:,} moves")
        self.fingerprint = fingerprint(
            f"{e.name}\t{e.label}" for part in parts.values() for e in part
        )

    def build(self) -> Writer:
        """A writer sized by the settings."""
        return Writer(self.settings.model_config(len(self.codec.signs)))

    def batches(self, seed: int) -> Iterator[Drawn]:
        """The training drawings, each bent a little, some with others of the same hand beside them;
        by length.
        """
        rng = np.random.default_rng(seed)
        part = self.parts["train"]
        chains = [self._chain(k, rng) for k in range(len(part))]
        sizes = np.array([sum(len(self.moves["train"][k]) for k in chain) for chain in chains])
        for rows in by_length(sizes, self.settings.budget, seed):
            drawings, said = [], []
            for row in rows:
                bent = [self._bent(part[k].raw, rng) for k in chains[row]]
                drawings.append(self.codec.moves(side_by_side(bent) if len(bent) > 1 else bent[0]))
                said.append([n for k in chains[row] for n in self.codec.read(part[k].label)])
            yield _batch(drawings, said)

    def _bent(self, drawing: Drawing, rng: np.random.Generator) -> Drawing:
        if not self.settings.warp:
            return drawing
        return self.codec.framed(augment_strokes(drawing, rng, warp=self.settings.warp, order=0.0))

    def _chain(self, first: int, rng: np.random.Generator) -> list[int]:
        """The numbers of drawings to put side by side: of characters, others of the same writer."""
        if self.codec.height:
            return [first]
        hand = self._hands[self.parts["train"][first].fields.get("writer", "")]
        more = rng.choice(hand, int(rng.integers(0, self.settings.chain)))
        return [first, *more.tolist()]

    @cached_property
    def _hands(self) -> dict[str, np.ndarray]:
        """Writer -> the numbers of the training drawings."""
        found: dict[str, list[int]] = {}
        for k, e in enumerate(self.parts["train"]):
            found.setdefault(e.fields.get("writer", ""), []).append(k)
        return {writer: np.array(numbers) for writer, numbers in found.items()}

    @torch.inference_mode()
    def evaluate(self, model: Writer, split: str, precision: str = "float32") -> Metrics:
        """Nats a point, of its move and of the pen together; nats_move and nats_pen."""
        model.eval()
        totals = np.zeros(2)
        moves, part = self.moves[split], self.parts[split]
        for rows in by_length(np.array([len(m) for m in moves]), 16_000, 0):
            batch = _batch([moves[k] for k in rows], [self.codec.read(part[k].label) for k in rows])
            totals += [float(n.double().sum()) for n in model.nats(batch)]
        move, pen = (totals / sum(map(len, moves))).tolist()
        return _told(move, pen, self.codec)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The straight line's metrics on a split."""
        if "train" not in self.parts:
            return {}
        return {
            "straight on": _told(
                *StraightOn(self.moves["train"]).nats(self.moves[split]), self.codec
            )
        }

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return np.concatenate(self.moves["test"])[:steps]

    def inspection_input(self) -> tuple[np.ndarray, list[int]]:
        """See `Dataset`: the longest drawing, and its signs."""
        k = int(np.argmax([len(m) for m in self.moves["test"]]))
        return self.moves["test"][k], self.codec.read(self.parts["test"][k].label)

    def info(self) -> dict[str, Any]:
        """For the model file."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.parts.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def _told(move: float, pen: float, codec: PenCodec) -> Metrics:
    """Nats a point: where it is, to a hundredth of the height, and what the pen does; nats_move and
    nats_pen.

    Given are nats of the moves' density in units of the scale: those depend on the unit and may be
    below zero.
    """
    move += 2 * math.log(codec.scale / GRAIN)
    return {"nats": move + pen, "nats_move": move, "nats_pen": pen}


def _batch(moves: list[np.ndarray], said: list[list[int]]) -> Drawn:
    x, lengths = padded(moves)
    return Drawn(x, lengths, padded([np.array(signs, np.int64) for signs in said], -1)[0])


def prepare(data: str | None, settings: DrawingSettings) -> DrawingDataset:
    """Read the drawings, split them, and only then fit signs and scale, to the training part."""
    examples, where, settings, notes = _read(data or "omniglot", settings)
    kinds = len({e.label for e in examples})
    names = settings.signs == "names" or (
        settings.signs == "auto" and len(examples) >= MIN_EXAMPLES_PER_CLASS * kinds
    )
    parts = split_examples(examples, settings.rules(), classes=names, where=where)
    signs = sorted({sign for e in parts["train"] for sign in ([e.label] if names else e.label)})
    heights = [float(np.ptp(np.concatenate(e.raw)[:, 1])) for e in parts["train"]]
    codec = PenCodec(
        tuple(signs), settings.spacing, 0.0 if names else max(float(np.median(heights)), 1e-6)
    )
    moves = np.concatenate([codec.moves(codec.framed(e.raw))[:, :2] for e in parts["train"]])
    codec = dataclasses.replace(codec, scale=max(float(moves.std()), 1e-9))
    known = set(signs)
    parts = {
        split: [e for e in parts[split] if set([e.label] if names else e.label) <= known]
        for split in SPLITS
    }
    dataset = DrawingDataset(where, parts, codec, settings, notes)
    dataset.notes.append(
        f"{len(examples):,} drawings: "
        + ", ".join(f"{len(p):,} {split}" for split, p in dataset.parts.items())
        + f"; {len(signs)} signs: {' '.join(signs[:12])}"
        + (" …" if len(signs) > 12 else "")
    )
    return dataset


def reopen(data: str | None, file: ModelFile) -> DrawingDataset:
    """The same for a trained model. Its own data: the held-out test part. Others: all of them."""
    settings: DrawingSettings = file.settings(DrawingSettings)
    trained = str(file.info["data"])
    codec: PenCodec = file.codec
    examples, where, _, notes = _read(data or trained, settings)
    letters = all(len(sign) == 1 for sign in codec.signs)
    examples = [e for e in examples if set(e.label if letters else [e.label]) <= set(codec.signs)]
    if not examples:
        raise DataError(f"{where}: holds no sign that the model draws")
    if data is None or data == trained:
        parts = split_examples(examples, settings.rules(), classes=not codec.height, where=where)
        notes.append("scored: the held-out test part")
    else:
        parts = {"test": examples}
        notes.append(
            f"scored: all {len(examples):,} drawings of another set; no simple method beside it"
        )
    return DrawingDataset(where, parts, codec, settings, notes)


def _read(
    data: str, settings: DrawingSettings
) -> tuple[list[Example[Drawing]], str, DrawingSettings, list[str]]:
    path, source = locate(data)
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    drawn, notes = read_strokes(path, where)
    said = [
        Example(
            d.drawing,
            "_".join(d.label.split()) if settings.signs == "names" else d.label,
            d.name,
            d.fields,
        )
        for d in drawn
        if d.label
    ]
    if not said:
        raise DataError(f"{where}: no drawing says what it is")
    return said, where, settings, notes
