"""A continuation, the next words and the likelihood of a text, as a page."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, Section, figure, page


def text_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """What a language model predicts for a text."""
    sections = [Section("How it goes on", record["text"] + "▸" + record["continuation"])]
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
        sections.append(Section("The next word", figure=fig))
    if record["score"]:
        told = record["score"]
        words = [
            (t["token"].replace("\n", "⏎ ").replace(" ", "·"), -min(1.0, t["nats"] / 8))
            for t in told["tokens"][:2000]
        ]
        sections.append(
            Section(
                f"What was given: {told['nats']:.2f} nats a token, perplexity"
                f" {told['perplexity']:.3g}",
                "The stronger the colour, the less the model expected the token.",
                words=words,
            )
        )
    return page("A text and what the model makes of it", "", sections)
