"""The page of a conversation: the replies, and how sure the model is of each."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, GREY, Page, Section, figure, page

MAX_LABEL = 40
"""Characters of a reply at its bar."""


def chat_page(file: AnyModelFile, record: dict[str, Any]) -> Page:
    """What a model replies to the lines of one conversation, as an HTML page."""
    turns = record["turns"]
    names = [f"{k + 1}. {shorten(turn['reply'] or '…', MAX_LABEL)}" for k, turn in enumerate(turns)]
    rows = [
        (turn["said"], turn["reply"] or "…", f"{turn['p']:.1%}{' (unsure)' * turn['unsure']}")
        for turn in turns
    ]
    fig = figure(100 + 28 * len(turns))
    fig.add_bar(
        x=[turn["p"] for turn in reversed(turns)],
        y=names[::-1],
        orientation="h",
        marker={"color": [GREY if turn["unsure"] else BLUE for turn in reversed(turns)]},
    )
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(tickformat=".1%", title="probability per token")
    return page(
        "A conversation",
        "",
        [
            Section("Messages and replies", table=[("message", "reply", "probability"), *rows]),
            Section(
                "How probable the model finds its replies",
                "The geometric mean over the tokens of each reply; grey: unsure.",
                figure=fig,
                name="replies",
            ),
        ],
    )
