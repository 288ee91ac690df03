"""What every model has in common: configuration, recurrent layers, loss and steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import CELLS
from memorycell.models.batches import Batch, rows_of, take_rows
from memorycell.models.exporting import CHead, OnnxHead
from memorycell.nn.layers import Recurrent, of_cell
from memorycell.ops.step import unsupported_reason
from memorycell.state import State
from memorycell.streaming.stepping import ForwardStepper, LayerStepper, Stepper, layer_params

B = TypeVar("B", bound=Batch)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The configuration of a model, from which it is built; here that of its recurrent layers, see
    `Recurrent`.

    dropout   of the head's input, and between the recurrent layers
    """

    hidden_size: int
    cell: str = "lstm"
    num_layers: int = 1
    dropout: float = 0.0
    forget_bias: float | None = 1.0
    recurrent_init: str = "uniform"
    zoneout: float = 0.0
    weight_drop: float = 0.0
    variational_dropout: float = 0.0

    counts: ClassVar[tuple[str, ...]] = ("hidden_size", "num_layers")
    """The fields that are positive integers."""
    probabilities: ClassVar[tuple[str, ...]] = (
        "dropout",
        "zoneout",
        "weight_drop",
        "variational_dropout",
    )

    def __post_init__(self) -> None:
        for name in self.counts:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
                raise ValueError(f"{name}: expected a whole number of 1 or more, got {value!r}")
        for name in self.probabilities:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ValueError(f"{name}: expected a probability below 1, got {value!r}")
        if self.cell not in CELLS:
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {self.cell!r}")

    def to_json(self) -> dict[str, Any]:
        """The values that a model file stores."""
        return asdict(self)

    def stack(self, input_size: int, **options: Any) -> Recurrent:
        """The recurrent layers, batch first."""
        if "f" in CELLS[self.cell].blocks:
            options["forget_bias"] = self.forget_bias
        return of_cell(
            self.cell,
            input_size,
            options.pop("hidden_size", self.hidden_size),
            options.pop("num_layers", self.num_layers),
            batch_first=True,
            dropout=self.dropout if self.num_layers > 1 else 0.0,
            recurrent_init=self.recurrent_init,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
            variational_dropout=self.variational_dropout,
            **options,
        )


class Model(nn.Module, Generic[B]):
    """What training, model files and streams ask of a model; B is its kind of batch."""

    kind: ClassVar[str]
    """Its name in a model file."""
    config_class: ClassVar[type[ModelConfig]]
    gives_log_p: ClassVar[bool] = False
    """Whether the outputs are log-probabilities of classes: `prove` compares those of lower
    precisions as probabilities, since a logarithm enlarges the rounding of unlikely classes.
    """

    config: ModelConfig

    def loss(self, batch: B, state: State | None) -> tuple[Tensor, State | None]:
        """The training loss of a batch, and the state after it where one is carried."""
        raise NotImplementedError

    def loss_count(self, batch: B) -> float:
        """What `loss` is the mean over, by which the losses of parts of a batch are weighted: its
        sequences, unless a model says otherwise.
        """
        return rows_of(batch)

    def part(self, batch: B, rows: slice) -> tuple[B, float]:
        """(some sequences of a batch, the weight of their loss): the weighted losses of parts that
        make up the batch sum to its loss, and so do their gradients.
        """
        taken = take_rows(batch, rows)
        return taken, self.loss_count(taken) / max(self.loss_count(batch), 1)

    def unsupported_reason(self) -> str | None:
        """Why the native engine cannot step it, so that only float32 is available; None where it
        can.
        """
        return f"a {self.kind} model runs in float32 through PyTorch"

    def stepper(self, precision: str = "float32") -> Stepper:
        """Runs the model step by step; see `memorycell.streaming.stepping`.

        Raises ValueError where the model has no steps, or not in this precision.
        """
        raise ValueError(f"stream: a {self.kind} model needs its whole input and has no steps")

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Inputs for `prove`, float32: standard normal, or such as the model reads."""
        return rng.normal(size=shape).astype(np.float32)

    def comparison_model(self) -> Model[Any]:
        """The model whose outputs `prove` compares within a tolerance: this one, or one with the
        same state that returns the parameters of the output distribution, where rounding or heavy
        tails make the outputs themselves incomparable.
        """
        return self

    def exported(self) -> Model[Any]:
        """The model that is exported: this one, or one of a single recurrent stack that gives the
        same outputs.
        """
        return self

    def onnx_head(self) -> OnnxHead | str:
        """How the model's input and output are written to ONNX; or why it cannot be exported."""
        return f"not for a {self.kind} model yet"

    def c_head(self) -> CHead | str:
        """How the model's output is written in C99; or why it cannot be exported."""
        return f"not for a {self.kind} model yet"


