"""The contract of an application: what training, the command line and model files ask of it.

    data ──prepare──► Dataset ──build, batches──► Model ──training──► ModelFile
    ModelFile ──predict──► Record      ModelFile ──session──► Session.feed(item) ──► [Record]

An application is one value, `Application`, in a folder of its own. Nothing outside that folder
depends on which application it is: `application.catalogue` finds it by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

import numpy as np
from torch import Tensor

from memorycell.application.named_dataset import NamedDataset
from memorycell.application.picture import Picture
from memorycell.application.search_space import SearchSpace
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import ModelFileError
from memorycell.exchange.files import Exported
from memorycell.files import tensors_to_bytes, write_atomically
from memorycell.models.batches import Batch
from memorycell.models.model import Model
from memorycell.setting_fields import settings_from_json
from memorycell.streaming.stepwise import StreamSteps

if TYPE_CHECKING:
    import polars as pl

    from memorycell.inspection.inspect import Inspection

MODEL_FORMAT_VERSION = 1

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
Record: TypeAlias = dict[str, JSON]
"""A JSON object: what a prediction or a session gives."""
Metrics: TypeAlias = dict[str, float]
"""Metric name -> value."""
Item: TypeAlias = str | bytes | Mapping[str, JSON]
"""What a session reads: a line of text, bytes of sound, or the cells of a row by column."""

InMemory: TypeAlias = (
    Literal["table", "sequences", "texts", "labelled", "pairs"]
    | Literal["dialogues", "sounds", "strokes", "pieces", "clips", "episodes"]
)
"""Kinds of data in memory that an application takes instead of a path; see `face.memory`."""

M = TypeVar("M", bound=Model[Any])
M_co = TypeVar("M_co", bound=Model[Any], covariant=True)
C_co = TypeVar("C_co", bound="Codec", covariant=True)
B = TypeVar("B", bound=Batch)
S = TypeVar("S")
P = TypeVar("P")
O = TypeVar("O")  # noqa: E741

AnyModelFile: TypeAlias = "ModelFile[Any, Any]"
"""A model file whose model and codec only its application can name."""
AnyDataset: TypeAlias = "Dataset[Any, Any]"
AnyApplication: TypeAlias = "Application[Any, Any, Any]"


@dataclass(frozen=True)
class Metric:
    """The metric by which models and baselines are compared."""

    name: str
    higher_is_better: bool = False

    def best(self, scores: Mapping[str, Metrics]) -> str:
        """The name of the method with the best value."""
        return sorted(scores, key=lambda k: scores[k][self.name], reverse=self.higher_is_better)[0]

    def skill(self, ours: float, baseline: float) -> float:
        """Relative improvement over a baseline: positive where ours is better."""
        gain = ours - baseline if self.higher_is_better else baseline - ours
        if baseline == 0:
            return float(np.sign(gain))
        return gain / abs(baseline)


@dataclass(frozen=True)
class NoOptions:
    """For a verb without options."""


class Codec(Protocol):
    """Converts what people have to arrays and back; stored as JSON in the model file."""

    kind: ClassVar[str]
    """Its name in a model file."""

    def model_sizes(self) -> Mapping[str, object]:
        """The configuration values that a model needs to fit: field name -> value."""

    def to_json(self) -> dict[str, Any]:
        """JSON values from which `from_json` rebuilds it."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for JSON that is not one."""


@dataclass
class ModelFile(Generic[M_co, C_co]):
    """What a model file holds; see docs/modelfile.md. `application.modelfile.load` reads it.

    model    a `Model` of one of its application's kinds
    codec    converts what people have to its inputs, and its outputs to what people want
    info     JSON values: task, settings, data (name, fingerprint), split, metrics, baselines, seed,
             library version
    arrays   further tensors by name: the fitted baselines
    """

    model: M_co
    codec: C_co
    info: dict[str, Any]
    arrays: dict[str, Tensor] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The name of its application."""
        return str(self.info.get("task"))

    @property
    def data(self) -> str:
        """The path or name of the data it was trained on."""
        return str(self.info["data"])

    @property
    def fingerprint(self) -> str:
        """Of the data it was trained on."""
        return str(self.info["fingerprint"])

    @property
    def history(self) -> list[dict[str, float]]:
        """One entry per epoch of its training."""
        return self.info.get("history") or []

    @property
    def notes(self) -> list[str]:
        """What was found in its data when it was trained."""
        return self.info.get("notes") or []

    def typed_settings(self, kind: type[S]) -> S:
        """The settings it was trained with. Raises `ModelFileError` where they are incomplete."""
        try:
            str(self.info["data"]), str(self.info["fingerprint"])
            return settings_from_json(kind, self.info["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the model file's description of its training is incomplete ({error!r}); train a"
                " new model"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write to a temporary file and rename. Raises `UserError` where the disk is full or the
        folder is missing.
        """
        write_atomically(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        note = {
            "format": "memorycell-model",
            "version": MODEL_FORMAT_VERSION,
            "library": version("memorycell"),
            "config": {"kind": self.model.kind, **self.model.config.to_json()},
            "codec": {"kind": self.codec.kind, **self.codec.to_json()},
            "info": self.info,
        }
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"array.{name}": value for name, value in self.arrays.items()}
        return tensors_to_bytes(tensors, note)


