"""Random stories in the form of the article's example: scenes with national animals, then the
question which country the last scene was in.

    the peacock dances in the rain . then the panda eats bamboo . the red-crowned-crane flies over
    the river . so this country is …
    china

A story has one to four scenes, each in one country: one or both of its animals do something. Filler
sentences and the question follow. The answer is the country of the last scene. Some pairs of
countries in succession, India and China among them, are excluded from training, so the article's
story tests generalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

ANIMALS = {
    "india": ("tiger", "peacock"),
    "china": ("panda", "red-crowned-crane"),
    "australia": ("kangaroo", "emu"),
    "america": ("bison", "bald-eagle"),
    "thailand": ("elephant", "fireback"),
    "canada": ("beaver", "jay"),
    "bhutan": ("takin", "raven"),
    "nepal": ("cow", "monal"),
    "peru": ("vicuna", "cock-of-the-rock"),
    "indonesia": ("komodo-dragon", "hawk-eagle"),
    "kenya": ("lion", "roller"),
    "bolivia": ("alpaca", "condor"),
}
COUNTRIES = tuple(ANIMALS)
ACTIONS = (
    "dances in the rain",
    "eats bamboo",
    "flies over the river",
    "sleeps under a tree",
    "walks through the grass",
    "drinks from the lake",
    "is loved by all",
    "hides in the forest",
)
FILLERS = (
    "the wind blows over the hills .",
    "the sun goes down .",
    "a child sings a song .",
    "the rain comes and goes .",
    "people walk to the market .",
    "it is a long day .",
)
QUESTION = ("so", "this", "country", "is")
ARTICLE_STORY = (
    "the peacock dances in the rain . then the panda eats bamboo . the red-crowned-crane flies over"
    " the river . so this country is"
)
VOCABULARY = tuple(
    dict.fromkeys(
        " ".join(
            [
                "the then .",
                *ACTIONS,
                *FILLERS,
                *QUESTION,
                *COUNTRIES,
                *(animal for pair in ANIMALS.values() for animal in pair),
            ]
        ).split()
    )
)
TOKEN_IDS = {word: k for k, word in enumerate(VOCABULARY)}
HELD_OUT_PAIRS = frozenset(
    (a, b)
    for k, a in enumerate(COUNTRIES)
    for j, b in enumerate(COUNTRIES)
    if a != b and (k * 7 + j * 3) % 5 == 3
) | {("india", "china")}
MAX_TRAIN_FILLERS = 6
"""Filler sentences before the question in training, at most."""

Story = tuple[list[str], str]
"""Words up to and including the question, and the country."""


def sample_story(
    rng: np.random.Generator, *, held_out: bool = False, num_fillers: int | None = None
) -> Story:
    """A random story. With `held_out` the countries of its last two scenes are a held-out pair,
    otherwise no such pair occurs in it. `num_fillers`: 0 … `MAX_TRAIN_FILLERS` at random by
    default.
    """
    scenes = int(rng.integers(2 if held_out else 1, 5))
    while True:
        countries = [COUNTRIES[k] for k in rng.permutation(len(COUNTRIES))[:scenes]]
        pairs = set(pairwise(countries))
        if held_out and (countries[-2], countries[-1]) in HELD_OUT_PAIRS:
            break
        if not held_out and not pairs & HELD_OUT_PAIRS:
            break
    words: list[str] = []
    for scene, country in enumerate(countries):
        animals = [a for a in rng.permutation(list(ANIMALS[country])) if rng.random() < 0.7]
        for k, animal in enumerate(animals or [ANIMALS[country][0]]):
            # "then" may begin any sentence but the first, so it does not reveal a new country.
            begin = "then the" if (scene or k) and rng.random() < 0.5 else "the"
            words += f"{begin} {animal} {ACTIONS[rng.integers(len(ACTIONS))]} .".split()
    if num_fillers is None:
        num_fillers = int(rng.integers(MAX_TRAIN_FILLERS + 1))
    for _ in range(num_fillers):
        words += FILLERS[rng.integers(len(FILLERS))].split()
    return [*words, *QUESTION], countries[-1]


def encode(stories: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] int64 of the words, padded at the end, and lengths [B]."""
    lengths = torch.tensor([len(words) for words in stories])
    tokens = torch.zeros(len(stories), int(lengths.max()), dtype=torch.int64)
    for k, words in enumerate(stories):
        tokens[k, : len(words)] = torch.tensor([TOKEN_IDS[word] for word in words])
    return tokens, lengths


def last_animal_index(words: Sequence[str]) -> int:
    """Position of the last animal in a story."""
    animals = {animal for pair in ANIMALS.values() for animal in pair}
    return max(k for k, word in enumerate(words) if word in animals)
