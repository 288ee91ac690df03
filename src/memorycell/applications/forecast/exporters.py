"""Export of forecast models to ONNX and C99."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.application.contract import Exporter
from memorycell.application.exporting import check_c_precision, write_onnx
from memorycell.applications.forecast.c_head import ForecastCHead
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import RETURN
from memorycell.applications.forecast.words import word_labels
from memorycell.errors import UserError
from memorycell.exchange import c_export
from memorycell.exchange.files import Exported
from memorycell.models.merging import MERGEABLE_CELLS
from memorycell.state import fingerprint

if TYPE_CHECKING:
    from memorycell.application.contract import ModelFile
    from memorycell.applications.forecast.model import Forecaster


MAX_SHOWN_CHARS = 80
"""Of the name of a column in a description."""


class OnnxExporter:
    """The model in scaled units, with its scaling in the file's metadata."""

    def check(self, file: ModelFile[Forecaster, SeriesCodec]) -> None:
        """See `Exporter`."""
        _check(file, "onnx")

    def write(
        self,
        file: ModelFile[Forecaster, SeriesCodec],
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        codec = file.codec
        note = {
            "fingerprint": fingerprint(file.model),
            "inputs": input_descriptions(codec),
            "targets": codec.targets,
            "mean": codec.mean,
            "std": codec.std,
        }
        return write_onnx(file.model, name, precision=precision, note=note)


class CExporter:
    """The model with its quantiles in the table's units; the header says how inputs are made."""

    def check(self, file: ModelFile[Forecaster, SeriesCodec]) -> None:
        """See `Exporter`."""
        _check(file, "c")

    def write(
        self,
        file: ModelFile[Forecaster, SeriesCodec],
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        check_c_precision(precision)
        codec, config = file.codec, file.model.config
        targets = len(codec.targets)
        output = (
            f"[{config.horizon}][{config.targets}][{config.quantiles}]: quantiles of"
            f" {', '.join(map(_shown, codec.targets))} for the next {config.horizon} steps, in the"
            " table's units"
        )
        return c_export.export(
            file.model,
            name,
            precision=precision,
            head=ForecastCHead(file.model.exported(), codec.std[:targets], codec.mean[:targets]),
            inputs=input_descriptions(codec),
            output=output,
            test=test,
        )


EXPORTERS: dict[str, Exporter] = {"onnx": OnnxExporter(), "c": CExporter()}


def input_descriptions(codec: SeriesCodec) -> list[str]:
    """How each input of a step is computed from the readings, in the order of `codec.features`.
    Long names of columns are cut.
    """
    scaling = dict(zip(codec.columns, zip(codec.mean, codec.std, strict=True), strict=True))
    scaled = {c: f"(value - {mean:.9g}) / {std:.9g}" for c, (mean, std) in scaling.items()}
    lines = [f"{_shown(c)}: {formula}" for c, formula in scaled.items()]
    if codec.returns is not None:
        price = _shown(codec.returns)
        at = codec.columns.index(RETURN)
        lines[at] += f", where value = 100 log({price} / {price} one step before)"
    lines += [
        f"change of {_shown(c)}: (value - the value one step before, or itself at the beginning) /"
        f" {s:.9g}"
        for c, s in zip(codec.columns, codec.change, strict=True)
    ]
    lines.append("observed: 1; 0 for a step that fills a gap, which repeats the values before it")
    lines += [
        f"{_shown(c)} missing: 1 if the value is missing, else 0; the value is then the last one"
        " known"
        for c in codec.gappy
    ]
    for name, period in codec.calendar.items():
        lines += [
            f"{wave}{label} of {name}: {wave}({turns} pi t / {period:.9g}), t in seconds since"
            " 1970-01-01"
            for turns, label in ((2, ""), (4, " 2"))
            for wave in ("sin", "cos")
        ]
    lines += [
        f"{_shown(c)} in {k} steps: {scaled[c]}, known in advance"
        for c in codec.known_numbers
        for k in range(1, codec.reach + 1)
    ]
    lines += [_word_input(c, label) for c in codec.words for label in word_labels(codec.words[c])]
    lines += [
        f"{_word_input(c, label)}, in {k} steps, known in advance"
        for c in codec.known_words
        for k in range(1, codec.reach + 1)
        for label in word_labels(codec.words[c])
    ]
    assert len(lines) == len(codec.features)
    return lines


def _word_input(column: str, label: str) -> str:
    return f"{_shown(column)} {_shown(label)}: 1 if so, else 0"


def _shown(column: str) -> str:
    return column if len(column) <= MAX_SHOWN_CHARS else column[: MAX_SHOWN_CHARS - 1] + "…"


def _check(file: ModelFile[Forecaster, SeriesCodec], to: str) -> None:
    codec = file.codec
    if not file.model.config.exportable or codec.static or codec.each or codec.own:
        raise UserError(
            f"--to {to}: only for forecasts with head=quantiles, normal=no or level, scaling=all,"
            " each=no and no static columns; with members=1, or a cell among"
            f" {', '.join(MERGEABLE_CELLS)}"
        )
