"""The page of a prediction: the attention of each translation."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import AnyModelFile
from memorycell.inspection.page import BLUE, Section, figure, page

MAX_FIGURES = 12


def attention_page(file: AnyModelFile, record: dict[str, Any]) -> str:
    """The attention of every translation, as an HTML page."""
    sections = []
    for translation in [t for t in record["translations"] if t["tokens"]][:MAX_FIGURES]:
        fig = figure(140 + 26 * len(translation["tokens"]))
        fig.add_heatmap(
            z=translation["attention"],
            x=_distinct(translation["sources"]),
            y=_distinct(translation["tokens"]),
            colorscale=[[0, "rgba(61,143,209,0)"], [1, BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y}, attention to %{x}: %{z:.0%}<extra></extra>",
        )
        fig.update_yaxes(autorange="reversed", showgrid=False)
        fig.update_xaxes(side="top", showgrid=False, tickangle=-35)
        fig.update_layout(hovermode="closest", margin={"l": 90, "r": 20, "t": 90, "b": 20})
        lead = f"source: {translation['source']}  (p = {translation['p']:.2f} per token)"
        sections.append(Section(translation["text"], lead, fig, name="attention"))
    return page(
        "Attention of each translated word",
        "Rows are the tokens of the translation, columns those of the source; darker means more"
        " attention.",
        sections,
    )


def _distinct(names: list[str]) -> list[str]:
    """Distinct category names for an axis: zero-width spaces are appended to repeated ones."""
    seen: dict[str, int] = {}
    result = []
    for name in (n.strip() or "·" for n in names):
        seen[name] = seen.get(name, 0) + 1
        result.append(name + "\u200b" * (seen[name] - 1))
    return result
