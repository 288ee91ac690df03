"""A model's answers to sequences: probabilities, or quantiles in the units of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.model import SequenceModel
from memorycell.models.batches import by_length, padded

MAX_BATCH_STEPS = 16_384
Prediction: TypeAlias = "np.ndarray | list[np.ndarray]"
"""class, labels: probabilities [N, C]; number: quantiles [N, K, Q]; at every step N arrays
[T_i, C] or [T_i, K, Q].
"""


@torch.inference_mode()
def answers(
    model: SequenceModel,
    codec: SequenceCodec,
    inputs: Sequence[np.ndarray],
    precision: str = "float32",
) -> Prediction:
    """The answers to complete sequences, inputs [n_i, I] float32 each.

    At a lower precision the model runs step by step, as a session does.
    """
    model.eval()
    if precision != "float32":
        stepper = model.stepper(precision)
        zeros = np.zeros((1, stepper.layout.width), np.float32)
        stepped = [codec.answers(stepper.step_one(zeros.copy(), 0, x)[0]) for x in inputs]
        return stepped if codec.every_step else np.stack([y[-1] for y in stepped])
    found = _run(model, inputs, steps=False)
    if codec.every_step:
        return [codec.answers(y) for y in found]
    return codec.answers(np.stack(found))


@torch.inference_mode()
def answers_over_time(
    model: SequenceModel,
    codec: SequenceCodec,
    inputs: Sequence[np.ndarray],
    member: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """The answers after every step, N arrays [n_i, ...]; where it is given those of one member
    each, alone.
    """
    model.eval()
    return [codec.answers(y) for y in _run(model, inputs, steps=True, member=member)]


@torch.inference_mode()
def left_out_outputs(
    model: SequenceModel, inputs: Sequence[np.ndarray], member: Sequence[int]
) -> list[np.ndarray]:
    """The outputs for each sequence of the member that did not learn from it."""
    model.eval()
    return _run(model, inputs, steps=False, member=member)


def _run(
    model: SequenceModel,
    inputs: Sequence[np.ndarray],
    *,
    steps: bool,
    member: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Outputs of complete sequences, or with `steps` after every step."""
    result: list[np.ndarray] = [np.zeros(0)] * len(inputs)
    every_step = steps or model.config.every_step
    lengths = np.array([len(x) for x in inputs])
    for which in by_length(lengths, MAX_BATCH_STEPS, 0):
        x, own = padded([inputs[k] for k in which])
        if member is None:
            y = model(x)[0] if steps else model.outputs(x, own)
        else:
            if steps:
                outputs, _ = model.member_steps(x, model.initial_state(len(x)))
            else:
                outputs = model.member_outputs(x, own)
            y = outputs[[member[k] for k in which], torch.arange(len(which))]
        for k, one, length in zip(which, y.numpy(), own.tolist(), strict=True):
            result[k] = one[:length] if every_step else one
    return result
