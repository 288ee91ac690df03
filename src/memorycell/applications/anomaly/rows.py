"""A prediction as a table: the score and the verdict of each row."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

from memorycell.application.contract import Record
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.predict import DetectorFile, read_recordings
from memorycell.applications.anomaly.score import blame
from memorycell.applications.anomaly.scoring import Scored, score_recording

if TYPE_CHECKING:
    import polars as pl


def to_csv(file: DetectorFile, record: Record) -> bytes:
    """A prediction as CSV; see `score_table`."""
    return score_table(file, record).write_csv().encode()


def to_parquet(file: DetectorFile, record: Record) -> bytes:
    """A prediction as Parquet; see `score_table`."""
    buffer = io.BytesIO()
    score_table(file, record).write_parquet(buffer)
    return buffer.getvalue()


def score_columns(file: DetectorFile, record: Record) -> dict[str, list[object]]:
    """A prediction as columns; see `score_table`."""
    return score_table(file, record).to_dict(as_series=False)


def score_table(file: DetectorFile, record: Record) -> pl.DataFrame:
    """One row per row of the input, in its order:

    recording   its name, where there are several: a file, or a value of the group column
    row         in its table, from 1
    time        as text, in the zone of the table
    score, threshold, anomaly   null for the rows that set the recording's level
    blame       of an anomaly: column -> share of the score, as JSON
    """
    import polars as pl

    given: Any = record
    recordings, _ = read_recordings(
        file.codec, given["data"], encoding=given["encoding"], sheet=given["sheet"]
    )
    parts = []
    for recording in recordings:
        scored = score_recording(file.model, file.codec, recording, adapt=given["adapt"])
        parts.append(_rows(file.codec, recording, scored))
    frame = pl.concat(parts)
    return frame if any(r.name for r in recordings) else frame.drop("recording")


def _rows(codec: ReadingsCodec, recording: Recording, scored: Scored) -> pl.DataFrame:
    import polars as pl

    count = len(recording)
    first = min(scored.settled, count)
    none = [None] * first
    threshold = scored.threshold if math.isfinite(scored.threshold) else None
    columns: dict[str, tuple[list[Any], type[pl.DataType]]] = {
        "recording": ([recording.name] * count, pl.String),
        "row": ((recording.rows + 1).tolist(), pl.Int64),
        "score": ([*none, *scored.scores[first:].tolist()], pl.Float64),
        "threshold": ([*none, *[threshold] * (count - first)], pl.Float64),
        "anomaly": ([*none, *scored.flagged[first:].tolist()], pl.Boolean),
        "blame": ([_blame(codec, scored, k) for k in range(count)], pl.String),
    }
    frame = pl.DataFrame({name: pl.Series(v, dtype=kind) for name, (v, kind) in columns.items()})
    times = pl.Series("time", [codec.format_time(int(time)) for time in recording.time])
    return frame.insert_column(2, times)


def _blame(codec: ReadingsCodec, scored: Scored, row: int) -> str | None:
    if not scored.flagged[row]:
        return None
    shares = blame(codec, scored.contributions[row], scored.stuck[row])
    return json.dumps(shares, ensure_ascii=False)
