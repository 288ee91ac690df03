"""The random convolutions of a model, fitted to training sequences, and their share in the mixture,
from predictions of sequences that neither part learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from memorycell.applications.sequences.baselines_linear import Ridge
from memorycell.applications.sequences.mixture import (
    KERNELS,
    MAX_BIASES,
    MAX_DILATION,
    MAX_DILATIONS,
    MAX_ROW_CHANNELS,
    TAPS,
    RandomConvolutions,
)
from memorycell.models.batches import by_length, padded

FEATURES, FEW_FEATURES, MAX_FEW = 5040, 2016, 2000
"""Fewer are used from more than `MAX_FEW` sequences on."""
MAX_SEQUENCES, MAX_ROWS = 10_000, 2_000_000
"""That are fitted; of more sequences as many at random. None are fitted to more rows."""
PRIOR_SHARE = 0.5
"""Of the rows of a typical sequence: the rows of usual features that are added to it."""
MAX_BATCH_STEPS = 16_384
SHARES = np.linspace(0, 0.9, 10)
TEMPERATURES = np.geomspace(0.03, 3.0, 21)
"""Candidates; those of the temperature divide the scores of the classifier."""
MIN_GAIN, MIN_NATS, MIN_RISE = 0.05, 0.01, 0.01
"""A mixture must save this share of the log loss and as much of it, or save some and raise the
accuracy by so much, as a step costs more with it.
"""
MIN_P = 1e-7
GOLDEN = (np.sqrt(5) + 1) / 2


@dataclass
class Fitted:
    """The result: `random` with its classifier, to mix in; and for each fold (or 0 where the
    validation sequences are no training sequences) the one that knows nothing of it.
    """

    random: RandomConvolutions
    held_out: dict[int, RandomConvolutions]
    note: str


@dataclass(frozen=True)
class HeldOut:
    """Validation sequences.

    inputs, classes   of each, [n_i, I] and int64 [N]
    p                 the networks' probabilities [N, C]
    fold              of each; None: they are no training sequences
    """

    inputs: Sequence[np.ndarray]
    classes: np.ndarray
    p: np.ndarray
    fold: np.ndarray | None


def dilations_for(rows: int) -> tuple[int, ...]:
    """For sequences of up to `rows` rows, spread exponentially up to their length."""
    longest = min(max(rows - 1, TAPS - 1), (TAPS - 1) * MAX_DILATION)
    spread = np.geomspace(1, longest / (TAPS - 1), MAX_DILATIONS)
    return tuple(int(d) for d in np.unique((spread + 1e-9).astype(int)))


def fit_mixture(
    inputs: Sequence[np.ndarray],
    classes: np.ndarray,
    fold: np.ndarray,
    held_out: HeldOut,
    *,
    patch: int,
    row_size: int,
    seed: int = 0,
) -> Fitted | str:
    """The mixture, or why there is none, for a note.

    inputs   of the training sequences, [n_i, I], with their classes [N], -1 for none of them, and
             folds [N], which matter where the validation sequences are among them
    """
    count = held_out.p.shape[1]
    random = draw(inputs, patch=patch, row_size=row_size, classes=count, seed=seed)
    if random is None:
        return f"not mixed with random convolutions: more than {MAX_ROWS:,} rows of inputs"
    set_prior(random, inputs)
    features = features_of(random, inputs)
    own = with_classifier(random, features, classes)
    folds, scores = {}, np.zeros(held_out.p.shape)
    chosen = features_of(random, held_out.inputs)
    number = np.zeros(len(scores), np.int64) if held_out.fold is None else held_out.fold
    for k in np.unique(number).tolist():
        known, others = fold != k, number == k
        folds[k] = own
        if held_out.fold is not None:
            folds[k] = with_classifier(random, features[known], classes[known])
        weight, bias = folds[k].weight.numpy(), folds[k].bias.numpy()
        scores[others] = chosen[others] @ weight.T + bias
    share, temperature, losses = best_mixture(held_out.p, scores, held_out.classes)
    both = mixed(held_out.p, scores, share, temperature)
    right = [float((p.argmax(1) == held_out.classes).mean()) for p in (held_out.p, scores, both)]
    described = (
        f"on validation, log loss {losses[0]:.4f} alone, {losses[1]:.4f} mixed; accuracy"
        f" {right[0]:.1%} the networks, {right[1]:.1%} the convolutions, {right[2]:.1%} mixed"
    )
    gain, least = losses[0] - losses[1], max(MIN_GAIN * losses[0], MIN_NATS)
    if right[2] < right[0] or (gain < least and not (gain > 0 and right[2] >= right[0] + MIN_RISE)):
        return f"not mixed with random convolutions; {described}"
    for one in {own, *folds.values()}:
        one.weight /= temperature
        one.bias /= temperature
        one.share.fill_(share)
    note = f"mixed with random convolutions, share {share:.1f} (mix=no: the networks alone)"
    return Fitted(own, folds, f"{note}; {described}")


def draw(
    inputs: Sequence[np.ndarray], *, patch: int, row_size: int, classes: int, seed: int
) -> RandomConvolutions | None:
    """Random convolutions without a classifier: the channels of each kernel, few more often than
    many, and biases that are quantiles of a convolution of a random sequence. None for too many
    rows.
    """
    rows = sum(map(len, inputs)) * patch
    if rows > MAX_ROWS:
        return None
    rng = np.random.default_rng(seed)
    dilations = dilations_for(max(map(len, inputs)) * patch)
    features = FEATURES if len(inputs) <= MAX_FEW else FEW_FEATURES
    biases = min(max(1, round(features / KERNELS / len(dilations))), MAX_BIASES)
    random = RandomConvolutions(dilations, biases, patch, row_size, classes)
    most = np.log2(min(row_size, MAX_ROW_CHANNELS) + 1)
    for number in range(len(dilations)):
        for kernel in range(KERNELS):
            count = max(1, int(2 ** rng.uniform(0, most)))
            random.channels[number, kernel, rng.choice(row_size, count, replace=False)] = 1
    quantile = 1
    for number, dilation in enumerate(dilations):
        reach = (TAPS - 1) * dilation
        examples = rng.integers(len(inputs), size=KERNELS)
        skips = random.skips(number).numpy()
        for kernel, k in enumerate(examples):
            response = random.response(number, kernel, torch.from_numpy(inputs[k])).numpy()
            if skips[kernel] and len(response) > reach:
                response = response[reach:]
            levels = (np.arange(quantile, quantile + biases) * GOLDEN) % 1
            quantile += biases
            own = np.floor(np.quantile(response, levels)) + 0.5
            random.biases[number, kernel] = torch.from_numpy(own)
    return random


def set_prior(random: RandomConvolutions, inputs: Sequence[np.ndarray]) -> None:
    """Set `prior` and `expected` to the usual features of the sequences."""
    usual = torch.from_numpy(features_of(random, inputs).mean(0)).view_as(random.expected)
    rows = random.patch * float(np.median([len(x) for x in inputs]))
    random.prior.fill_(PRIOR_SHARE * rows)
    random.expected.copy_(random.prior * usual)


def features_of(random: RandomConvolutions, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Features float32 [N, P] of complete sequences [n_i, I]."""
    found = np.zeros((len(inputs), random.features), np.float32)
    with torch.inference_mode():
        for which in by_length(np.array([len(x) for x in inputs]), MAX_BATCH_STEPS, 0):
            x, lengths = padded([inputs[k] for k in which])
            found[which] = random.complete(x, lengths).numpy()
    return found


