"""The model that reads stories: training, accuracy, and its answer after every word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from memorycell.lab.stories import COUNTRIES, QUESTION, VOCABULARY, Story, encode, sample_story
from memorycell.nn.layers import LSTM, RNN, Recurrent

EMBEDDING_SIZE = 24
HIDDEN_SIZE = 48
BATCH_SIZE = 64
VALIDATION_INTERVAL = 50
NUM_VALID = 1000
MAX_UPDATES = 20_000
SOLVED_ACCURACY = 0.999
WEIGHT_AVERAGE = 0.99
"""Decay per update of the moving average of the weights."""
LEARNING_RATE = {"lstm": 4e-3, "rnn": 2e-3}
"""For the plain RNN the best on validation of 2e-3, 1e-3, 5e-4 and 2e-4. Its recurrent matrix is
initialised orthogonal; without that it learns almost nothing here.
"""

OnProgress: TypeAlias = Callable[[str, int, float], None]
"""(cell, updates, accuracy on validation)"""


def _silent(cell: str, updates: int, valid_accuracy: float) -> None:
    return


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
    cell: str, seed: int = 0, max_updates: int = MAX_UPDATES, on_progress: OnProgress = _silent
) -> tuple[Reader, int]:
    """Train a reader on stories without held-out pairs until it answers 999 of 1,000 new stories,
    twice in succession, or for `max_updates`. Returns the mean of its weights over about the last
    100 updates, in evaluation mode, and the updates done: the same on a busy and a quiet machine.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Reader(cell)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(WEIGHT_AVERAGE))
    averaged = cast(Reader, average.module)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE[cell])
    valid = [sample_story(np.random.default_rng(seed + 10_000 + k)) for k in range(NUM_VALID)]
    solved = 0
    for updates in range(1, max_updates + 1):
        loss = _loss(model, [sample_story(rng) for _ in range(BATCH_SIZE)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        if updates % VALIDATION_INTERVAL == 0 or updates == max_updates:
            valid_accuracy = accuracy(averaged, valid)
            on_progress(cell, updates, valid_accuracy)
            solved = solved + 1 if valid_accuracy >= SOLVED_ACCURACY else 0
            if solved == 2:
                break
    return averaged.eval(), updates


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
