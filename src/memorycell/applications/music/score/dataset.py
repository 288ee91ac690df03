"""Scores by split, with n-gram baselines, and the statistics of what a model composes."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.applications.music.model_files import ScoreFile
from memorycell.applications.music.reading import check_sizes
from memorycell.applications.music.score.codec import ScoreCodec, fit_codec
from memorycell.applications.music.score.composing import NO_LIMITS, Limits, compose
from memorycell.applications.music.score.model import EVENTS_PER_NOTE, ScoreModel
from memorycell.applications.music.score.notation import Score
from memorycell.applications.music.score.progress import header_of
from memorycell.applications.music.score.reading import read_voiced_scores
from memorycell.applications.music.score.statistics import compare
from memorycell.applications.music.settings import MusicSettings
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID, fingerprint
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.models.batches import PaddedBatch, by_length, padded

EVALUATION_BUDGET = 6000
"""Notes per batch."""
MAX_COMPOSED = 60
"""Pieces composed to be compared with those of a split."""
MAX_LOG_PERPLEXITY = 700.0
Encoded = tuple[np.ndarray, np.ndarray]
"""See `ScoreCodec.encode`."""


class ScoreDataset(Dataset[ScoreModel, PaddedBatch]):
    """See `Dataset`."""

    codec: ScoreCodec

    def __init__(
        self,
        name: str,
        scores: Mapping[str, Sequence[Score]],
        codec: ScoreCodec,
        settings: MusicSettings,
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes: list[str] = []
        self.scores = scores
        self.pieces: dict[str, list[Encoded]] = {
            split: [codec.encode(score) for score in part] for split, part in scores.items()
        }
        self.fingerprint = fingerprint(
            " ".join(map(str, ids.ravel().tolist()))
            for part in self.pieces.values()
            for _, ids in part
        )

    def build(self) -> ScoreModel:
        """See `Dataset`."""
        codec = self.codec
        return ScoreModel(
            self.settings.score_config(codec.input_size, codec.num_pitches, codec.num_lengths)
        )

    def batches(self, seed: int) -> Iterator[PaddedBatch]:
        """See `Dataset`; pieces of similar length."""
        for rows in by_length(self._lengths("train"), self.settings.budget, seed):
            yield self._batch("train", rows)

    def _lengths(self, split: str) -> np.ndarray:
        return np.array([len(ids) for _, ids in self.pieces[split]])

    def _batch(self, split: str, rows: np.ndarray) -> PaddedBatch:
        chosen = [self.pieces[split][k] for k in rows]
        x, lengths = padded([self.codec.inputs(blocks) for blocks, _ in chosen])
        ids, _ = padded([ids for _, ids in chosen])
        return PaddedBatch(x, lengths, ids)

    @torch.inference_mode()
    def evaluate(self, model: ScoreModel, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats and perplexity per event (a pitch or a length), nats per note."""
        model.eval()
        if precision != "float32":
            return self._metrics(self._stepped_nats(model, split, precision), split)
        total = 0.0
        for rows in by_length(self._lengths(split), EVALUATION_BUDGET, 0):
            total += float(model.nats(self._batch(split, rows)).double().sum())
        return self._metrics(total, split)

    @torch.inference_mode()
    def _stepped_nats(self, model: ScoreModel, split: str, precision: str) -> float:
        stepper = model.stepper(precision)
        total = 0.0
        for blocks, ids in self.pieces[split]:
            state = np.zeros((1, stepper.layout.width), np.float32)
            hidden, _ = stepper.step_one(state, 0, self.codec.inputs(blocks))
            nats = model.head.nats(torch.from_numpy(hidden), torch.from_numpy(ids))
            total += float(nats.double().sum())
        return total

    def _metrics(self, total: float, split: str) -> Metrics:
        """From the total nats of a split."""
        notes = max(1, sum(len(ids) for _, ids in self.pieces[split]))
        mean = total / (EVENTS_PER_NOTE * notes)
        return {
            "nats": mean,
            "perplexity": math.exp(min(mean, MAX_LOG_PERPLEXITY)),
            "nats_note": total / notes,
        }

    @cached_property
    def _ngrams(self) -> dict[str, tuple[bool, KneserNey]]:
        """Name -> (whether it reads voices one by one, the model)."""
        models = {}
        for by_voice in (False, True)[: self.codec.voices]:
            train, valid = (self._tokens(split, by_voice) for split in ("train", "valid"))
            ngram = fit_kneser_ney(train, valid, self._vocabulary)
            reads = " within each voice" if by_voice else ""
            models[f"{ngram.order}-gram{reads}"] = by_voice, ngram
        return models

    @property
    def _header_ids(self) -> int:
        """The first of the ids of headers: a metre and mode, or a voice with them."""
        return END_ID + 1 + self.codec.num_pitches + self.codec.num_lengths

    @property
    def _vocabulary(self) -> int:
        return self._header_ids + 2 * len(self.codec.metres) * self.codec.voices

    def _tokens(self, split: str, by_voice: bool) -> np.ndarray:
        """The events of a split in the order of the model, or voice by voice. Before each piece, or
        voice, are `END_ID` and an id of its metre, mode and voice, which are not predicted.
        """
        tokens = [np.array([END_ID])]
        first = np.array([END_ID + 1, END_ID + 1 + self.codec.num_lengths])
        for blocks, ids in self.pieces[split]:
            kind = 2 * int(blocks[0, 1]) + int(blocks[0, 2])
            events = ids[:, [0, 2]] + first
            for voice in range(self.codec.voices if by_voice else 1):
                own = events[blocks[:, 0] == voice] if by_voice else events
                header = self._header_ids + kind * self.codec.voices + voice
                tokens += [np.array([header]), own.ravel(), np.array([END_ID])]
        return np.concatenate(tokens).astype(np.int64)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.pieces:
            return {}
        results = {}
        for name, (by_voice, ngram) in self._ngrams.items():
            tokens = self._tokens(split, by_voice)
            events = (tokens > END_ID) & (tokens < self._header_ids)
            total = float(-np.log(ngram.probabilities(tokens)[events]).sum())
            results[name] = self._metrics(total, split)
        return results

    def details(self, model: ScoreModel, split: str) -> Record:
        """What the model composes in the metres, keys and lengths of the split's pieces, without
        limits and as `predict` does, compared with these pieces; see `compare`.
        """
        every = max(1, len(self.scores[split]) // MAX_COMPOSED)
        real = list(self.scores[split][::every][:MAX_COMPOSED])
        model.eval()
        groups = {
            name: [
                compose(
                    model, self.codec, header_of(score), np.random.default_rng(k), limits=limits
                )
                for k, score in enumerate(real)
            ]
            for name, limits in (("model", NO_LIMITS), ("predict", Limits()))
        }
        train = self.scores.get("train", real)
        return {"composed": compare({**groups, "corpus": real}, train, self.codec.ranges)}

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        blocks = np.concatenate([blocks for blocks, _ in self.pieces["test"]])
        return self.codec.inputs(blocks[:steps])

    def inspection_input(self) -> np.ndarray:
        """The inputs of the longest test piece, [T, I] float32."""
        return self.codec.inputs(max((b for b, _ in self.pieces["test"]), key=len))

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": {split: len(part) for split, part in self.pieces.items()},
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats per event",
        }


