"""Export of sequence models to ONNX and C99."""

from __future__ import annotations

import numpy as np

from memorycell.application.contract import Exporter
from memorycell.application.exporting import check_c_precision, write_onnx
from memorycell.applications.sequences.c_head import SequenceCHead
from memorycell.applications.sequences.codec import Column, SequenceCodec
from memorycell.applications.sequences.prepare import SequencesFile
from memorycell.errors import UserError
from memorycell.exchange import c_export
from memorycell.exchange.files import Exported
from memorycell.models.quantiles import quantile_levels
from memorycell.state import fingerprint

MAX_SHOWN_CHARS = 60


class OnnxExporter:
    """The model from scaled inputs to scores or scaled quantiles, with its columns and their
    scaling in the file's metadata.
    """

    def check(self, file: SequencesFile) -> None:
        """See `Exporter`."""
        reason = file.model.onnx_head()
        if isinstance(reason, str):
            raise UserError(f"--to onnx: {reason}")

    def write(
        self,
        file: SequencesFile,
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        codec = file.codec
        note = {
            "fingerprint": fingerprint(file.model),
            "target": codec.target,
            "names": codec.names,
            **({"unknown_below": codec.unknown_below} if codec.unknown_below else {}),
            "patch": codec.patch,
            "inputs": input_descriptions(codec),
            "mean": codec.target_mean,
            "std": codec.target_std,
        }
        return write_onnx(file.model, name, precision=precision, note=note)


class CExporter:
    """The model with probabilities, or numbers in the table's units; the header says how the inputs
    are made from the rows.
    """

    def check(self, file: SequencesFile) -> None:
        """See `Exporter`."""
        reason = file.model.c_head()
        if isinstance(reason, str):
            raise UserError(f"--to c: {reason}")

    def write(
        self,
        file: SequencesFile,
        name: str,
        *,
        precision: str = "float32",
        test: np.ndarray | None = None,
    ) -> Exported:
        """See `Exporter`."""
        check_c_precision(precision)
        if precision != "float32" and file.model.config.encoder == "conv":
            raise UserError(
                f"--precision {precision}: convolutions are exported in float32; leave it out, or"
                " train with --set encoder=none"
            )
        codec = file.codec
        return c_export.export(
            file.model,
            name,
            precision=precision,
            head=SequenceCHead(
                file.model, people=True, scale=codec.target_std, offset=codec.target_mean
            ),
            inputs=input_descriptions(codec),
            output=_output(codec, file.model.config.quantiles),
            test=test,
        )


EXPORTERS: dict[str, Exporter] = {"onnx": OnnxExporter(), "c": CExporter()}


def input_descriptions(codec: SequenceCodec) -> list[str]:
    """How each input of a step is computed from the rows."""
    row = [line for column in codec.channels for line in _lines(column)]
    lines = row
    if codec.patch > 1:
        lines = [
            f"row {k + 1} of {codec.patch}: {line}" for k in range(codec.patch) for line in row
        ]
    lines += [f"of the sequence: {line}" for column in codec.static for line in _lines(column)]
    return lines


def _lines(column: Column) -> list[str]:
    name = column.name
    if len(name) > MAX_SHOWN_CHARS:
        name = name[: MAX_SHOWN_CHARS - 1] + "…"
    if column.words:
        lines = [f"1 where {name} is {word[:MAX_SHOWN_CHARS]}, else 0" for word in column.words]
    else:
        value = f"asinh(value / {column.unit:.9g})" if column.unit else "value"
        lines = [f"{name}: ({value} - {column.mean:.9g}) / {column.std:.9g}"]
    if column.change:
        lines.append(
            f"change of {name}: (that input - that of the row before, or 0 at the first) /"
            f" {column.change:.9g}"
        )
    if column.floor:
        deviation = f"max(deviation of {name} in the sequence so far, {column.floor:.9g})"
        lines.append(f"{name}: (value - its mean in the sequence so far) / {deviation}")
        lines.append(f"(log of {deviation} - {column.log_mean:.9g}) / {column.log_std:.9g}")
    if column.gappy:
        lines.append(f"1 where {name} is missing, else 0; the value is then the last one known")
    return lines


def _output(codec: SequenceCodec, quantiles: int) -> str:
    names = ", ".join(name[:MAX_SHOWN_CHARS] for name in codec.names)
    so_far = "at this step" if codec.every_step else "of the sequence so far"
    if not codec.numeric:
        below = codec.unknown_below
        unknown = f"; unknown where all are below {below:.6g}" if below else ""
        return f"[{len(codec.names)}]: the probabilities {so_far} of {names}{unknown}"
    levels = ", ".join(f"{level:.3g}" for level in quantile_levels(quantiles))
    return (
        f"[{len(codec.names)}][{quantiles}]: quantiles {so_far} of {names} in the table's units, at"
        f" the levels {levels}"
    )
