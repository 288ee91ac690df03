"""Attention of a translation, as a page."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, Section, figure, page

MAX_FIGURES = 12


def attention_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """What each token of every translation attended to."""
    found = record["translations"]
    sections = []
    for one in [o for o in found if o["tokens"]][:MAX_FIGURES]:
        fig = figure(140 + 26 * len(one["tokens"]))
        fig.add_heatmap(
            z=one["attention"],
            x=_distinct(one["sources"]),
            y=_distinct(one["tokens"]),
            colorscale=[[0, "rgba(61,143,209,0)"], [1, BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y} looked at %{x}: %{z:.0%}<extra></extra>",
        )
        fig.update_yaxes(autorange="reversed", showgrid=False)
        fig.update_xaxes(side="top", showgrid=False, tickangle=-35)
        fig.update_layout(hovermode="closest", margin={"l": 90, "r": 20, "t": 90, "b": 20})
        sections.append(
            Section(one["text"], f"of: {one['source']}  (p = {one['p']:.2f} a token)", fig)
        )
    return page(
        "What each word of the translation looked at",
        "Rows are the translation's tokens from top to bottom, columns the "
        "source's; the darker, the more attention.",
        sections,
    )


def _distinct(names: list[str]) -> list[str]:
    """Names that an axis does not take for the same: invisible signs behind those that repeat."""
    seen: dict[str, int] = {}
    result = []
    for name in (n.strip() or "·" for n in names):
        seen[name] = seen.get(name, 0) + 1
        result.append(name + "\u200b" * (seen[name] - 1))
    return result
