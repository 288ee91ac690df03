"""The page of a prediction: the continuation, the next words and the score of the text."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, Section, figure, page

MAX_SCORED_TOKENS = 2000
FULL_COLOUR_NATS = 8


def text_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """What a language model predicts for a text, as an HTML page."""
    sections = [Section("Continuation", record["text"] + "▸" + record["continuation"])]
    if record["next"]:
        fig = figure(80 + 28 * len(record["next"]))
        words = list(reversed(record["next"]))
        fig.add_bar(
            x=[w["p"] for w in words],
            y=[w["word"] for w in words],
            orientation="h",
            marker={"color": BLUE},
        )
        fig.update_xaxes(tickformat=".1%" if words[-1]["p"] < 0.1 else ".0%", title="probability")
        sections.append(Section("The next word", figure=fig, name="next word"))
    if record["score"]:
        score = record["score"]
        coloured = [
            (
                t["token"].replace("\n", "⏎ ").replace(" ", "·"),
                -min(1.0, t["nats"] / FULL_COLOUR_NATS),
            )
            for t in score["tokens"][:MAX_SCORED_TOKENS]
        ]
        sections.append(
            Section(
                f"The input text: {score['nats']:.2f} nats per token, perplexity"
                f" {score['perplexity']:.3g}",
                "A stronger colour marks a less likely token.",
                words=coloured,
            )
        )
    return page("Predictions for a text", "", sections)