def with_classifier(
    random: RandomConvolutions, features: np.ndarray, classes: np.ndarray
) -> RandomConvolutions:
    """The same convolutions with ridge regression of the classes, 1 or -1, on the features; of a
    sequence of none of the classes (-1) all are equal.
    """
    count = len(random.bias)
    own = RandomConvolutions(
        random.dilations, random.biases.shape[2], random.patch, random.row_size, count
    )
    for name in ("channels", "biases", "prior", "expected"):
        getattr(own, name).copy_(getattr(random, name))
    share = np.where(classes[:, None] < 0, 1 / count, np.eye(count)[classes])
    weight, bias = Ridge().fit(features, 2 * share - 1).linear()
    own.weight.copy_(torch.from_numpy(weight.T))
    own.bias.copy_(torch.from_numpy(bias))
    return own.eval()


def best_mixture(
    p: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> tuple[float, float, tuple[float, float]]:
    """(share, temperature, (log loss alone, log loss mixed)) of probabilities [N, C] and scores
    [N, C] of sequences that neither learnt from.
    """
    losses = {
        (float(share), float(t)): log_loss(mixed(p, scores, share, t), classes)
        for share in SHARES
        for t in TEMPERATURES
    }
    share, temperature = min(losses, key=losses.__getitem__)
    return share, temperature, (log_loss(p, classes), losses[share, temperature])


def mixed(p: np.ndarray, scores: np.ndarray, share: float, temperature: float) -> np.ndarray:
    """Probabilities [N, C]; see `RandomConvolutions.mixed`."""
    raised = np.exp((scores - scores.max(1, keepdims=True)) / temperature)
    return np.asarray((1 - share) * p + share * raised / raised.sum(1, keepdims=True))


def log_loss(p: np.ndarray, classes: np.ndarray) -> float:
    """In nats."""
    return float(-np.log(np.maximum(p[np.arange(len(p)), classes], MIN_P)).mean())
