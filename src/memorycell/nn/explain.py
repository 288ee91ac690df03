"""explain: which backend runs a layer, and why."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from memorycell import ops
from memorycell.nn.layers import Recurrent
from memorycell.ops.call import Call


class Explanation(NamedTuple):
    """The backend that runs a layer, and the reason."""

    backend: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


def explain(
    layer: Recurrent,
    x: Tensor | None = None,
    *,
    lengths: bool = False,
    reset: bool = False,
    trace: bool = False,
) -> Explanation:
    """Which backend runs `layer(x)` with these options, and why."""
    call = Call(layer.cell, zoneout=layer.zoneout, training=layer.training, trace=trace)
    options: dict[str, Any] = {
        "dtype": layer.weight_ih_l0.dtype,
        "projected": layer.proj_size > 0,
    }
    if x is not None:
        time = 1 if layer.batch_first and x.ndim == 3 else 0
        options |= {"steps": x.shape[time], "device": x.device.type, "hidden": layer.hidden_size}
        options |= {"batch": x.shape[1 - time]} if x.ndim == 3 else {}
    choice = ops.choose(call, lengths=lengths, reset=reset, **options)
    return Explanation(choice.backend, choice.reason or ops.native_reason(call))