class Dataset(ABC, Generic[M, B]):
    """Data that are read, split and encoded, with fitted baselines."""

    codec: Codec
    """Fitted on the training split."""
    notes: list[str]
    """What was found in the data and what was decided, one line each."""
    with_baselines: bool = True
    """Whether the model is compared with them; False: `details` leave them out too."""

    @abstractmethod
    def build(self) -> M:
        """A new model with initial weights."""

    @abstractmethod
    def batches(self, seed: int) -> Iterator[B]:
        """One epoch of the training split; the order depends on the seed alone."""

    @abstractmethod
    def evaluate(self, model: M, split: str, precision: str = "float32") -> Metrics:
        """The metrics on "train", "valid" or "test"; `precision` is that of the recurrent part."""

    @abstractmethod
    def baselines(self, split: str) -> dict[str, Metrics]:
        """Baseline name -> the same metrics."""

    @abstractmethod
    def sample(self, steps: int) -> np.ndarray:
        """Up to `steps` inputs of the test split, [T, F] float32: what a model is proved on."""

    @abstractmethod
    def info(self) -> Record:
        """For the model file: the data's name and fingerprint, the split, the settings."""

    def attach(self, model: M, log: Callable[[str], None]) -> None:
        """Called before the first epoch, for data that depend on the model that is trained, such as
        rollouts of a policy. `log` takes a line on work that takes long.
        """
        return

    def training_budget(self, budget_s: float) -> float:
        """Seconds for the model; the rest is for baselines that are trained after it."""
        return budget_s

    def validate(self, model: M) -> Metrics:
        """The metrics on "valid" after an epoch; the selection metric is among them."""
        return self.evaluate(model, "valid")

    def metric(self, usual: Metric) -> Metric:
        """The metric to compare by: the application's, or another where these data lack it."""
        return usual

    def arrays(self) -> dict[str, Tensor]:
        """Tensors for the model file: fitted baselines, where they are stored."""
        return {}

    def frozen_parameters(self, epoch: int) -> tuple[str, ...]:
        """Name prefixes of the parameters that are not trained in an epoch."""
        return ()

    def calibrate(self, model: M) -> None:
        """Fit what remains on the validation split, after the best weights are chosen."""
        return

    def details(self, model: M, split: str) -> Record:
        """More results for people, such as examples or a confusion matrix."""
        return {}


class Session(Protocol):
    """One live sequence. Input that cannot be read raises `DataError` and changes nothing."""

    def feed(self, item: Item) -> list[Record]:
        """Read one item; the answers it produced, none, one or several."""

    def close(self) -> list[Record]:
        """The input has ended; the answers that were waiting for more."""

    def snapshot(self) -> bytes:
        """The state, for `restore` on the same weights and precision."""

    def restore(self, data: bytes) -> None:
        """Continue from a snapshot. Raises `StateError` and is then unchanged."""


@runtime_checkable
class Forkable(Session, Protocol):
    """A session that can be copied quickly."""

    def fork(self) -> Self:
        """An independent session with the same state; the packed weights are shared."""


@runtime_checkable
class Stepwise(Forkable, Protocol):
    """A session whose steps can run together with others' in one call; see `streaming.stepwise`."""

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """`feed` as a generator, which yields the streams to step and their inputs."""


class Exporter(Protocol):
    """Writes the models of one application in one format."""

    def check(self, file: AnyModelFile) -> None:
        """Raises `UserError` where this model cannot be exported."""

    def write(
        self, file: AnyModelFile, name: str, *, precision: str, test: np.ndarray | None
    ) -> Exported:
        """The files of a model.

        name        of the files, without suffix: an ASCII identifier
        precision   of the recurrent layers' products
        test        [T, I] float32 inputs for a test vector, where the format has one

        Raises `UserError` for a precision that the format does not have, or a missing package.
        """


