"""The article's own example: facts about national animals, a new country's animal replacing the
last, and the country asked.

    the peacock dances in the rain . then the panda eats bamboo . the red-crowned-crane flies over
    the river . so this country is …
    china

A story has one to four scenes, each of one country: its animal, its bird, or both, doing something.
Then come words that say nothing, and the question. The answer is the country of the last scene.
Some pairs of countries, India followed by China among them, are never drawn in training: the
article's story is new to the model in that.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.inspection.inside import LayerReport, gates_figure
from memorycell.inspection.page import BLUE, GREY, ORANGE, Section, figure, page
from memorycell.inspection.record import recording
from memorycell.nn.layers import LSTM, RNN, Recurrent

if TYPE_CHECKING:
    import plotly.graph_objects as go

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
DEEDS = (
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
ARTICLE = (
    "the peacock dances in the rain . then the panda eats bamboo . the red-crowned-crane flies over"
    " the river . so this country is"
)
WORDS = tuple(
    dict.fromkeys(
        " ".join(
            [
                "the then .",
                *DEEDS,
                *FILLERS,
                *QUESTION,
                *COUNTRIES,
                *(w for pair in ANIMALS.values() for w in pair),
            ]
        ).split()
    )
)
INDEX = {word: k for k, word in enumerate(WORDS)}
HELD_OUT = frozenset(
    (a, b)
    for k, a in enumerate(COUNTRIES)
    for j, b in enumerate(COUNTRIES)
    if a != b and (k * 7 + j * 3) % 5 == 3
) | {("india", "china")}
LEARNING_RATE = {"lstm": 4e-3, "rnn": 2e-3}
"""For the plain RNN the best of 2e-3, 1e-3, 5e-4 and 2e-4, by validation; it also starts from an
orthogonal matrix, without which it learns next to nothing here.
"""
TRAINED_FILLER = 6
"""Sentences that say nothing, at most, before the question in training."""


def story(
    rng: np.random.Generator, *, held_out: bool = False, fillers: int | None = None
) -> tuple[list[str], str]:
    """(words up to the question, country). `held_out`: the last two scenes are a pair never drawn
    in training.
    """
    scenes = int(rng.integers(2 if held_out else 1, 5))
    while True:
        chosen = [COUNTRIES[k] for k in rng.permutation(len(COUNTRIES))[:scenes]]
        pairs = set(pairwise(chosen))
        if held_out and (chosen[-2], chosen[-1]) in HELD_OUT:
            break
        if not held_out and not pairs & HELD_OUT:
            break
    words: list[str] = []
    for number, country in enumerate(chosen):
        who = [w for w in rng.permutation(list(ANIMALS[country])) if rng.random() < 0.7] or [
            ANIMALS[country][0]
        ]
        for k, animal in enumerate(who):
            # "then" may stand before any sentence but the first: it does not give a new country
            # away.
            lead = "then the" if (number or k) and rng.random() < 0.5 else "the"
            words += f"{lead} {animal} {DEEDS[rng.integers(len(DEEDS))]} .".split()
    count = int(rng.integers(TRAINED_FILLER + 1)) if fillers is None else fillers
    for _ in range(count):
        words += FILLERS[rng.integers(len(FILLERS))].split()
    return [*words, *QUESTION], chosen[-1]


class Reader(nn.Module):
    """Words in; after every word, which country it would name now."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 24)
        self.recurrent: Recurrent = (
            RNN(24, 48, batch_first=True, recurrent_init="orthogonal")
            if cell == "rnn"
            else LSTM(24, 48, batch_first=True, forget_bias=2.0)
        )
        self.country = nn.Linear(48, len(COUNTRIES))

    def forward(self, words: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, T] -> scores of the countries after every word [B, T, countries]."""
        return self.country(self.recurrent(self.words(words), lengths=lengths)[0])


def encode(stories: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Words of several stories as numbers [B, T], padded at the end, and their lengths."""
    lengths = torch.tensor([len(s) for s in stories])
    words = torch.zeros(len(stories), int(lengths.max()), dtype=torch.int64)
    for k, s in enumerate(stories):
        words[k, : len(s)] = torch.tensor([INDEX[w] for w in s])
    return words, lengths