def prepare_scores(data: str, settings: MusicSettings) -> ScoreDataset:
    """See `Application`, for view=score."""
    scores, where, notes = read_voiced_scores(data, settings.lossy)
    counts = Counter(len(score.voices) for score in scores["train"])
    voices = settings.voices or counts.most_common(1)[0][0] if counts else 1
    of_voices = {s: [p for p in part if len(p.voices) == voices] for s, part in scores.items()}
    check_sizes(of_voices, where)
    codec = fit_codec(of_voices["train"])
    kept = _fitting(of_voices, codec)
    check_sizes(kept, where)
    left_out = sum(map(len, scores.values())) - sum(map(len, kept.values()))
    if left_out:
        notes.append(
            f"{left_out:,} pieces left out: not {voices} voices (--set voices=N), or a metre that"
            " no training piece has"
        )
    dataset = ScoreDataset(where, kept, codec, settings)
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in kept.items())
    total = sum(len(ids) for part in dataset.pieces.values() for _, ids in part)
    summary = f"{sizes} pieces of {voices} voices, {total:,} notes; {', '.join(codec.metres)}"
    dataset.notes = [*notes, summary]
    return dataset


def _fitting(scores: Mapping[str, Sequence[Score]], codec: ScoreCodec) -> dict[str, list[Score]]:
    """The scores that a codec can encode."""
    return {
        split: [s for s in part if len(s.voices) == codec.voices and str(s.metre) in codec.metres]
        for split, part in scores.items()
    }


def reopen_scores(data: str | None, file: ScoreFile, settings: MusicSettings) -> ScoreDataset:
    """See `Application`, for view=score."""
    read, where, notes = read_voiced_scores(data or file.data, settings.lossy)
    scores = _fitting(read, file.codec)
    if data is None or data == file.data:
        notes.append("evaluated: the test split")
    else:
        trained: dict[str, list[Score]] = {}
        try:
            own = read_voiced_scores(file.data, settings.lossy).splits
            trained = _fitting(own, file.codec)
        except UserError as error:
            notes.append(f"no baselines, since the training data are not available ({error})")
        seen = {score.melody() for score in trained.get("train", [])}
        new = [s for part in scores.values() for s in part if s.melody() not in seen]
        if not new:
            raise DataError(
                f"{where}: the model was trained on all of these pieces, or has other voices and"
                " metres; use others"
            )
        notes.append(f"evaluated: {len(new):,} pieces of another dataset")
        scores = {**trained, "test": new}
    dataset = ScoreDataset(where, scores, file.codec, settings)
    if data is None and dataset.fingerprint != file.fingerprint:
        notes.append(f"{file.data} has changed since the model was trained")
    dataset.notes = notes
    return dataset
