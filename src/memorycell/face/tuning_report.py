"""What a search found, as a table and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.application.rendering import table_text
from memorycell.errors import UserError
from memorycell.face.trained import Trained
from memorycell.files import write_atomically
from memorycell.inspection.page import BLUE, GREY, ORANGE, Page, Section, figure, page

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_ROWS = 10
"""Of the table, best first."""
TICKS = 4
"""Steps between the ends of an axis."""


def search_text(search: Mapping[str, Any]) -> str:
    """The best trials as a table, and what was chosen."""
    header, rows = _table(search)
    counts = {s: sum(t["state"] == s for t in search["trials"]) for s in ("complete", "pruned")}
    title = f"{len(search['trials'])} trials: {counts['complete']} complete, {counts['pruned']}"
    lines = [table_text(f"{title} pruned; {search['metric']} on validation", header, rows)]
    lines.append(_choice(search))
    return "\n".join(lines)


def search_page(task: str, search: Mapping[str, Any]) -> Page:
    """The best so far, all trials by their settings, and the importance of each setting."""
    header, rows = _table(search)
    sections = [
        Section("Best so far", figure=_best_so_far(search), name="best so far"),
        Section(
            "Settings and metric of every complete trial",
            text=_lines_text(search),
            figure=_parallel_coordinates(search),
            name="parallel coordinates",
        ),
    ]
    if search["importance"]:
        sections.append(
            Section(
                "Importance",
                text="Share of the metric's variance among the better trials that a setting"
                " explains (PED-ANOVA).",
                figure=_importance(search["importance"]),
                name="importance",
            )
        )
    sections.append(Section("The best trials", table=[header, *rows]))
    return page(f"Search of settings: {task}", _choice(search), sections)


def write_search_page(model: Trained, path: Path) -> None:
    """Write `search_page` of a model that `memorycell.tune` trained. Raises `UserError`."""
    if model.search is None:
        raise UserError(f"{path}: the model was not found by a search")
    write_atomically(path, search_page(model.task, model.search))


def _choice(search: Mapping[str, Any]) -> str:
    best = "  ".join(f"{key}={_text(value)}" for key, value in search["best"].items())
    seeds = len(search["repeated"][0]["values"])
    over = f", mean over {seeds} seeds" if seeds > 1 else ""
    return f"chosen: {best}  ({search['metric']} {search['value']:.4g} on validation{over})"


def _lines_text(search: Mapping[str, Any]) -> str:
    text = "One line is one trial. Drag along an axis to select."
    without = len(search["trials"]) - len(_complete(search))
    return text if not without else f"{text} {without} trials that were stopped early have none."


def _table(search: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    repeated = {r["trial"]: r["values"] for r in search["repeated"]}
    order = {number: rank for rank, number in enumerate(repeated)}  # the chosen one is the first
    header = ["trial", *search["space"], "epochs", search["metric"], "mean over seeds"]
    complete = sorted(
        _complete(search), key=lambda t: (order.get(t["trial"], len(order)), t["value"])
    )
    rows = []
    for trial in complete[:MAX_ROWS]:
        values = repeated.get(trial["trial"], [])
        mean = f"{sum(values) / len(values):.4g} ({len(values)})" if len(values) > 1 else ""
        settings = [_text(trial["settings"][key]) for key in search["space"]]
        number = f"{trial['trial'] + 1}"
        rows.append([number, *settings, str(trial["epochs"]), f"{trial['value']:.4g}", mean])
    return header, rows


def _complete(search: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [t for t in search["trials"] if t["value"] is not None]


def _best_so_far(search: Mapping[str, Any]) -> go.Figure:
    complete = _complete(search)
    numbers = [t["trial"] + 1 for t in complete]
    values = [t["value"] for t in complete]
    best = [min(values[: k + 1]) for k in range(len(values))]
    fig = figure(320)
    fig.add_scatter(x=numbers, y=values, mode="markers", name="trial", marker={"color": GREY})
    fig.add_scatter(
        x=numbers, y=best, mode="lines", name="best so far", line={"color": BLUE, "shape": "hv"}
    )
    fig.update_xaxes(title="trial", dtick=max(1, len(search["trials"]) // 10))
    fig.update_yaxes(title=search["metric"])
    return fig


def _parallel_coordinates(search: Mapping[str, Any]) -> go.Figure:
    complete = _complete(search)
    dimensions = [
        _dimension(key, [t["settings"][key] for t in complete], search["space"][key])
        for key in search["space"]
    ]
    values = [t["value"] for t in complete]
    dimensions.append(_dimension(search["metric"], values, ""))
    fig = figure(400)
    fig.add_parcoords(
        dimensions=dimensions,
        line={"color": values, "colorscale": [[0, BLUE], [1, ORANGE]], "showscale": False},
        labelfont={"size": 13},
    )
    fig.update_layout(margin={"l": 80, "r": 60, "t": 60, "b": 30}, hovermode=False)
    return fig


def _dimension(key: str, values: Sequence[Any], space: str) -> dict[str, Any]:
    """An axis: of choices by their position, of wide ranges by the logarithm."""
    import math

    if space.startswith("choice"):
        choices = sorted(set(values), key=lambda v: (isinstance(v, str), v is None, v or 0))
        texts = [_text(c) for c in choices]
        at = [choices.index(v) for v in values]
        return {"label": key, "values": at, "tickvals": list(range(len(texts))), "ticktext": texts}
    logarithmic = space.startswith("log")
    numbers = [math.log10(v) if logarithmic else float(v) for v in values]
    low, high = min(numbers), max(numbers)
    if low == high:  # one tick, on an axis that has a length
        low, high, ticks = low - 1, high + 1, [low]
    else:
        ticks = [low + (high - low) * k / TICKS for k in range(TICKS + 1)]
    shown = [f"{10**tick:.2g}" if logarithmic else f"{tick:.3g}" for tick in ticks]
    if len(set(shown)) < len(shown):
        shown = [f"{10**tick if logarithmic else tick:.5g}" for tick in ticks]
    axis = {"label": key, "values": numbers, "tickvals": ticks, "ticktext": shown}
    return {**axis, "range": [low, high]}


def _importance(importance: Mapping[str, float]) -> go.Figure:
    names = sorted(importance, key=lambda name: importance[name])
    fig = figure(max(160, 40 * len(names) + 100))
    fig.add_bar(x=[importance[n] for n in names], y=names, orientation="h", marker={"color": BLUE})
    fig.update_layout(hovermode="closest")
    return fig


def _text(value: Any) -> str:
    if value is None:
        return "none"  # as --set reads it
    return f"{value:.3g}" if isinstance(value, float) else str(value)