def learn(cell: str, seconds: float, seed: int = 0, most: int | None = None) -> tuple[Reader, int]:
    """Train a reader on stories without held-out pairs for so long, or `most` updates. The best by
    validation, and how many.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, highest = Reader(cell), LEARNING_RATE[cell]
    optimiser = torch.optim.Adam(model.parameters(), lr=highest)
    check = [story(np.random.default_rng(seed + 10_000 + k)) for k in range(256)]
    best, kept, updates = -1.0, copy.deepcopy(model.state_dict()), 0
    began = time.monotonic()
    while (passed := updates / most if most else (time.monotonic() - began) / seconds) < 1:
        drawn = [story(rng) for _ in range(64)]
        words, lengths = encode([s for s, _ in drawn])
        scores = model(words, lengths)[torch.arange(64), lengths - 1]
        loss = F.cross_entropy(scores, torch.tensor([COUNTRIES.index(c) for _, c in drawn]))
        optimiser.param_groups[0]["lr"] = highest * (0.05 + 0.95 * (1 - passed))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        updates += 1
        if updates % 50 == 0:
            accuracy = score(model, check)
            if accuracy >= best:
                best, kept = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model.eval(), updates


@torch.no_grad()
def score(model: Reader, stories: Sequence[tuple[list[str], str]]) -> float:
    """Share of stories whose country is named."""
    words, lengths = encode([s for s, _ in stories])
    found = model(words, lengths)[torch.arange(len(stories)), lengths - 1].argmax(-1)
    return float((found == torch.tensor([COUNTRIES.index(c) for _, c in stories])).float().mean())


@torch.no_grad()
def beliefs(model: Reader, words: Sequence[str]) -> np.ndarray:
    """[T, countries]: the probabilities, had the sentence ended and the question come after each
    word.

    The state is forked there. Within the question itself its remaining words follow.
    """
    result = []
    state: Any = None
    for k, word in enumerate(words):
        hidden, state = model.recurrent(model.words(encode([[word]])[0]), state)
        rest = rest_after(words, k)
        if rest:
            hidden, _ = model.recurrent(model.words(encode([rest])[0]), state)
        result.append(model.country(hidden[:, -1]).softmax(-1)[0].numpy())
    return np.stack(result)


def rest_after(words: Sequence[str], k: int) -> list[str]:
    """What follows the word k when the question is put there."""
    asked = len(words) - len(QUESTION) if tuple(words[-len(QUESTION) :]) == QUESTION else len(words)
    if k >= asked:
        return list(QUESTION[k - asked + 1 :])
    return list(QUESTION) if words[k] == "." else [".", *QUESTION]


@dataclass
class Told:
    """What came of it.

    completion    the country named at the end of the article's story, with its probability
    held_out      accuracy on stories with a pair of countries never drawn in training, for both
                  cells
    by_distance   cell -> accuracy with so many words between the last animal and the question
    steps         what the gates did at every word of the article's story
    """

    completion: str
    probability: float
    held_out: dict[str, float]
    seen: dict[str, float]
    distances: list[int]
    by_distance: dict[str, list[float]]
    steps: list[dict[str, Any]]
    reader: Reader
    believed: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell lab story`."""
        return {
            "completion": self.completion.capitalize(),
            "probability": self.probability,
            "held_out_accuracy": self.held_out,
            "accuracy": self.seen,
            "distance_in_words": self.distances,
            "accuracy_by_distance": self.by_distance,
            "steps": self.steps,
        }


def tell(
    minutes: float = 0.8,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    *,
    updates: int | None = None,
) -> Told:
    """Train an LSTM and a plain RNN on stories, so long or so many updates each, and walk through
    the article's.
    """
    readers: dict[str, Reader] = {}
    held, seen, distant = {}, {}, {}
    fillers = [0, 3, 6, 10, 15, 20, 30]
    new = [story(np.random.default_rng(seed + 50_000 + k), held_out=True) for k in range(1000)]
    plain = [story(np.random.default_rng(seed + 60_000 + k)) for k in range(1000)]
    far = [
        [
            story(np.random.default_rng(seed + 70_000 + 1000 * n + k), held_out=True, fillers=n)
            for k in range(300)
        ]
        for n in fillers
    ]
    for cell in ("lstm", "rnn"):
        readers[cell], made = learn(cell, 30 * minutes, seed, updates)
        held[cell], seen[cell] = score(readers[cell], new), score(readers[cell], plain)
        distant[cell] = [score(readers[cell], stories) for stories in far]
        say(f"{cell}: {held[cell]:.1%} of the stories with held-out pairs, {made:,} updates")
    words = ARTICLE.split()
    believed = beliefs(readers["lstm"], words)
    with torch.no_grad():
        final = readers["lstm"](encode([words])[0])[0, -1].softmax(-1)
    best = int(final.argmax())
    # Words between the last animal's sentence and the answer: fillers of four to six words, and the
    # question.
    distances = [
        round(float(np.mean([len(s) - _last_animal(s) for s, _ in stories]))) for stories in far
    ]
    return Told(
        COUNTRIES[best],
        float(final[best]),
        held,
        seen,
        distances,
        distant,
        _walk(readers["lstm"], words, believed),
        readers["lstm"],
        believed,
    )


def _last_animal(words: Sequence[str]) -> int:
    animals = {animal for pair in ANIMALS.values() for animal in pair}
    return max(k for k, word in enumerate(words) if word in animals)


def _walk(model: Reader, words: Sequence[str], believed: np.ndarray) -> list[dict[str, Any]]:
    """What was dropped, written and let out at every word: shares of the cell's size, and the
    country believed in.
    """
    with torch.no_grad(), recording(model) as recorded:
        model(encode([words])[0])
    gates = {name: value[0].double() for name, value in recorded[0].gates.items()}
    before = torch.cat([torch.zeros_like(gates["c"][:1]), gates["c"][:-1]])
    steps = []
    for k, word in enumerate(words):
        size = float(before[k].norm())
        steps.append(
            {
                "word": word,
                "dropped": float(((1 - gates["f"][k]) * before[k]).norm()) / size if size else 0.0,
                "written": (
                    float((gates["i"][k] * gates["g"][k]).norm())
                    / max(float(gates["c"][k].norm()), 1e-9)
                ),
                "let_out": (
                    float(gates["h"][k].norm()) / max(float(gates["c"][k].tanh().norm()), 1e-9)
                ),
                "believes": COUNTRIES[int(believed[k].argmax())],
                "probability": float(believed[k].max()),
            }
        )
    return steps


