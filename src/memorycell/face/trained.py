"""A trained model with what it can do: the object that `memorycell.train` and `load` return."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.application import catalogue, modelfile
from memorycell.application.contract import AnyApplication, AnyModelFile, ModelFile, Record, Session
from memorycell.application.live import open_session
from memorycell.application.rendering import comparison_html, comparison_text
from memorycell.errors import UserError
from memorycell.face.frames import is_frame, like
from memorycell.face.memory import NAME, as_source
from memorycell.face.options import typed_options
from memorycell.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from memorycell.inspection.inspect import Inspection
    from memorycell.proof import Proof


class Trained(ModelFile[Any, Any]):
    """A trained model: its metrics, predictions, live sessions, proofs and exports.

    It is also the `ModelFile` that it was read from: `model`, `codec`, `info`.

    metrics     name -> value on the held-out test split
    baselines   baseline name -> the same metrics
    skill       relative improvement over the best baseline; None without one
    data        what it was trained on, where it is in memory
    """

    def __init__(self, file: AnyModelFile, trained_on: object = None) -> None:
        super().__init__(file.model, file.codec, file.info, file.arrays)
        self._trained_on = trained_on

    @property
    def application(self) -> AnyApplication:
        """Of its task."""
        return catalogue.load(self.task)

    @property
    def metrics(self) -> dict[str, float]:
        """On the held-out test split."""
        return dict(self.info.get("metrics") or {})

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Baseline name -> the same metrics."""
        return dict(self.info.get("baselines") or {})

    @property
    def skill(self) -> float | None:
        """Relative improvement over the best baseline."""
        skill: float | None = self.info.get("skill")
        return skill

    def predict(self, x: Any = None, **options: Any) -> Any:
        """A prediction for x: what the task reads (a path, a text, or data in memory).

        A data frame gives a data frame of the same library where the prediction is a table: for
        forecasts one row per series, step ahead and target, for anomalies one per row of x.
        Otherwise the `Record` that `memorycell predict --json` prints. Raises `UserError`.
        """
        application = self.application
        given = typed_options(application.predict_options, options, application.name)
        with self._source(application.predict_reads, x) as source:
            record = application.predict(self, source, given)
            if is_frame(x) and application.columns is not None:
                return like(x, application.columns(self, record))
        in_memory = x is not None and not isinstance(x, (str, Path))
        return {**record, "data": NAME} if in_memory and "data" in record else record

    def evaluate(self, data: Any = None) -> Record:
        """Metrics beside the baselines' on other data, or on the test split of its own. Raises
        `UserError`.
        """
        from memorycell.training import loop

        with as_source(self.application, self._own(data)) as source:
            return loop.evaluate(self.application, self, Path(self.data), source)

    def session(self, precision: str = "float32", **options: Any) -> Session:
        """A live session: `feed` it what the task reads, one item at a time. Raises `UserError`."""
        application = self.application
        given = typed_options(application.stream_options, options, application.name)
        return open_session(self, precision, given)

    def inspect(self, x: Any = None) -> Inspection:
        """Its gates while it reads x, or its own data. Raises `UserError`."""
        application = self.application
        reads = application.inspect_reads or application.predict_reads
        with self._source(reads, x if x is not None else self._trained_on) as source:
            return application.inspect(self, source)

    def prove(self, precisions: Sequence[str] = ("float32", "bfloat16", "int8")) -> Proof:
        """Run it in every way that it can run, and compare; see `memorycell.prove`."""
        from memorycell.proof import prove

        return prove(self, precisions=precisions)

    def export(self, to: str, folder: str | Path, *, precision: str = "float32") -> list[Path]:
        """Write it as "onnx" or "c" files into a folder, named after the task. Raises
        `UserError`.
        """
        from memorycell.exchange import files

        exporter = self.application.exporters.get(to)
        if exporter is None:
            formats = ", ".join(self.application.exporters) or "no format"
            raise UserError(f"export to {to!r}: {self.task} can be exported to {formats}")
        exporter.check(self)
        exported = exporter.write(self, files.identifier(self.task), precision=precision, test=None)
        return [Path(path) for path in files.write(exported.files, Path(folder))]

    def write(self, path: str | Path, x: Any = None, **options: Any) -> None:
        """Write a prediction for x; the suffix says how, as with `predict --out`. Raises
        `UserError`.
        """
        application, path = self.application, Path(path)
        given = typed_options(application.predict_options, options, application.name)
        if path.suffix not in application.figures:
            suffixes = ", ".join(application.figures) or "nothing"
            raise UserError(f"{path}: {application.name} can write {suffixes}")
        with self._source(application.predict_reads, x) as source:
            record = application.predict(self, source, given)
            write_atomically(path, application.figures[path.suffix](self, record))

    def _source(self, reads: str, x: Any) -> AbstractContextManager[str | None]:
        if reads == "text" and isinstance(x, str):
            return contextlib.nullcontext(x)
        return as_source(self.application, x)

    def _own(self, data: Any) -> Any:
        if data is not None:
            return data
        if self.data == NAME and self._trained_on is None:
            raise UserError("it was trained on data in memory: give the data again")
        return self._trained_on

    def __repr__(self) -> str:
        if not self.metrics:
            return f"<memorycell {self.task}>"
        return comparison_text(self._result())

    def _repr_html_(self) -> str:
        return comparison_html(self._result())

    def _result(self) -> dict[str, Any]:
        metric = self.application.metric
        return {
            "task": self.task,
            "primary": self.info.get("primary", metric.name),
            "higher": self.info.get("higher", metric.higher_is_better),
            "metrics": self.metrics,
            "baselines": self.baselines,
            "skill": self.skill,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self.to_bytes(),)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Trained:
        return Trained(
            ModelFile(
                copy.deepcopy(self.model, dict(memo)),
                self.codec,
                copy.deepcopy(self.info),
                _copied(self.arrays),
            ),
            self._trained_on,
        )


def load(path: str | Path) -> Trained:
    """The trained model in a model file. Raises `ModelFileError`; see docs/modelfile.md."""
    return Trained(modelfile.load(path))


def _from_bytes(data: bytes) -> Trained:
    return Trained(modelfile.from_bytes(data))


def _copied(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in arrays.items()}
