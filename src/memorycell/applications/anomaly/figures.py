"""A page of anomalies: the scores, the threshold, and the columns responsible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import Record
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.predict import DetectorFile, count_ranges, read_recordings
from memorycell.applications.anomaly.scoring import Scored, flagged_ranges, score_recording
from memorycell.inspection.page import BAND, BLUE, GREY, ORANGE, Section, figure, page

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_RECORDINGS, MAX_COLUMNS, MAX_ROWS = 6, 3, 4000
"""Recordings on a page, columns of each and rows of each."""
PANEL_HEIGHT = 130
MIN_LOG_SCORE = 0.1
"""Lower end of the logarithmic score axis."""
LINE = {"color": GREY, "width": 1.3}


def anomaly_page(file: DetectorFile, record: Record) -> str:
    """The HTML page of a prediction: the recordings with the largest fraction of flagged rows."""
    given: Any = record
    found = given["recordings"]
    recordings, where = read_recordings(
        file.codec, str(record["data"]), encoding=given["encoding"], sheet=given["sheet"]
    )
    by_name = {one["name"]: one for one in found}
    recordings.sort(key=lambda r: -by_name[r.name]["flagged"] / len(r))
    adapt: Any = record["adapt"]
    sections = []
    for recording in recordings[:MAX_RECORDINGS]:
        scored = score_recording(file.model, file.codec, recording, adapt=adapt)
        sections.append(_section(file.codec, recording, scored, by_name[recording.name], where))
    flagged, rows = (sum(one[name] for one in found) for name in ("flagged", "rows"))
    note = (
        f" The {MAX_RECORDINGS} recordings with the largest fraction of flagged rows are shown."
        if len(recordings) > MAX_RECORDINGS
        else ""
    )
    return page(
        f"{where}: {flagged:,} of {rows:,} rows flagged",
        "Grey lines are the readings, blue bands the 90% interval predicted from the rows before,"
        " orange areas the flagged rows. The top panel shows the anomaly score and its threshold."
        + note,
        sections,
    )


def _section(
    codec: ReadingsCodec, recording: Recording, scored: Scored, one: Mapping[str, Any], where: str
) -> Section:
    blamed: Counter[str] = Counter()
    for anomaly in one["anomalies"]:
        blamed.update({c: share * anomaly["rows"] for c, share in anomaly["blame"].items()})
    names = [c for c, _ in blamed.most_common(MAX_COLUMNS)] or list(codec.columns[:MAX_COLUMNS])
    text = f"Columns responsible: {', '.join(names)}." if one["flagged"] else "No anomalies."
    if codec.settle:
        text += f" The first {codec.settle} rows set the level and the threshold."
    return Section(
        f"{recording.name or where}: {one['flagged'] / one['rows']:.1%} of {one['rows']:,} rows, in"
        f" {count_ranges(one)}",
        text,
        _figure(codec, recording, scored, [c for c in names if c in codec.columns]),
        name=recording.name or "readings",
    )


def _figure(
    codec: ReadingsCodec, recording: Recording, scored: Scored, numbers: list[str]
) -> go.Figure:
    from plotly.subplots import make_subplots

    rows = _shown_rows(scored)
    times = [codec.format_time(int(time)) for time in recording.time[rows]]
    style = figure().layout
    fig = make_subplots(rows=1 + len(numbers), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    fig.update_layout(
        template="none",
        height=PANEL_HEIGHT * (1 + len(numbers)),
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 70, "r": 20, "t": 10, "b": 40},
        showlegend=False,
        hovermode="x unified",
    )
    _draw_scores(fig, times, scored, rows)
    for panel, name in enumerate(numbers, 2):
        k = codec.columns.index(name)
        _draw_interval(fig, times, scored.low[rows, k], scored.high[rows, k], panel)
        values = _to_json(recording.values[rows, k])
        fig.add_scatter(x=times, y=values, name=name, mode="lines", line=LINE, row=panel, col=1)
        fig.update_yaxes(title={"text": name, "font": {"size": 11}}, row=panel, col=1)
    for first, last in flagged_ranges(scored.flagged[rows]):
        fig.add_vrect(
            x0=times[first],
            x1=times[min(last + 1, len(times) - 1)],
            fillcolor=ORANGE,
            opacity=0.22,
            line_width=0,
            layer="below",
        )
    return fig


def _shown_rows(scored: Scored) -> np.ndarray:
    """All rows, or `MAX_ROWS` around the one with the highest score."""
    size, highest = len(scored.scores), int(np.argmax(scored.scores))
    begin = max(0, min(highest - MAX_ROWS // 2, size - MAX_ROWS))
    return np.arange(begin, min(size, begin + MAX_ROWS))


def _draw_scores(fig: go.Figure, times: list[str | int], scored: Scored, rows: np.ndarray) -> None:
    scores = np.where(rows >= scored.settled, scored.scores[rows], np.nan)
    fig.add_scatter(
        x=times,
        y=_to_json(np.maximum(scores, MIN_LOG_SCORE)),
        name="score",
        mode="lines",
        line=LINE,
        row=1,
        col=1,
    )
    fig.add_scatter(
        x=[times[0], times[-1]],
        y=[scored.threshold] * 2,
        name="threshold",
        mode="lines",
        line={"color": ORANGE, "width": 1.5, "dash": "dash"},
        row=1,
        col=1,
    )
    fig.update_yaxes(title="score", type="log", row=1, col=1)


def _draw_interval(
    fig: go.Figure, times: list[str | int], low: np.ndarray, high: np.ndarray, panel: int
) -> None:
    known = np.flatnonzero(~np.isnan(low))
    x = [times[k] for k in known]
    fig.add_scatter(
        x=x + x[::-1],
        y=_to_json(np.concatenate([high[known], low[known][::-1]])),
        mode="lines",
        fill="toself",
        fillcolor=BAND,
        line={"width": 0, "color": BLUE},
        hoverinfo="skip",
        row=panel,
        col=1,
    )


def _to_json(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{v:.5g}") for v in values]
