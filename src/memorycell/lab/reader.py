"""The model that reads stories: training, accuracy, and its answer after every word."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.lab.stories import COUNTRIES, QUESTION, VOCABULARY, Story, encode, sample_story
from memorycell.nn.layers import LSTM, RNN, Recurrent

EMBEDDING_SIZE = 24
HIDDEN_SIZE = 48
BATCH_SIZE = 64
VALIDATION_INTERVAL = 50
LEARNING_RATE = {"lstm": 4e-3, "rnn": 2e-3}
"""For the plain RNN the best on validation of 2e-3, 1e-3, 5e-4 and 2e-4. Its recurrent matrix is
initialised orthogonal; without that it learns almost nothing here.
"""


class Reader(nn.Module):
    """Token ids in; after every word, scores of the countries as the answer."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), EMBEDDING_SIZE)
        self.recurrent: Recurrent = (
            RNN(EMBEDDING_SIZE, HIDDEN_SIZE, batch_first=True, recurrent_init="orthogonal")
            if cell == "rnn"
            else LSTM(EMBEDDING_SIZE, HIDDEN_SIZE, batch_first=True, forget_bias=2.0)
        )
        self.country = nn.Linear(HIDDEN_SIZE, len(COUNTRIES))

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T] int64 -> logits [B, T, countries]."""
        return self.country(self.recurrent(self.words(tokens), lengths=lengths)[0])


def train_reader(
    cell: str, max_seconds: float, seed: int = 0, max_updates: int | None = None
) -> tuple[Reader, int]:
    """Train a reader on stories without held-out pairs, for `max_updates` updates or, by default,
    `max_seconds`. Returns the best model on validation, in evaluation mode, and the updates done.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, max_rate = Reader(cell), LEARNING_RATE[cell]
    optimizer = torch.optim.Adam(model.parameters(), lr=max_rate)
    valid = [sample_story(np.random.default_rng(seed + 10_000 + k)) for k in range(256)]
    best, best_weights, updates = -1.0, copy.deepcopy(model.state_dict()), 0
    start = time.monotonic()
    while True:
        elapsed = updates / max_updates if max_updates else (time.monotonic() - start) / max_seconds
        if elapsed >= 1:
            break
        loss = _loss(model, [sample_story(rng) for _ in range(BATCH_SIZE)])
        optimizer.param_groups[0]["lr"] = max_rate * (0.05 + 0.95 * (1 - elapsed))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        updates += 1
        if updates % VALIDATION_INTERVAL == 0:
            valid_accuracy = accuracy(model, valid)
            if valid_accuracy >= best:
                best, best_weights = valid_accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return model.eval(), updates


def _loss(model: Reader, stories: Sequence[Story]) -> Tensor:
    return F.cross_entropy(_final_logits(model, stories), _country_ids(stories))


@torch.no_grad()
def accuracy(model: Reader, stories: Sequence[Story]) -> float:
    """Share of stories whose country is answered correctly."""
    answers = _final_logits(model, stories).argmax(-1)
    return float((answers == _country_ids(stories)).float().mean())


def _final_logits(model: Reader, stories: Sequence[Story]) -> Tensor:
    tokens, lengths = encode([words for words, _ in stories])
    return model(tokens, lengths)[torch.arange(len(stories)), lengths - 1]


def _country_ids(stories: Sequence[Story]) -> Tensor:
    return torch.tensor([COUNTRIES.index(country) for _, country in stories])


@torch.no_grad()
def answer_probabilities(model: Reader, words: Sequence[str]) -> np.ndarray:
    """[T, countries]: the predicted answer after each word.

    The state is forked at every word; the copy reads `question_after` that word.
    """
    result = []
    state: Any = None
    for k, word in enumerate(words):
        hidden, state = model.recurrent(model.words(encode([[word]])[0]), state)
        question = question_after(words, k)
        if question:
            hidden, _ = model.recurrent(model.words(encode([question])[0]), state)
        result.append(model.country(hidden[:, -1]).softmax(-1)[0].numpy())
    return np.stack(result)


def question_after(words: Sequence[str], k: int) -> list[str]:
    """The words to append after word k to ask the question there: a full stop unless word k is one,
    and the question; within the question itself, its remaining words.
    """
    has_question = tuple(words[-len(QUESTION) :]) == QUESTION
    begin = len(words) - len(QUESTION) if has_question else len(words)
    if k >= begin:
        return list(QUESTION[k - begin + 1 :])
    return list(QUESTION) if words[k] == "." else [".", *QUESTION]
