"""The article's example: an LSTM and a plain RNN answer which country the last scene of a story was
in, and the gates of the LSTM are measured at every word of the article's story.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.inspection.trace import trace_layers
from memorycell.lab.reader import Reader, accuracy, answer_probabilities
from memorycell.lab.stories import (
    ARTICLE_STORY,
    COUNTRIES,
    Story,
    encode,
    last_animal_index,
    sample_story,
)

NUM_TEST = 1000
NUM_TEST_BY_DISTANCE = 300
FILLER_COUNTS = (0, 3, 6, 10, 15, 20, 30)


@dataclass
class StoryResult:
    """Result of the example.

    answer                 the country predicted at the end of the article's story, and its
                           probability
    updates                name -> updates of its training
    accuracy               name -> accuracy on new stories without held-out pairs
    held_out_accuracy      name -> accuracy on stories that end with a held-out pair of countries
    distances              mean number of words from the last animal to the answer, for every
                           number of filler sentences
    accuracy_by_distance   name -> accuracy at each of these distances
    steps                  gate measurements at every word of the article's story
    reader                 the trained LSTM
    probabilities          [T, countries] its answer after every word
    """

    answer: str
    probability: float
    updates: dict[str, int]
    accuracy: dict[str, float]
    held_out_accuracy: dict[str, float]
    distances: list[int]
    accuracy_by_distance: dict[str, list[float]]
    steps: list[dict[str, Any]]
    reader: Reader
    probabilities: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell lab story`."""
        return {
            "completion": self.answer.capitalize(),
            "probability": self.probability,
            "updates": self.updates,
            "held_out_accuracy": self.held_out_accuracy,
            "accuracy": self.accuracy,
            "distance_in_words": self.distances,
            "accuracy_by_distance": self.accuracy_by_distance,
            "steps": self.steps,
        }


def run_story(
    readers: Mapping[str, Reader],
    updates: Mapping[str, int],
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> StoryResult:
    """Measure trained readers on new stories, and the one named "lstm" on the article's story.
    `updates` are those of their training.
    """
    plain = _stories(seed + 60_000, NUM_TEST)
    held_out = _stories(seed + 50_000, NUM_TEST, held_out=True)
    by_distance = [
        _stories(seed + 70_000 + 1000 * n, NUM_TEST_BY_DISTANCE, held_out=True, num_fillers=n)
        for n in FILLER_COUNTS
    ]
    held_out_accuracy = {name: accuracy(reader, held_out) for name, reader in readers.items()}
    for name, share in held_out_accuracy.items():
        log(
            f"{name}: {share:.1%} correct on {NUM_TEST:,} stories with held-out pairs, after"
            f" {updates[name]:,} updates"
        )
    lstm, words = readers["lstm"], ARTICLE_STORY.split()
    probabilities = answer_probabilities(lstm, words)
    final = probabilities[-1]
    best = int(final.argmax())
    return StoryResult(
        COUNTRIES[best],
        float(final[best]),
        dict(updates),
        {name: accuracy(reader, plain) for name, reader in readers.items()},
        held_out_accuracy,
        [_mean_distance(stories) for stories in by_distance],
        {
            name: [accuracy(reader, stories) for stories in by_distance]
            for name, reader in readers.items()
        },
        _gate_steps(lstm, words, probabilities),
        lstm,
        probabilities,
    )


def _stories(first_seed: int, count: int, **options: Any) -> list[Story]:
    return [sample_story(np.random.default_rng(first_seed + k), **options) for k in range(count)]


def _mean_distance(stories: Sequence[Story]) -> int:
    """Words from the last animal to the answer."""
    return round(float(np.mean([len(words) - last_animal_index(words) for words, _ in stories])))


def _gate_steps(
    model: Reader, words: Sequence[str], probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """What the gates did at every word, and the predicted answer.

    dropped   |(1 - f) c_{t-1}| / |c_{t-1}|
    written   |i g| / |c_t|
    let_out   |h_t| / |tanh c_t|
    """
    with torch.no_grad(), trace_layers(model) as traces:
        model(encode([words])[0])
    gates = {name: value[0].double() for name, value in traces[0].gates.items()}
    previous_c = torch.cat([torch.zeros_like(gates["c"][:1]), gates["c"][:-1]])
    steps = []
    for k, word in enumerate(words):
        size = float(previous_c[k].norm())
        dropped = float(((1 - gates["f"][k]) * previous_c[k]).norm()) / size if size else 0.0
        written = float((gates["i"][k] * gates["g"][k]).norm())
        steps.append(
            {
                "word": word,
                "dropped": dropped,
                "written": written / max(float(gates["c"][k].norm()), 1e-9),
                "let_out": (
                    float(gates["h"][k].norm()) / max(float(gates["c"][k].tanh().norm()), 1e-9)
                ),
                "believes": COUNTRIES[int(probabilities[k].argmax())],
                "probability": float(probabilities[k].max()),
            }
        )
    return steps
