"""adopt: run the recurrent layers of any PyTorch model on memorycell."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor, nn

from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

MEMORYCELL_LAYERS: dict[type[nn.RNNBase], type[Recurrent]] = {
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNN: RNN,
}


@dataclass(frozen=True)
class Adoption:
    """The report of `adopt` or `release`, by module name ("" is the model itself).

    adopted   name -> the module's new class
    skipped   name -> why a recurrent layer was not changed
    """

    adopted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or 'the model'}: now {kind}" for name, kind in self.adopted.items()]
        lines += [
            f"{name or 'the model'}: not changed, {reason}" for name, reason in self.skipped.items()
        ]
        return "\n".join(lines) or "no recurrent layer found"


def adopt(model: nn.Module) -> Adoption:
    """Turn every torch.nn.LSTM, GRU and RNN in `model` into memorycell's, in place.

    A layer remains the same object with its parameters, hooks and attributes; only its class
    becomes `memorycell.LSTM`, `GRU` or `RNN`. Optimisers, references and checkpoints keep working.
    Subclasses, layers with computed parameters (parametrised, pruned, weight-normed) and scripted
    or quantised layers are not changed.
    """
    report = Adoption()
    for name, module in model.named_modules():
        if not isinstance(module, nn.RNNBase) or isinstance(module, Recurrent):
            continue
        reason = skip_reason(module)
        if reason is not None:
            report.skipped[name] = reason
            continue
        _change_class(module)
        report.adopted[name] = f"memorycell.{type(module).__name__}"
    return report


def view(layer: nn.RNNBase) -> Recurrent:
    """A memorycell layer that shares the parameters of a torch layer, which is not changed. Raises
    ValueError if `skip_reason` gives one.
    """
    if isinstance(layer, Recurrent):
        return layer
    reason = skip_reason(layer)
    if reason is not None:
        raise ValueError(f"this layer cannot run on memorycell: {reason}")
    shared = copy.copy(layer)
    _change_class(shared)
    assert isinstance(shared, Recurrent)
    return shared


def skip_reason(layer: nn.RNNBase) -> str | None:
    """Why a torch layer cannot become a memorycell layer; None if it can."""
    if type(layer) not in MEMORYCELL_LAYERS:
        return (
            f"a {type(layer).__name__}, not exactly torch.nn.LSTM, GRU or RNN, may compute"
            " something different"
        )
    if "forward" in vars(layer):
        return "its forward was replaced"
    expected = set(layer._flat_weights_names)
    different = sorted(expected ^ set(layer._parameters))
    if different:
        return (
            f"its parameters are not those of torch.nn.{type(layer).__name__}:"
            f" {', '.join(different)}"
        )
    missing = [name for name in sorted(expected) if not isinstance(layer._parameters[name], Tensor)]
    return f"it has no {', '.join(missing)}" if missing else None


def _change_class(layer: nn.RNNBase) -> None:
    kind = MEMORYCELL_LAYERS[type(layer)]
    layer.__class__ = kind
    layer.__dict__["cell"] = "rnn_relu" if layer.mode == "RNN_RELU" else kind.cells[0]


def release(model: nn.Module) -> Adoption:
    """The inverse of `adopt`: turn plain memorycell layers in `model` into torch.nn's, in place.

    For tools that require those exact classes, such as `torch.ao.quantization.quantize_dynamic`.
    Layers without an equivalent in torch.nn are not changed; the report gives the reason.
    """
    report = Adoption()
    torch_layers = {ours: torchs for torchs, ours in MEMORYCELL_LAYERS.items()}
    for name, module in model.named_modules():
        if isinstance(module, Recurrent) and type(module) in torch_layers:
            if module.is_plain():
                kind = torch_layers[type(module)]
                object.__setattr__(module, "__class__", kind)
                report.adopted[name] = f"torch.nn.{kind.__name__}"
            else:
                report.skipped[name] = (
                    "torch.nn has no layer with its cell, zoneout, weight drop or variational"
                    " dropout"
                )
    return report