# ---- the report ----------------------------------------------------------------------------------


def report(told: Told) -> str:
    """The page."""
    words = ARTICLE.split()
    china, india = COUNTRIES.index("china"), COUNTRIES.index("india")
    keys = [s for s in told.steps if s["word"] in ("peacock", "panda", "red-crowned-crane")] + [
        told.steps[-1]
    ]
    rows = [["word", "dropped", "written", "let out", "asked now, it would say"]]
    rows += [
        [
            s["word"],
            f"{s['dropped']:.0%}",
            f"{s['written']:.0%}",
            f"{s['let_out']:.0%}",
            f"{s['believes'].capitalize()} ({s['probability']:.0%})",
        ]
        for s in keys
    ]
    with torch.no_grad(), recording(told.reader) as recorded:
        told.reader(encode([words])[0])
    layer = LayerReport(recorded[0], {}, 0, 0, np.zeros(0), None)
    coloured = [
        (w, float(told.believed[k, china] - told.believed[k, india])) for k, w in enumerate(words)
    ]
    lost = next(
        (
            w
            for k, w in enumerate(words)
            if k and told.believed[k, india] < 0.5 <= told.believed[k - 1, india]
        ),
        None,
    )
    won = next((w for k, w in enumerate(words) if told.believed[k, china] >= 0.5), None)
    kept = bool((told.believed[words.index("red-crowned-crane") :, china] > 0.5).all())
    turn = (
        f"India is given up at “{lost}”, China named from “{won}” on"
        if lost and won
        else "What it believed, word by word"
    )
    crane = "; the crane is added and changes nothing" if kept else ""
    where = f"in training the distance was at most about {told.distances[2]} words"
    sections = [
        Section(
            f"Had it been asked after each word: {turn}",
            "Blue: China. Orange: India. The state is forked at every word; the copy gets a full"
            " stop and the question.",
            words=coloured,
        ),
        Section(
            f"The peacock is forgotten when the panda arrives{crane}" if won == "panda" else turn,
            "The probability of each country, had the question come after that word.",
            belief_figure(told),
        ),
        Section(
            "What the gates did at the words that matter",
            "Dropped: the share of the cell that the forget gate took away, |(1 - f) c| / |c|."
            " Written: what the input gate added, |i g| over the new cell. Let out: the share of"
            " the cell that the output gate showed, |h| / |tanh c|.",
            table=rows,
        ),
        Section(
            "Every gate at every word",
            "The units that move most, ordered so that those that move together stand together.",
            gates_figure(layer, words),
        ),
        Section(
            "Beside the plain RNN: right answers against the distance to the question",
            f"Stories with pairs of countries never drawn in training, 300 a point; {where}.",
            distance_figure(told),
        ),
    ]
    return page(
        f"“So this country is …” {told.completion.capitalize()} ({told.probability:.1%})",
        "An LSTM of 48 units that has read stories about national animals, never one in which"
        f" China follows India. It names the country in {told.held_out['lstm']:.1%} of 1,000"
        " stories with such new pairs; a plain RNN, with the same time to learn, in"
        f" {told.held_out['rnn']:.1%}.",
        sections,
    )


def belief_figure(told: Told) -> go.Figure:
    """Probability of China, India and all others after every word."""
    fig = figure(360)
    words = ARTICLE.split()
    steps = list(range(len(words)))
    china, india = (told.believed[:, COUNTRIES.index(c)] for c in ("china", "india"))
    for name, values, colour, dash in (
        ("China", china, BLUE, "solid"),
        ("India", india, ORANGE, "dash"),
        ("any other", 1 - china - india, GREY, "dot"),
    ):
        fig.add_scatter(
            x=steps, y=values, name=name, mode="lines+markers", line={"color": colour, "dash": dash}
        )
    fig.update_xaxes(tickvals=steps, ticktext=words, tickangle=-60)
    fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.05], title="probability, asked now")
    return fig


def distance_figure(told: Told) -> go.Figure:
    """Accuracy against the words between the last animal and the answer."""
    fig = figure(360)
    for cell, colour, dash in (("lstm", BLUE, "solid"), ("rnn", ORANGE, "dash")):
        fig.add_scatter(
            x=told.distances,
            y=told.by_distance[cell],
            name=cell,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    fig.add_hline(
        y=1 / len(COUNTRIES), line={"color": GREY, "dash": "dot"}, annotation_text="chance"
    )
    fig.update_xaxes(title="words from the last animal to the answer")
    fig.update_yaxes(tickformat=".0%", range=[0, 1.05], title="right answers")
    return fig
