"""What `predict --out` writes: a picture of the answer, or its table."""

from __future__ import annotations

import csv
import io
from typing import Any

from memorycell.application.modelfile import ModelFile
from memorycell.applications.drawing.live import picture
from memorycell.applications.music.live import written
from memorycell.errors import UserError


def of(task: str, file: ModelFile, record: dict[str, Any], ending: str) -> str | bytes:
    """The text of a file with that ending. Raises `UserError` for one that the task does not have."""
    if task == "forecast" and ending == ".csv":
        return forecast_csv(record["forecasts"], file.codec.group)
    if task == "music":
        return written(record, ending)
    if task == "drawing":
        if ending != ".svg":
            raise UserError("--out: a drawing can be written as .svg")
        return picture(record)
    if ending not in (".html", ".htm"):
        raise UserError(
            f"--out: a {task} can be written as .html" + (" or .csv" if task == "forecast" else "")
        )
    if task == "forecast":
        from memorycell.applications.forecast.figures import forecast_page

        return forecast_page(file, record)
    if task == "anomaly":
        from memorycell.applications.anomaly.figures import anomaly_page

        return anomaly_page(file, record)
    if task in ("speech", "handwriting"):
        from memorycell.signals import figures as signals

        return (signals.speech_page if task == "speech" else signals.handwriting_page)(file, record)
    from memorycell.language import figures as language

    return language.page_of(task, record)


def forecast_csv(records: list[dict[str, Any]], group: str | None) -> str:
    """The same as CSV, a line a time and target."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*([group] if group else []), "time", "target", "median", "low80", "high80"])
    for record in records:
        for target, values in record["forecast"].items():
            for k, moment in enumerate(record["ahead"]):
                own = [record[group]] if group else []
                writer.writerow(
                    [*own, moment, target, *(values[q][k] for q in ("median", "low80", "high80"))]
                )
    return text.getvalue()
