"""adopt: run the recurrent layers of anybody's PyTorch model on memorycell."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from torch import Tensor, nn

from memorycell.nn.layers import GRU, LSTM, RNN, Recurrent

OURS: dict[type[nn.RNNBase], type[Recurrent]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}


@dataclass(frozen=True)
class Adoption:
    """What `adopt` or `release` did, by the names of the modules ("" is the model itself).

    adopted   name -> the class it has now
    skipped   name -> why a recurrent layer was left as it was
    """

    adopted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or 'the model'}: now {kind}" for name, kind in self.adopted.items()]
        lines += [
            f"{name or 'the model'}: left alone, {reason}" for name, reason in self.skipped.items()
        ]
        return "\n".join(lines) or "no recurrent layer found"


def adopt(model: nn.Module) -> Adoption:
    """Make every torch.nn.LSTM, GRU and RNN in `model` one of ours, in place, and report which.

    A layer stays the same object: its parameters, hooks, attributes and places in the model are
    untouched, only its class becomes `memorycell.LSTM`, `GRU` or `RNN`. Optimisers, references and
    checkpoints keep working. Subclasses, layers whose parameters are computed (parametrised,
    pruned, weight-normed) and scripted or quantised ones are left alone.
    """
    report = Adoption()
    for name, module in model.named_modules():
        if not isinstance(module, nn.RNNBase) or isinstance(module, Recurrent):
            continue
        reason = skip_reason(module)
        if reason is not None:
            report.skipped[name] = reason
            continue
        _become_ours(module)
        report.adopted[name] = f"memorycell.{type(module).__name__}"
    return report


def view(layer: nn.RNNBase) -> Recurrent:
    """A layer of ours over the very parameters of one of torch's, which stays as it is. Raises
    ValueError.
    """
    if isinstance(layer, Recurrent):
        return layer
    reason = skip_reason(layer)
    if reason is not None:
        raise ValueError(f"this layer cannot run as one of memorycell's: {reason}")
    ours = copy.copy(layer)
    _become_ours(ours)
    assert isinstance(ours, Recurrent)
    return ours


def skip_reason(layer: nn.RNNBase) -> str | None:
    """Why a layer of torch's cannot become one of ours; None where it can."""
    if type(layer) not in OURS:
        return (
            f"a {type(layer).__name__}, not exactly torch.nn.LSTM, GRU or RNN, may compute"
            " something else"
        )
    if "forward" in vars(layer):
        return "its forward was replaced"
    expected = set(layer._flat_weights_names)
    odd = sorted(expected ^ set(layer._parameters))
    if odd:
        return f"its parameters are not those of torch.nn.{type(layer).__name__}: {', '.join(odd)}"
    missing = [name for name in sorted(expected) if not isinstance(layer._parameters[name], Tensor)]
    return f"it has no {', '.join(missing)}" if missing else None


def _become_ours(layer: nn.RNNBase) -> None:
    kind = OURS[type(layer)]
    layer.__class__ = kind
    layer.__dict__["cell"] = "rnn_relu" if layer.mode == "RNN_RELU" else kind.cells[0]


def release(model: nn.Module) -> Adoption:
    """The inverse of `adopt`: make every plain layer of ours in `model` a torch.nn.LSTM, GRU or RNN
    again, in place.

    For tools that look for those exact classes, such as `torch.ao.quantization.quantize_dynamic`.
    Layers that torch.nn has no class for are left, with the reason.
    """
    report = Adoption()
    theirs = {ours: torchs for torchs, ours in OURS.items()}
    for name, module in model.named_modules():
        if isinstance(module, Recurrent) and type(module) in theirs:
            if module.is_plain():
                kind = theirs[type(module)]
                object.__setattr__(module, "__class__", kind)
                report.adopted[name] = f"torch.nn.{kind.__name__}"
            else:
                report.skipped[name] = (
                    "torch.nn has no layer with its cell, zoneout, weight drop or variational"
                    " dropout"
                )
    return report
