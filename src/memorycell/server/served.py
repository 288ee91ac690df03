"""One version of a served model: what it can do, and the lanes in which its sessions run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import nn

from memorycell.application.contract import Forkable, Session
from memorycell.application.live import open_session
from memorycell.errors import UserError, counted
from memorycell.face.options import check_precision, typed_options
from memorycell.ops.step import unsupported_reason
from memorycell.server.problems import Problem
from memorycell.state import fingerprint
from memorycell.streaming.stepping import ForwardStepper, Stepper, layer_params, stepper

if TYPE_CHECKING:
    from memorycell.face.trained import Trained
    from memorycell.nn.layers import Recurrent
    from memorycell.server.item_lane import ItemLane
    from memorycell.server.tensor_lane import TensorLane

Reads = Literal["lines", "bytes", "tensors", "words"]
MAX_PROTOTYPES = 16
"""Sessions from which new ones are forked: one per precision and options."""


@dataclass(eq=False)
class ServedModel:
    """Made by `served_file`, `served_module` and `served_entry`.

    trained       a model file; None for layers and entries
    module        what tensor sessions step; None where the model has no steps
    open_item     (precision, options) -> Session; None: only tensors
    about         further members of its description
    sessions      open ones in this process
    native        whether its steps run on the engine, not on PyTorch
    """

    name: str
    version: int
    task: str
    summary: str
    reads: str
    stream_reads: Reads
    trained: Trained | None = None
    module: nn.Module | None = None
    open_item: Callable[[str, dict[str, Any]], Session] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    input_size: int = 0
    output_shape: tuple[int, ...] = ()
    native: bool = True
    sessions: int = 0
    architecture: str = ""
    problem: str | None = None
    """Why a newer file was not loaded."""
    lanes: dict[str, ItemLane] = field(default_factory=dict)
    tensor_lanes: dict[str, TensorLane] = field(default_factory=dict)
    _prototypes: dict[str, Session] = field(default_factory=dict)
    _fingerprint: str = ""

    @property
    def output_size(self) -> int:
        """Numbers per output."""
        return int(np.prod(self.output_shape))

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return self._fingerprint

    def fingerprint_of(self, precision: str) -> str:
        """Of the weights and the precision."""
        return self._fingerprint + ("" if precision == "float32" else f" in {precision}")

    @property
    def live(self) -> bool:
        """Whether it has sessions."""
        return self.open_item is not None or self.module is not None

    def has_prototype(self, precision: str, options: dict[str, Any]) -> bool:
        """Whether `new_session` is quick."""
        return _key(precision, options) in self._prototypes

    def new_session(self, precision: str, options: dict[str, Any]) -> Session:
        """A new session of items, with weights that are packed once. Raises `UserError`."""
        if self.open_item is None:
            raise Problem("bad-request", f"{self.name} reads tensors: open with input=tensors")
        key = _key(precision, options)
        prototype = self._prototypes.get(key)
        if prototype is None:
            check_precision(precision)
            prototype = self.open_item(precision, options)
            if not isinstance(prototype, Forkable):
                return prototype
            if len(self._prototypes) < MAX_PROTOTYPES:
                self._prototypes[key] = prototype
        assert isinstance(prototype, Forkable)
        return prototype.fork()


def served_file(name: str, version: int, trained: Trained, path: Path | None) -> ServedModel:
    """A model file."""
    application = trained.application
    served = ServedModel(
        name,
        version,
        trained.task,
        application.summary,
        application.reads,
        application.stream_reads,
        trained=trained,
        path=path,
    )
    served._fingerprint = fingerprint(trained.model)
    if application.session_columns is not None:
        served.about["columns"] = list(application.session_columns(trained))
    if application.session is not None:

        def open_item(precision: str, options: dict[str, Any]) -> Session:
            check_precision(precision)
            given = typed_options(application.stream_options, options, application.name)
            return open_session(trained, precision, given, remote=True)

        try:
            open_item("float32", {})
            served.open_item = open_item
        except UserError as error:  # such as a bidirectional model
            served.about["not_live"] = str(error)
    else:
        served.about["not_live"] = "the model needs its complete input: POST predict"
    _note_steps(served, trained.model)
    config, codec = trained.model.config.to_json(), trained.codec.to_json()
    served.architecture = json.dumps(
        [trained.model.kind, config, trained.codec.kind, codec, _shapes(trained.model)],
        sort_keys=True,
        default=str,
    )
    return served


def served_module(name: str, version: int, module: Recurrent, path: Path | None) -> ServedModel:
    """Recurrent layers without an application."""
    layers = counted(module.num_layers, "layers")
    served = ServedModel(
        name,
        version,
        "tensors",
        f"{layers} of {module.cell}, {module.input_size} inputs, {module.hidden_size} units",
        f"lists of {module.input_size} numbers",
        "tensors",
        path=path,
    )
    served._fingerprint = fingerprint(module)
    _note_steps(served, module)
    if served.module is None:
        raise UserError(f"{path}: {served.about.get('not_live', 'has no steps')}")
    served.native = unsupported_reason(module.cell, layer_params(module)) is None
    served.architecture = json.dumps([module.cell, _shapes(module)])
    return served


def served_entry(
    name: str,
    task: str,
    open_session: Callable[[str, Any], Session],
    about: dict[str, Any],
    reads: Reads = "words",
) -> ServedModel:
    """Something that has sessions and is no model file."""
    served = ServedModel(
        name,
        1,
        task,
        str(about.get("summary", "")),
        str(about.get("reads", "")),
        reads,
        open_item=lambda precision, options: open_session(precision, options or None),
        about=about,
    )
    served._fingerprint = served.architecture = task
    return served


def _key(precision: str, options: dict[str, Any]) -> str:
    return f"{precision} {json.dumps(options, sort_keys=True, default=str)}"


def _note_steps(served: ServedModel, module: nn.Module) -> None:
    """Set what tensor sessions need, where the model has steps."""
    try:
        steps: Stepper = stepper(module)
    except (ValueError, TypeError) as error:
        served.about.setdefault("not_live", str(error))
        return
    ring = np.zeros((1, steps.layout.width), np.float32)
    y, _ = steps.step_one(ring, 0, np.zeros(steps.input_size, np.float32))
    served.module, served.input_size = module, steps.input_size
    served.output_shape, served.native = y.shape, not isinstance(steps, ForwardStepper)


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items()}
