"""The page of the article's example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from memorycell.inspection.figures import gates_figure
from memorycell.inspection.page import BLUE, GREY, ORANGE, Section, figure, page
from memorycell.inspection.trace import trace_layers
from memorycell.lab.reader import HIDDEN_SIZE
from memorycell.lab.stories import ARTICLE_STORY, COUNTRIES, MAX_TRAIN_FILLERS, encode
from memorycell.lab.story import FILLER_COUNTS, NUM_TEST, NUM_TEST_BY_DISTANCE, StoryResult
from memorycell.lab.trained_readers import LONG_RNN, LSTM, RNN

if TYPE_CHECKING:
    import plotly.graph_objects as go

READERS = {LSTM: "LSTM", RNN: "plain RNN", LONG_RNN: "plain RNN"}
LINES = {LSTM: (BLUE, "solid"), RNN: (ORANGE, "dash"), LONG_RNN: (GREY, "dashdot")}
KEY_WORDS = ("peacock", "panda", "red-crowned-crane")


def story_page(result: StoryResult) -> str:
    """The HTML page of the example."""
    words = ARTICLE_STORY.split()
    china, india = _probabilities(result)
    train_distance = result.distances[FILLER_COUNTS.index(MAX_TRAIN_FILLERS)]
    with torch.no_grad(), trace_layers(result.reader) as traces:
        result.reader(encode([words])[0])
    sections = [
        Section(
            f"Predicted answer after each word{_switch(words, china, india)}",
            "Blue: China. Orange: India. The state is forked at every word; the copy reads a full"
            " stop and the question.",
            words=list(zip(words, (china - india).tolist(), strict=True)),
        ),
        Section(
            _probability_title(words, china),
            "The question is asked after each word.",
            answer_figure(result),
        ),
        Section(
            "What the gates do at the key words",
            "Forgotten: the share of the cell state that the forget gate removes, |(1 - f) c| /"
            " |c|. Written: what the input gate adds, |i g| relative to the new cell state."
            " Output: the share of the cell state that the output gate passes, |h| / |tanh c|.",
            table=_gate_table(result),
        ),
        Section(
            "Every gate at every word",
            "The most active units. Units with similar activity are next to each other.",
            gates_figure(traces[0], words),
        ),
        Section(
            "LSTM and plain RNN: accuracy against the distance to the question",
            f"Stories with held-out pairs of countries, {NUM_TEST_BY_DISTANCE} per point. In"
            f" training the distance was at most about {train_distance} words.",
            distance_figure(result),
        ),
    ]
    return page(
        f"“So this country is …” {result.answer.capitalize()} ({result.probability:.1%})",
        f"An LSTM of {HIDDEN_SIZE} units was trained on stories about national animals in which"
        f" China never follows India. Correct on {NUM_TEST:,} stories with such held-out pairs:"
        f" {', '.join(_accuracies(result))}.",
        sections,
    )


def _accuracies(result: StoryResult) -> list[str]:
    return [
        f"{READERS[name]} {share:.1%} after {result.updates[name]:,} updates"
        for name, share in result.held_out_accuracy.items()
    ]


def _probabilities(result: StoryResult) -> tuple[np.ndarray, np.ndarray]:
    """Of China and India, [T] each."""
    china, india = (result.probabilities[:, COUNTRIES.index(c)] for c in ("china", "india"))
    return china, india


def _switch(words: list[str], china: np.ndarray, india: np.ndarray) -> str:
    """Where the answer switches, as the end of a title; empty if it does not."""
    india_ends = np.flatnonzero((india[1:] < 0.5) & (india[:-1] >= 0.5)) + 1
    china_begins = np.flatnonzero(china >= 0.5)
    if not len(india_ends) or not len(china_begins):
        return ""
    return f": India before “{words[india_ends[0]]}”, China from “{words[china_begins[0]]}”"


def _probability_title(words: list[str], china: np.ndarray) -> str:
    china_begins = np.flatnonzero(china >= 0.5)
    if not len(china_begins) or words[china_begins[0]] != "panda":
        return "Probability of each country"
    unchanged = bool((china[words.index("red-crowned-crane") :] > 0.5).all())
    end = "; the crane does not change the answer" if unchanged else ""
    return f"The peacock is forgotten when the panda arrives{end}"


def _gate_table(result: StoryResult) -> list[list[str]]:
    steps = [s for s in result.steps if s["word"] in KEY_WORDS] + [result.steps[-1]]
    return [
        ["word", "forgotten", "written", "output", "predicted answer"],
        *(
            [
                s["word"],
                f"{s['dropped']:.0%}",
                f"{s['written']:.0%}",
                f"{s['let_out']:.0%}",
                f"{s['believes'].capitalize()} ({s['probability']:.0%})",
            ]
            for s in steps
        ),
    ]


def answer_figure(result: StoryResult) -> go.Figure:
    """Probability of China, India and all other countries after every word."""
    fig = figure(360)
    words = ARTICLE_STORY.split()
    steps = list(range(len(words)))
    china, india = _probabilities(result)
    for name, values, colour, dash in (
        ("China", china, BLUE, "solid"),
        ("India", india, ORANGE, "dash"),
        ("any other", 1 - china - india, GREY, "dot"),
    ):
        fig.add_scatter(
            x=steps, y=values, name=name, mode="lines+markers", line={"color": colour, "dash": dash}
        )
    fig.update_xaxes(tickvals=steps, ticktext=words, tickangle=-60)
    fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.05], title="probability")
    return fig


def distance_figure(result: StoryResult) -> go.Figure:
    """Accuracy against the number of words between the last animal and the answer."""
    fig = figure(360)
    for name, shares in result.accuracy_by_distance.items():
        colour, dash = LINES[name]
        fig.add_scatter(
            x=result.distances,
            y=shares,
            name=f"{READERS[name]}, {result.updates[name]:,} updates",
            mode="lines+markers",
            line={"color": colour, "dash": dash},
        )
    fig.add_hline(
        y=1 / len(COUNTRIES), line={"color": GREY, "dash": "dot"}, annotation_text="chance"
    )
    fig.update_xaxes(title="words from the last animal to the answer")
    fig.update_yaxes(tickformat=".0%", range=[0, 1.05], title="accuracy")
    return fig
