"""The strength of augmentation and the encoder, chosen by short trials on validation sequences, or
where there are none by cross-validation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from memorycell.applications.sequences.augmentation import LEVELS
from memorycell.training.adamw import AdamW
from memorycell.training.threads import StepThreads

if TYPE_CHECKING:
    from memorycell.applications.sequences.dataset import SequencesDataset
    from memorycell.applications.sequences.model import SequenceBatch

TRIAL_UPDATES, TRIAL_LR, TRIAL_HIDDEN = 150, 1e-2, 32
"""The same work whatever the machine."""
CONVOLVED_UPDATES = 400
"""Where only models with convolutions are compared, which need longer."""
TRIAL_MEMBERS, FEW_TRIAL_MEMBERS, MAX_FEW = 2, 5, 200
"""Where members leave out sequences, as many are tried, and of a few sequences more: those that
they leave out are validated.
"""
USUAL, MIN_GAIN = "light", 0.15
"""The augmentation that is used unless another one saves this share of the loss: in short trials
none is at an advantage, as it is fitted sooner.
"""
MAX_TRIED = 5000
"""Training sequences of a trial, and validation sequences; of more as many at random."""
MAX_CONVOLVED_ROWS = 4096
"""Training of convolutions needs memory for every row."""


def choose(dataset: SequencesDataset) -> SequencesDataset:
    """The dataset with `augment` and `encoder` set. A target at every step is trained without
    augmentation, as time must stay as it is, and without convolutions.

    Convolutions are used where members leave out sequences and one class is predicted: of few
    sequences a recurrent network learns shapes slowly, and convolutions had the lower loss on all
    sets that were compared (docs/sequences.md). Otherwise they are chosen where they save
    `MIN_GAIN` of the loss, as a model without them runs faster live and in every precision. They
    are not used where `augment` is set, nor on sequences longer than `MAX_CONVOLVED_ROWS`.
    """
    settings = dataset.settings
    if settings.augment is not None or dataset.codec.every_step:
        augment = settings.augment or "none"
        encoder = settings.encoder or "none"
        return dataset.with_settings(replace(settings, augment=augment, encoder=encoder))
    encoders = ("none", "conv") if settings.encoder is None else (settings.encoder,)
    if settings.encoder is None and int(dataset.part("train").lengths.max()) > MAX_CONVOLVED_ROWS:
        encoders = ("none",)
    elif len(encoders) > 1 and dataset.left_out is not None and dataset.codec.target == "class":
        encoders = ("conv",)
    members = 1
    if dataset.parts.left_out is not None:
        few = len(dataset.part("train")) <= MAX_FEW
        members = min(FEW_TRIAL_MEMBERS if few else TRIAL_MEMBERS, dataset.members)
    small = replace(settings, hidden=min(settings.hidden, TRIAL_HIDDEN), members=members)
    updates = CONVOLVED_UPDATES if encoders == ("conv",) else TRIAL_UPDATES
    found: dict[str, tuple[str, float]] = {}
    notes, tried = [], sampled(dataset, MAX_TRIED)
    for encoder in encoders:
        scores = {
            name: trial_loss(
                tried.with_settings(replace(small, augment=name, encoder=encoder)), updates
            )
            for name in LEVELS
        }
        best = min(scores, key=scores.__getitem__)
        if scores[best] > (1 - MIN_GAIN) * scores[USUAL]:
            best = USUAL
        found[encoder] = best, scores[best]
        listed = ", ".join(f"{name} {score:.4g}" for name, score in scores.items())
        notes.append(listed if len(encoders) == 1 else f"encoder={encoder}: {listed}")
    encoder = encoders[0]
    if len(encoders) > 1 and found["conv"][1] < (1 - MIN_GAIN) * found["none"][1]:
        encoder = "conv"
    augment = found[encoder][0]
    chosen = dataset.with_settings(replace(settings, augment=augment, encoder=encoder))
    both = f"augment={augment}"
    if settings.encoder is None:
        both = f"encoder={encoder} and {both}"
    chosen.notes.append(
        f"{both} chosen by trials of {updates} updates; loss on validation: {'; '.join(notes)}"
    )
    return chosen


def sampled(dataset: SequencesDataset, most: int) -> SequencesDataset:
    """The dataset with at most `most` training and validation sequences, where these are apart."""
    parts, rng = dataset.parts, np.random.default_rng(0)
    large = [name for name in ("train", "valid") if len(parts.sets.get(name, ())) > most]
    if parts.left_out is not None or not large:
        return dataset
    few = {
        name: parts.sets[name].select(np.sort(rng.permutation(len(parts.sets[name]))[:most]))
        for name in large
    }
    return dataset.with_parts(replace(parts, sets={**parts.sets, **few}))


def trial_loss(dataset: SequencesDataset, updates: int) -> float:
    """The validation loss after a fixed number of updates."""
    with torch.random.fork_rng(), ExitStack() as stack:
        torch.manual_seed(0)
        model = dataset.build().train()
        threads = stack.enter_context(StepThreads(model))
        optimizer = AdamW(model.parameters(), lr=TRIAL_LR, weight_decay=0.01)
        for update, batch in enumerate(_batches(dataset, updates)):
            threads.choose(batch.steps)
            share = update / updates
            for group in optimizer.param_groups:
                rise = min(1.0, (update + 1) / 20)
                group["lr"] = TRIAL_LR * rise * 0.5 * (1 + math.cos(math.pi * share))
            loss, _ = model.loss(batch, None)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        found = dataset.validate(model.eval())["loss"]
    return found if math.isfinite(found) else math.inf


def _batches(dataset: SequencesDataset, count: int) -> Iterator[SequenceBatch]:
    epoch = 0
    while True:
        for batch in dataset.batches(epoch):
            if not count:
                return
            count -= 1
            yield batch
        epoch += 1