class WalkForward(Protocol[S]):
    """Evaluation on consecutive periods of time; `begin` and `end` are shares of the time range."""

    def settings(self, settings: S, begin: float, end: float) -> S:
        """The settings that test on the period. Raises `UserError` where they exclude it."""

    def reopen(self, file: AnyModelFile, begin: float, end: float) -> AnyDataset:
        """The model's own data, with the period as test split."""


@dataclass(frozen=True, kw_only=True)
class Application(Generic[S, P, O]):
    """An application: what it reads, what it gives, its data, its models and its baselines.

    S are the settings of training, P the options of `predict`, O those of `stream`: dataclasses
    whose fields --set changes.
    """

    name: str
    summary: str
    reads: str
    """What data look like, in words."""
    in_memory: InMemory | None = None
    """The data in memory that Python programs may give instead of a path."""
    default_dataset: str
    datasets: tuple[NamedDataset, ...]
    """Named public datasets made for it."""
    metric: Metric
    selection_metric: str = ""
    """The validation metric that selects the best epoch, lower is better; by default `metric`."""
    baselines: tuple[str, ...]
    """What a model is compared with, in words."""
    training: TrainSettings = field(default_factory=TrainSettings)
    minutes: float | None = None
    steps: int | None = None
    """Default number of updates within `minutes`, or duration without it; neither: by epochs."""
    search_space: SearchSpace | None = None
    """What `tune` searches; None: as `search_space.default_space` says."""
    settings: type[S]
    predict_options: type[P]
    stream_options: type[O]
    models: Mapping[str, type[Model[Any]]]
    """Kind in a model file -> class."""
    codecs: Mapping[str, type[Codec]]
    """Kind in a model file -> class."""

    prepare: Callable[[str | None, S], AnyDataset]
    """(path or dataset name, or None for the default; settings) -> Dataset"""
    reopen: Callable[[str | None, AnyModelFile], AnyDataset]
    """(other data, or None for the model's own; model file) -> Dataset to evaluate on"""
    predict: Callable[[AnyModelFile, str | None, P], Record]
    """(model file, input, options) -> Record"""
    predict_data: tuple[str, ...] = ()
    """Options of `predict` that name a file of what the application is trained on."""
    predict_reads: Literal["file", "text"] = "text"
    """Whether the input names a file, or is a text (or a text file, or - for stdin)."""
    render: Callable[[Record], str]
    """A prediction as text for people."""
    session: Callable[[AnyModelFile, str, O], Session] | None
    """(model file, precision, options) -> Session; None: the model needs its whole input."""
    remote_session: Callable[[AnyModelFile, str, O], Session] | None = None
    """`session` for the clients of a server, where `session` reads files of this machine."""
    stream_reads: Literal["lines", "bytes"] = "lines"
    session_columns: Callable[[AnyModelFile], Sequence[str]] | None = None
    """The columns of the rows that a session reads; None: it reads no rows."""
    check_frame: Callable[[pl.DataFrame, S], None] | None = None
    """Raises `UserError` for a data frame in memory that is not meant to be trained on."""
    columns: Callable[[AnyModelFile, Record], Mapping[str, Sequence[object]]] | None = None
    """A prediction as the columns of a data frame; None: it is no table."""
    figures: Mapping[str, Callable[[AnyModelFile, Record], str | bytes]] = field(
        default_factory=dict
    )
    """File suffix -> what `predict --out` writes."""
    render_details: Callable[[Record], Sequence[str]] = field(default=lambda result: ())
    """The details of an evaluation (see `Dataset.details`) as blocks of text for people."""
    picture: Callable[[Any, Any, Record], Picture | None] | None = None
    """(dataset, trained model, result) -> main picture; None: a table of the result, if any"""
    report: Callable[[AnyModelFile, str | None, Record], str] | None = None
    """(model file, data, result of the evaluation) -> HTML page; None: the general one."""
    inspect: Callable[[AnyModelFile, str | None], Inspection]
    """(model file, input or None for the model's own data) -> Inspection"""
    inspect_reads: Literal["file", "text"] | None = None
    """As `predict_reads`, for `inspect`; None: the same."""
    exporters: Mapping[str, Exporter] = field(default_factory=dict)
    """Format -> Exporter."""
    walk_forward: WalkForward[S] | None = None
    """For `backtest`; None: the data have no time axis."""