def exported(module: M) -> M:
    """What is exported of a layer or a model, see `Model.exported`."""
    return cast(M, module.exported()) if isinstance(module, Model) else module


class SteppedModel(Model[B]):
    """A model whose recurrent layers the native engine can step; its head is in float32 at every
    precision.
    """

    recurrent: Recurrent

    @property
    def step_size(self) -> int:
        """Size of the input of a step."""
        return int(self.config.input_size)  # type: ignore[attr-defined]

    def unsupported_reason(self) -> str | None:
        """See `Model`."""
        return unsupported_reason(self.config.cell, layer_params(self.recurrent))

    def stepper(self, precision: str = "float32") -> Stepper:
        """See `Model`: on the native engine, or through the model's own forward where the engine
        does not support it.
        """
        reason = self.unsupported_reason()
        if reason is None:
            return self.native_stepper(precision)
        if precision != "float32":
            raise ValueError(f"stream: precision={precision!r} needs the native engine; {reason}")
        return ForwardStepper(self, self.step_size)

    def native_stepper(self, precision: str) -> Stepper:
        """Steps the model on the native engine."""
        raise NotImplementedError


class ScoredStepper:
    """Recurrent layers on the native engine with a head: y = log softmax(score(h)) per step."""

    def __init__(
        self,
        recurrent: Recurrent,
        precision: str,
        score: Callable[[np.ndarray], np.ndarray],
        extra_width: int = 0,
    ) -> None:
        self.precision = precision
        self._layers = LayerStepper(recurrent, precision, extra_width)
        self.layout, self.input_size = self._layers.layout, self._layers.input_size
        self._score = score

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        hidden, row = self._layers.step_one(ring, row, self.inputs(x))
        return self._head(hidden), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        return self._head(self._layers.step_many(block, rows, self.inputs(x)))

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The input of the recurrent layers for x [..., I]."""
        return x

    def _head(self, hidden: np.ndarray) -> np.ndarray:
        return log_softmax(self._score(hidden.reshape(-1, hidden.shape[-1]))).reshape(
            *hidden.shape[:-1], -1
        )


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities of scores [..., V], computed in place."""
    scores -= scores.max(-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
    return scores


def carried(
    recurrent: Recurrent, x: Tensor, state: State, **options: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run recurrent layers from a `State` that may hold more than theirs.

    Returns the output, and their state afterwards by name.
    """
    names = CELLS[recurrent.cell].state
    output, final = recurrent(x, State(**{name: getattr(state, name) for name in names}), **options)
    return output, final.asdict()


def windows(x: Tensor, past: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """At every step, x of the last W steps; and the past for the steps that follow.

    x [B, T, K], past [W - 1, B, K], reset [B, T] bool -> (windows [B, T, W, K], oldest first and
    zero before a reset; past)
    """
    before = len(past)
    sequence = torch.cat([past.transpose(0, 1), x], 1)
    windowed = sequence.unfold(1, before + 1, 1).transpose(-1, -2)
    last = sequence[:, sequence.shape[1] - before :]
    if reset is not None and bool(reset.any()):
        segment = reset.cumsum(1)
        segments = torch.cat([segment.new_zeros(x.shape[0], before), segment], 1)
        windowed = windowed * (segments.unfold(1, before + 1, 1) == segment[..., None])[..., None]
        last = last * (segments[:, segments.shape[1] - before :] == segment[:, -1:])[..., None]
    return windowed, last.transpose(0, 1)
