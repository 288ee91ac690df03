"""Models and sessions as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from torch import nn

from memorycell.errors import UserError
from memorycell.inspection.trace import recurrent_layers
from memorycell.ops import binding
from memorycell.server.gates import conv_layers, has_gates
from memorycell.server.served import ServedModel
from memorycell.server.sessions import ItemSession, LiveSession, TensorSession

if TYPE_CHECKING:
    from memorycell.face.trained import Trained

MAX_SHAPES = 1000
MAX_VALUE_BYTES = 2000


def model_summary(served: ServedModel, progress: dict[str, Any] | None = None) -> dict[str, Any]:
    """A line in the list of models."""
    native = served.native and served.module is not None
    module = served.trained.model if served.trained is not None else served.module
    layers = [] if module is None else layer_list(module)
    return {
        "name": served.name,
        "version": served.version,
        "task": served.task,
        "status": "ready",
        "progress": progress,
        "problem": served.problem,
        "summary": served.summary,
        "reads": served.reads,
        "stream_reads": served.stream_reads,
        "live": served.live,
        "items": served.open_item is not None,
        "tensors": served.module is not None,
        "watch": module is not None and has_gates(module),
        "precisions": list(binding.PRECISIONS) if native else ["float32"],
        "input_size": served.input_size if served.module is not None else None,
        "output_shape": list(served.output_shape) if served.module is not None else None,
        "sessions": served.sessions,
        "fingerprint": served.fingerprint,
        "columns": served.about.get("columns"),
        "example": served.about.get("example"),
        **({} if not layers else {k: layers[0][k] for k in ("cell", "hidden_size", "num_layers")}),
        **({"not_live": served.about["not_live"]} if "not_live" in served.about else {}),
    }


def model_description(served: ServedModel) -> dict[str, Any]:
    """Everything that is known of a model."""
    summary = model_summary(served)
    if served.trained is not None:
        return {**summary, **trained_description(served.trained)}
    if served.module is not None:
        return {**summary, "architecture": architecture(served.module, served.task, {})}
    return {**summary, served.name: served.about}


def trained_description(trained: Trained) -> dict[str, Any]:
    """What a model file says of itself."""
    return {
        "architecture": architecture(
            trained.model, trained.model.kind, trained.model.config.to_json()
        ),
        "codec": trained.codec.kind,
        "codec_values": small_values(trained.codec.to_json()),
        "sample_rate_hz": trained.codec.to_json().get("rate_hz"),  # of sound; None: another input
        "metrics": trained.metrics,
        "baselines": trained.baselines,
        "skill": trained.skill,
        "primary": trained.primary,
        "higher_is_better": trained.higher_is_better,
        "history": trained.history,
        "settings": trained.settings,
        "notes": trained.notes,
        "data": trained.data,
        "exports": export_formats(trained),
    }


def small_values(values: dict[str, Any]) -> dict[str, Any]:
    """The members that are short as JSON: sizes, names and bounds, not vocabularies."""
    short = {}
    for name, value in values.items():
        try:
            if len(orjson.dumps(value)) <= MAX_VALUE_BYTES:
                short[name] = value
        except TypeError:  # not JSON, such as an array
            continue
    return short


def export_formats(trained: Trained) -> dict[str, str | None]:
    """Format -> None where the model can be exported to it, else why not."""
    formats: dict[str, str | None] = {}
    for name, exporter in trained.application.exporters.items():
        try:
            exporter.check(trained)
            formats[name] = None
        except (UserError, ImportError) as error:
            formats[name] = str(error)
    return formats


def architecture(module: nn.Module, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Layers, parameters and shapes."""
    shapes = {name: list(p.shape) for name, p in module.named_parameters()}
    return {
        "kind": kind,
        "config": config,
        "layers": layer_list(module),
        "parameters": sum(p.numel() for p in module.parameters()),
        "shapes": dict(list(shapes.items())[:MAX_SHAPES]),
    }


def layer_list(module: nn.Module) -> list[dict[str, Any]]:
    """The recurrent layers of a module, convolutional ones included."""
    return [
        {
            "name": name,
            "cell": getattr(layer, "cell", type(layer).__name__.lower()),
            "input_size": layer.input_size,
            "hidden_size": layer.hidden_size,
            "num_layers": layer.num_layers,
            "bidirectional": bool(getattr(layer, "bidirectional", False)),
        }
        for name, layer in {**recurrent_layers(module), **conv_layers(module)}.items()
    ]


def session_description(session: LiveSession, now: float) -> dict[str, Any]:
    """A session; `now` is `time.monotonic()`."""
    assert isinstance(session, (TensorSession, ItemSession))
    width = 4 * session.lane.pool.width if isinstance(session, TensorSession) else None
    return {
        "id": session.id,
        "model": session.served.name,
        "version": session.served.version,
        "task": session.served.task,
        "input": session.options.input,
        "precision": session.precision,
        "durable": session.options.durable,
        "steps": session.steps,
        "history": session.rewindable,
        "ttl_s": session.ttl_s,
        "idle_s": round(max(0.0, now - session.used), 3),
        "resident": True,
        "bytes": width,
        "attached": session.socket is not None,
    }
