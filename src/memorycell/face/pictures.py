"""The main picture of a trained model, from its training or made again, also as a plotly figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memorycell.application.contract import Record
from memorycell.application.picture import PICTURE, Picture
from memorycell.errors import UserError
from memorycell.face.panels import panels_figure
from memorycell.face.picture_parts import grid_figure, points_figure, words_figure
from memorycell.inspection.page import BAND, BLUE, GREEN, GREY, ORANGE, PURPLE, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from memorycell.face.trained import Trained

COLOURS = (GREY, BLUE, GREEN, PURPLE)
"""Of the lines of a picture, in their order."""


def take_picture(result: Record) -> Picture | None:
    """The picture in the result of a training, which is removed from it."""
    data: Any = result.pop(PICTURE, None)
    return None if data is None else Picture.from_json(data)


def main_figure(model: Trained) -> go.Figure:
    """The main picture, made again on the model's own data where there is none. Raises `UserError`,
    also for a task that has none.
    """
    if model.picture is None:
        model.picture = _made_again(model)
    if model.picture is None:
        raise UserError(f"{model.task}: no main picture; see figures()")
    return picture_figure(model.picture)


def _made_again(model: Trained) -> Picture | None:
    from memorycell.training import loop

    with model.own_file() as file:
        dataset = model.application.reopen(None, file)
        result = loop.compare(
            model.application, dataset, model.model, file=str(model.path), seconds=0.0
        )
        return take_picture(loop.main_picture(model.application, dataset, model.model, result))


def picture_figure(picture: Picture) -> go.Figure:
    """A picture as a plotly figure, with foreign text escaped."""
    drawn = _lines_figure
    for part, draw in (
        (picture.table, _table_figure),
        (picture.words, words_figure),
        (picture.points, points_figure),
        (picture.rows, grid_figure),
        (picture.panels, panels_figure),
        (picture.parts, _parts_figure),
    ):
        drawn = draw if part else drawn
    return drawn(picture)


def _parts_figure(picture: Picture) -> go.Figure:
    """The lines of the parts, one below the other, each with its legend at the right."""
    from plotly.subplots import make_subplots

    count = len(picture.parts)
    titles = [part.title for part in picture.parts]
    fig = make_subplots(rows=count, cols=1, subplot_titles=titles, vertical_spacing=0.35 / count)
    fig.update_layout(figure(120 + 240 * count).layout)
    for row, part in enumerate(picture.parts, 1):
        legend = "legend" if row == 1 else f"legend{row}"
        for trace in _lines_figure(part).data:
            trace.legend = legend
            fig.add_trace(trace, row=row, col=1)
        axes = next(fig.select_yaxes(row=row, col=1))
        place = {"orientation": "v", "x": 1.01, "y": axes.domain[1], "yanchor": "top"}
        fig.update_layout({legend: place})
        fig.update_xaxes(title=part.x_name, row=row, col=1)
        fig.update_yaxes(title=part.y, row=row, col=1)
    fig.update_layout(title=picture.title, margin={"t": 100}, showlegend=True)
    return fig


def _lines_figure(picture: Picture) -> go.Figure:
    fig = figure()
    numbers = [float(x) if x.isdigit() else x for x in picture.x]
    lines = list(picture.lines.items())
    for k, ((name, values), colour) in enumerate(zip(lines, COLOURS, strict=False)):
        begins = picture.begins if k == len(lines) - 1 else []
        if k == len(lines) - 1 and picture.low:
            _add_band(fig, picture, numbers)
        x, y = _with_gaps(numbers, values, begins)
        fig.add_scatter(x=x, y=y, name=name, mode="lines", line={"color": colour, "width": 1.5})
    for first, last in picture.spans:
        fig.add_vrect(
            x0=numbers[first], x1=numbers[last], fillcolor=GREEN, opacity=0.2, line_width=0
        )
    if picture.marks:
        first_line = lines[0][1]
        fig.add_scatter(
            x=[numbers[k] for k in picture.marks],
            y=[first_line[k] for k in picture.marks],
            name="flagged",
            mode="markers",
            marker={"color": ORANGE},
        )
    if picture.level is not None:
        fig.add_hline(y=picture.level[1], line={"color": ORANGE, "dash": "dash"})
    fig.update_yaxes(title=picture.y, type="log" if picture.log else None)
    fig.update_layout(title=picture.title, margin={"t": 80})
    return fig


def _add_band(fig: go.Figure, picture: Picture, x: list[Any]) -> None:
    """A closed outline per run of known values, since a fill cannot skip a gap."""
    x_low, low = _with_gaps(x, picture.low, picture.begins)
    _, high = _with_gaps(x, picture.high, picture.begins)
    outline_x: list[Any] = []
    outline_y: list[float | None] = []
    begin = 0
    for end in range(len(low) + 1):
        if end == len(low) or low[end] is None:
            if end > begin:
                at = slice(begin, end)
                outline_x += [*x_low[at], *reversed(x_low[at]), None]
                outline_y += [*high[at], *reversed(low[at]), None]
            begin = end + 1
    fig.add_scatter(
        x=outline_x,
        y=outline_y,
        name="interval",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=BAND,
        hoverinfo="skip",
    )


def _with_gaps(
    x: list[Any], values: list[float | None], begins: list[int]
) -> tuple[list[Any], list[float | None]]:
    """Positions and values with a gap before each of `begins`."""
    out_x: list[Any] = []
    out_y: list[float | None] = []
    for k, (place, value) in enumerate(zip(x, values, strict=True)):
        if k in begins:
            out_x.append(place)
            out_y.append(None)
        out_x.append(place)
        out_y.append(value)
    return out_x, out_y


def _table_figure(picture: Picture) -> go.Figure:
    head, *rows = picture.table
    if picture.counts:
        counts = [[int(cell) for cell in row[1:]] for row in rows]
        fig = figure(120 + 40 * len(rows))
        fig.add_heatmap(
            z=[[n / max(sum(row), 1) for n in row] for row in counts],
            x=head[1:],
            y=[row[0] for row in rows],
            text=counts,
            texttemplate="%{text}",
            colorscale=[[0, "rgba(61, 143, 209, 0)"], [1, BLUE]],
            showscale=False,
        )
        fig.update_xaxes(title="prediction", type="category")
        fig.update_yaxes(title="true class", type="category", autorange="reversed")
    else:
        fig = figure(120 + 60 * len(rows))
        columns = [list(column) for column in zip(*rows, strict=True)]
        fig.add_table(header={"values": head}, cells={"values": columns})
    fig.update_layout(title=picture.title, margin={"t": 80})
    return fig
