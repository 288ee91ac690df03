"""A trained model with what it can do: the object that `memorycell.train` and `load` return."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memorycell.application import modelfile
from memorycell.application.advice import training_advice
from memorycell.application.contract import (
    NoOptions,
    Record,
    Session,
)
from memorycell.application.live import open_session
from memorycell.application.predicting import predict_record
from memorycell.face.advice import as_arguments, with_arguments
from memorycell.face.backtesting import Backtest, backtest_model
from memorycell.face.comparing import compare_now, model_text
from memorycell.face.data_warnings import warn_of_notes
from memorycell.face.evaluating import evaluate_model
from memorycell.face.exporting import Exported, checked_exporter, export_model
from memorycell.face.figures import named_figure, prediction_figures, report_page
from memorycell.face.frames import as_frame, is_frame, like
from memorycell.face.memory import as_input, with_files, with_names
from memorycell.face.notebook import trained_html
from memorycell.face.options import check_precision, check_range, typed_options
from memorycell.face.own_data import ModelWithData, inspect_own
from memorycell.face.pools import encoded_pool, session_pool
from memorycell.face.proving import ModelProof, prove_model
from memorycell.face.session_pool import SessionPool
from memorycell.face.writing import figure_suffix, write_prediction
from memorycell.training.events import Log, ignore

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import torch

    from memorycell.face.shards import ShardResults
    from memorycell.face.workers import Work
    from memorycell.inspection.inspect import Inspection
    from memorycell.inspection.page import Page
    from memorycell.streaming.pool import Pool


class Trained(ModelWithData):
    """A trained model: its metrics, predictions, live sessions, pictures, proofs and exports.

    It is also the `ModelFile` that it was read from: `model`, `codec`, `info`, `history`, `notes`.

    path       the model file; None where there is none
    result     the comparison with the baselines, as `memorycell train --json` prints it; None for a
               model that was loaded, see `evaluate`
    picture    what a notebook shows of it; None for a model that was loaded: it shows values of
               the data, so it is not stored. `figure("main")` makes it again
    """

    # ---- what is known of it ---------------------------------------------------------------------

    @property
    def metrics(self) -> dict[str, float]:
        """Metric name -> value on the held-out test split."""
        return dict(self.info.get("metrics") or {})

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Baseline name -> the same metrics. After training with baselines=False they are computed
        here, once; {} and a warning for a model that was loaded: see `evaluate`.
        """
        compare_now(self)
        return dict(self.info.get("baselines") or {})

    @property
    def notes(self) -> list[str]:
        """What was found in its data when it was trained."""
        return [as_arguments(note) for note in super().notes]

    @property
    def skill(self) -> float | None:
        """Relative improvement over the best baseline; None without one. See `baselines`."""
        compare_now(self)
        skill: float | None = self.info.get("skill")
        return skill

    @property
    def primary(self) -> str:
        """The metric that `skill` compares."""
        return str(self.info.get("primary") or self.application.metric.name)

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the primary metric is better."""
        return bool(self.info.get("higher", self.application.metric.higher_is_better))

    @property
    def settings(self) -> dict[str, Any]:
        """Name -> value of the settings that it was trained with, those of training included."""
        return {**(self.info.get("settings") or {}), **(self.info.get("training") or {})}

    @property
    def inspect_reads(self) -> Literal["file", "text"]:
        """Whether `inspect` reads files or texts."""
        return self.application.inspect_reads or self.application.predict_reads

    @property
    def search(self) -> dict[str, Any] | None:
        """The search that found its settings, see `memorycell.tune`; None without one."""
        search: dict[str, Any] | None = self.info.get("search")
        return search

    # ---- what it can do --------------------------------------------------------------------------

    @with_arguments
    def predict(self, x: Any = None, **options: Any) -> Any:
        """A prediction for x: what the task reads (a path, a text, or data in memory).

        A data frame gives a data frame of the same library where the prediction is a table: for
        forecasts one row per series, step ahead and target, for anomalies one per row of x, for
        texts their label and probabilities; the notes on the data, such as on columns that the
        model does not know, are warnings of `memorycell.DataWarning`. Otherwise the `Record` that
        `memorycell predict --json` prints. The options are those of `memorycell.settings(task,
        "predict")`. Raises `UserError`.
        """
        application, x = self.application, as_frame(x)
        with with_files(application, options) as named:
            given = typed_options(application.predict_options, named, application.name)
            if x is None:
                with self.own_file(needed=False) as file:
                    return with_names(predict_record(file, None, given))
            with self.input(x) as source:
                record = self.predict_record(source, given)
                if is_frame(x) and application.columns is not None:
                    warn_of_notes(record)
                    return like(x, application.columns(self, record))
        of_files = isinstance(x, (str, Path)) and not application.predict_data
        return record if of_files else with_names(record)

    @with_arguments
    def write(self, path: str | Path, x: Any = None, **options: Any) -> None:
        """Write a prediction for x; the suffix says how, as with `predict --out`. Raises
        `UserError`.
        """
        application = self.application
        figure_suffix(application, Path(path))
        with with_files(application, options) as named, self.input(x) as source:
            given = typed_options(application.predict_options, named, application.name)
            self.predict_record(source, given, Path(path))

    def predict_files(
        self,
        inputs: str | Sequence[str | Path],
        out: str | Path,
        *,
        workers: int = 1,
        log: Log = ignore,
        run_jobs: Work | None = None,
        **options: Any,
    ) -> ShardResults:
        """Predictions for many files, by `workers` processes, as files in the folder `out`; see
        `face.shards.predict_files`. Raises `UserError`.

        inputs     a pattern such as "rows/*.parquet", or paths
        run_jobs   replaces the processes of this machine: `cluster.jobs.work_at(address)`
        """
        from memorycell.face.shards import predict_files

        given = typed_options(self.application.predict_options, options, self.application.name)
        return predict_files(self, inputs, out, given, workers=workers, log=log, run_jobs=run_jobs)

    def predict_record(self, source: str | None, options: Any, out: Path | None = None) -> Record:
        """The prediction for a path or a text, with the options as the application's type; it is
        also written to `out`.
        """
        record = predict_record(self, source, options)
        if out is not None:
            write_prediction(self, record, out)
        return record

    @with_arguments
    def evaluate(self, data: Any = None, log: Log = ignore) -> Record:
        """Metrics, with the baselines', on other data, or on the test split of its own; `log` is
        called with notes on the data. Raises `UserError`.
        """
        return evaluate_model(self, data, log)

    def evaluate_files(
        self,
        inputs: str | Sequence[str | Path],
        out: str | Path | None = None,
        *,
        workers: int = 1,
        log: Log = ignore,
    ) -> tuple[Record | None, ShardResults]:
        """`evaluate` on many files, and what became of each; see `face.evaluated_shards`."""
        from memorycell.face.evaluated_shards import evaluate_files

        return evaluate_files(self, inputs, out, workers=workers, log=log)

    @with_arguments
    def backtest(
        self,
        data: Any = None,
        *,
        folds: int = 4,
        start: float = 0.6,
        refit: bool = True,
        minutes: float | None = None,
        device: str | torch.device | None = None,
    ) -> Backtest:
        """Walk-forward evaluation with its settings: train on the past, test on the next period.

        folds     equal periods of time, from the share `start` of the time range on
        refit     train a new model before each period, instead of once before the first
        minutes   approximate training time per fold
        device    see `memorycell.train`

        Raises `UserError` for a task whose data have no time axis.
        """
        application = self.application
        check_range("folds", folds, 1, 1000)
        check_range("start", start, 0.1, 0.99)
        with self.source(data) as source:
            return backtest_model(
                application,
                source,
                self.typed_settings(application.settings),
                self.training_settings(),
                folds=folds,
                start=start,
                refit=refit,
                minutes=minutes,
                device=device,
            )

    @with_arguments
    def session(self, precision: str = "float32", **options: Any) -> Session:
        """A live session: `feed` it what the task reads, one item at a time. Raises `UserError`."""
        application = self.application
        check_precision(precision)
        given = typed_options(application.stream_options, options, application.name)
        with training_advice(self.application, given):
            return open_session(self, precision, given)

    @with_arguments
    def pool(self, sessions: int = 0, precision: str = "float32", **options: Any) -> SessionPool:
        """Many live sessions stepped together, on what `session` reads: `answers =
        pool.feed(slots, items)`. `sessions` of them are open: `slots`; the options are those of
        `session`. Raises `UserError` for a model that needs its complete input.
        """
        return session_pool(self, sessions, precision, options)

    def encoded_pool(self, sessions: int = 0, precision: str = "float32", **options: Any) -> Pool:
        """As `pool`, on the model's encoded inputs: `y = pool.step(slots, x)`, x [n, input_size]
        float32. The options are those of `memorycell.Pool`: spill, resident, on_nonfinite.
        """
        return encoded_pool(self, sessions, precision, options)

    @with_arguments
    def inspect(self, x: Any = None) -> Inspection:
        """Its gates while it reads x, or its own data: `.figure()`, `.page()`, `.summary`. Raises
        `UserError`.
        """
        if x is None:
            with self.own_file() as file:
                return inspect_own(file)
        reads, series = self.inspect_reads, self.names_series
        with as_input(self.application, reads, x, series=series) as source:
            return self.inspect_source(source)

    def inspect_source(self, source: str | None) -> Inspection:
        """`inspect` for a path or a text."""
        with training_advice(self.application, NoOptions()):
            return self.application.inspect(self, source)

    @with_arguments
    def figure(self, name: str | None = None, x: Any = None, **options: Any) -> go.Figure:
        """A picture as a plotly figure.

        name      "main", as in a notebook, "baselines", "training"; "gates", "saturation", "memory
                  horizon", "half-lives" or "gradient flow" while it reads x, or its own data; one
                  of `figures`. None: the first of these
        x         see `predict`, as the options

        Raises `UserError` for a name that there is not.
        """
        return named_figure(self, name, x, options)

    @with_arguments
    def figures(self, x: Any = None, **options: Any) -> dict[str, go.Figure]:
        """Name -> picture as a plotly figure: of the prediction for x, or without x of the
        evaluation on its test split. Raises `UserError`.
        """
        if x is None and not options:
            return self.report().figures()
        return prediction_figures(self, x, options)

    @with_arguments
    def report(self, data: Any = None) -> Page:
        """The HTML page of the evaluation on its test split, or on other data. Raises
        `UserError`.
        """
        if data is None:
            with self.own_file() as file:
                return report_page(file, None, self.result)
        with self.source(data) as source:
            return report_page(self, source, None)

    def prove(
        self,
        precisions: Sequence[str] = ("float32", "bfloat16", "int8"),
        exports: Sequence[str] = ("onnx", "c"),
        log: Log = ignore,
    ) -> ModelProof:
        """Run it in every way that it can run, on its own test split where that is available, and
        compare; see `memorycell.prove`. `costs` are those of lower precisions in accuracy.
        """
        return prove_model(self, self.own_dataset(log), precisions, exports, log)

    @with_arguments
    def export(
        self, to: str, folder: str | Path, *, precision: str = "float32", log: Log = ignore
    ) -> Exported:
        """Write it as "onnx" or "c" files into a folder, named after its file or its task; C with a
        test vector of its own data where they are available. Raises `UserError`.
        """
        exporter = checked_exporter(self, to)
        return export_model(
            self,
            exporter,
            self.own_dataset(log),
            Path(folder),
            name=self.task if self.path is None else self.path.stem,
            precision=precision,
            log=log,
        )

    def __repr__(self) -> str:
        return model_text(self)

    def _repr_html_(self) -> str:
        return trained_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self.to_bytes(),)

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Trained:
        other = _from_bytes(self.to_bytes())
        other.path, other.result, other.picture = (
            self.path,
            copy.deepcopy(self.result),
            self.picture,
        )
        other._trained_on = self._trained_on
        return other


def load(path: str | Path) -> Trained:
    """The trained model in a model file. Raises `ModelFileError`; see docs/modelfile.md."""
    return Trained(modelfile.load(path), Path(path))


def _from_bytes(data: bytes) -> Trained:
    return Trained(modelfile.from_bytes(data))
