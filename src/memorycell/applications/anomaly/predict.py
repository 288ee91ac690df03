"""Anomalies in tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.score import blame
from memorycell.applications.anomaly.scoring import Scored, flagged_ranges, score_recording
from memorycell.applications.anomaly.settings import MAX_ADAPT_ROWS, AnomalySettings
from memorycell.applications.anomaly.source import read_tables
from memorycell.errors import DataError, counted, quote
from memorycell.setting_fields import check_ranges
from memorycell.tables.column_lists import unused_note

MAX_SHOWN_RANGES = 12
"""Per recording."""

DetectorFile = ModelFile[Detector, ReadingsCodec]


@dataclass(frozen=True)
class PredictOptions:
    """Settings for --set.

    adapt   time constant in rows at which a recording's level follows its normal rows, for sensors
            that drift; 0: fixed; by default as in training
    encoding, sheet   of the table, as in training by default: cp1252, the name of a sheet
    """

    adapt: int | None = None
    encoding: str | None = None
    sheet: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self, adapt=(0, MAX_ADAPT_ROWS))


def trained_adapt(file: DetectorFile) -> int:
    """The `adapt` setting of training."""
    return int(file.info.get("settings", {}).get("adapt", AnomalySettings.adapt))


def read_recordings(
    codec: ReadingsCodec,
    source: str,
    *,
    encoding: str | None = None,
    sheet: str | None = None,
    notes: list[str] | None = None,
) -> tuple[list[Recording], str]:
    """(the recordings in a table, a folder of tables or a named dataset; its name).

    encoding, sheet   see `read_table`; by default as in training
    notes             what was left out, or is not read, is added, a line each

    Raises `DataError`.
    """
    path, dataset = locate(source)
    where = dataset.name if dataset else source
    tables, own_notes = read_tables(
        path,
        where,
        codec.label,
        encoding=encoding or codec.encoding,
        sheet=sheet or codec.sheet,
    )
    if notes is not None:
        times = () if codec.times is None else codec.times.columns
        read = {*codec.names, *times, codec.group, codec.label}
        columns = dict.fromkeys(name for table in tables for name in table.frame.columns)
        notes += [*own_notes, *unused_note([name for name in columns if name not in read])]
    return [r for t in tables for r in codec.read(t.frame, t.where, t.name)], where


def predict(file: DetectorFile, source: str | None, options: PredictOptions) -> Record:
    """`{"recordings": [{"name", "rows", "flagged", "threshold", "anomalies": [{"row", "from", "to",
    "rows", "peak", "blame"}]}], "notes"}` of a table.
    """
    if source is None:
        raise DataError("predict: anomaly detection needs a table, or a folder of tables")
    notes: list[str] = []
    recordings, where = read_recordings(
        file.codec, source, encoding=options.encoding, sheet=options.sheet, notes=notes
    )
    adapt = trained_adapt(file) if options.adapt is None else options.adapt
    records: list[Record] = []
    for recording in recordings:
        if len(recording) <= file.codec.settle:
            raise DataError(
                f"{where}: recording {quote(recording.name)} has {len(recording)} rows; its first"
                f" {file.codec.settle} only set its level"
            )
        scored = score_recording(file.model, file.codec, recording, adapt=adapt)
        records.append(_recording_record(file.codec, recording, scored))
    return {
        "data": source,
        "adapt": adapt,
        "encoding": options.encoding,
        "sheet": options.sheet,
        "recordings": records,
        "notes": notes,
    }


def _recording_record(codec: ReadingsCodec, recording: Recording, scored: Scored) -> Record:
    return {
        "name": recording.name,
        "rows": len(recording),
        "flagged": int(scored.flagged.sum()),
        "threshold": finite(scored.threshold),
        "anomalies": [
            _range_record(codec, recording, scored, first, last)
            for first, last in flagged_ranges(scored.flagged)
        ],
    }


def _range_record(
    codec: ReadingsCodec, recording: Recording, scored: Scored, first: int, last: int
) -> Record:
    rows = slice(first, last + 1)
    contributions = scored.contributions[rows].mean(0)
    return {
        "row": int(recording.rows[first]) + 1,
        "from": codec.format_time(int(recording.time[first])),
        "to": codec.format_time(int(recording.time[last])),
        "rows": last - first + 1,
        "peak": finite(float(scored.scores[rows].max())),
        "blame": blame(codec, contributions, np.asarray(scored.stuck[rows].any(0))),
    }


def finite(value: float) -> float | None:
    """The value; None for infinity and NaN, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def count_ranges(recording: Mapping[str, Any]) -> str:
    """The number of a recording's anomalies, in words."""
    count = len(recording["anomalies"])
    return counted(count, "ranges")


def render(record: Record) -> str:
    """The anomalies with the highest scores of each recording."""
    recordings: Any = record["recordings"]
    notes: Any = record["notes"]
    return "\n".join([*notes, *(line for one in recordings for line in _lines(one))])


def _lines(recording: Mapping[str, Any]) -> list[str]:
    name = f"{quote(recording['name'])[1:-1]}: " if recording["name"] else ""
    ranges = recording["anomalies"]
    lines = [
        f"{name}{recording['flagged']:,} of {recording['rows']:,} rows flagged, in"
        f" {count_ranges(recording)}"
    ]
    shown = sorted(ranges, key=lambda r: -(r["peak"] or 0))[:MAX_SHOWN_RANGES]
    for one in sorted(shown, key=lambda r: int(r["row"])):
        columns = ", ".join(f"{c} {share:.0%}" for c, share in one["blame"].items())
        peak = "" if one["peak"] is None else f", peak {one['peak']:.4g}"
        lines.append(
            f"  row {one['row']}: {one['from']} to {one['to']}, {one['rows']} rows{peak}: {columns}"
        )
    if len(ranges) > len(shown):
        lines.append(
            f"  … and {len(ranges) - len(shown)} with lower scores (--json, or --out page.html)"
        )
    return lines
