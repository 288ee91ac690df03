"""One step of one or many sessions on the native engine: weights packed once, nothing allocated
after that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memorycell.cells import CELLS, Params
from memorycell.ops import binding, native
from memorycell.ops.call import Call
from memorycell.state import Layout

THREAD_WORK = 4_000_000
"""Multiplications a call must bring for each thread it is split over."""

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 6e-2}
"""How far an output may lie from the reference in float32, relative to values over one: hidden
states are at most one.
"""


def unsupported_reason(cell: str, layers: Sequence[Params]) -> str | None:
    """Why the engine cannot step these layers, or None."""
    weight = layers[0]["weight_hh"]
    if "weight_hr" in layers[0]:
        return "the native engine steps no projection (proj_size)"
    return native.unsupported_reason(
        Call(cell), device=weight.device.type, dtype=weight.dtype, projected=False
    )


class StackStep:
    """Recurrent layers above each other, in one direction.

    layers      their parameters, as for `memorycell.ops.recurrence`; copied: later changes of the
                weights are not seen
    precision   of the products: "float32", "bfloat16", or "int8" (weights with a scale a row,
                inputs and h with a scale a step); sums, gates and states are float32
    zoneout     expectation of what is kept, as while evaluating
    further     floats that a session's row has beyond h and c, for somebody else

    A session's state is a row of float32 values: h of every layer, then c of every layer, see
    `layout`.

    Raises ValueError where the native engine cannot run the cell.
    """

    def __init__(
        self,
        cell: str,
        layers: Sequence[Params],
        *,
        precision: str = "float32",
        zoneout: tuple[float, float] = (0.0, 0.0),
        further: int = 0,
    ) -> None:
        reason = unsupported_reason(cell, layers)
        if reason:
            raise ValueError(f"step: {reason}")
        if precision not in binding.PRECISIONS:
            raise ValueError(
                f"precision: expected one of {', '.join(binding.PRECISIONS)}, got {precision!r}"
            )
        self.input_size = layers[0]["weight_ih"].shape[1]
        self.hidden_size = layers[0]["weight_hh"].shape[1]
        self.layout = Layout({name: (len(layers), self.hidden_size) for name in CELLS[cell].state})
        self.bytes_read = 0
        """Bytes of weights that one step reads."""
        self._kept: list[object] = []  # the engine holds their addresses
        ready = [
            self._layer(cell, params, k, precision, zoneout) for k, params in enumerate(layers)
        ]
        self._stack = binding.engine.Stack(ready, self.layout.width + further)
        self.walk = self._stack.walk
        """walk(ring [R, width], row, x [T, I], y [T, H]) -> row: steps one session T times. Every
        step leaves the row before it as it was and writes the next one of the ring, unless there is
        but one. Float32, contiguous.
        """
        self._work = sum(p["weight_ih"].numel() + p["weight_hh"].numel() for p in layers)

    def _layer(
        self, cell: str, params: Params, place: int, precision: str, zoneout: tuple[float, float]
    ) -> object:
        weight_ih, weight_hh = (params[n].detach().contiguous() for n in ("weight_ih", "weight_hh"))
        if not bool(weight_ih.isfinite().all() and weight_hh.isfinite().all()):
            raise ValueError("weights: expected finite values, got NaN or infinity")
        zero = torch.zeros(len(weight_ih))
        bias_ih, bias_hh = (params[n].detach() + zero for n in ("bias_ih", "bias_hh"))
        bias = bias_ih if cell in ("gru", "layernorm") else bias_ih + bias_hh
        extras = {**{n: params[n].detach().clone() for n in CELLS[cell].extra}, "bias_hh": bias_hh}
        gain_ih = extras.get("gain_ih")
        packed = [binding.packed(w, precision) for w in (weight_ih, weight_hh)]
        self._kept += [bias, extras]
        self.bytes_read += sum(p.bytes for p in packed)
        h_at, c_at = (
            self.layout.at[name].start + place * self.hidden_size if name in self.layout.at else -1
            for name in "hc"
        )
        return binding.engine.Layer(
            binding.CELL_NUMBERS[cell],
            *packed,
            binding.addresses(extras.get(n) for n in binding.EXTRAS),
            bias.data_ptr(),
            0 if gain_ih is None else gain_ih.data_ptr(),
            *zoneout,
            h_at,
            c_at,
        )

    def many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Step the sessions in `rows` [n] int64 of a block [capacity, width], each at most once: x
        [n, I] -> y [n, H].

        A session's bits do not depend on which others are stepped with it. Raises ValueError for a
        row out of range or named twice, and has then changed nothing.
        """
        y = np.empty((len(rows), self.hidden_size), np.float32)
        threads = max(1, min(torch.get_num_threads(), len(rows) * self._work // THREAD_WORK))
        self._stack.many(block, rows, x, y, threads)
        return y


class LinearStep:
    """y = W x + b of rows, on the engine in float32: a row's bits do not depend on the others."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = binding.packed(weight, "float32")
        self._bias = bias.detach().numpy().copy()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[n, K] float32, contiguous -> [n, N]."""
        y = np.empty((len(x), len(self._bias)), np.float32)
        self._weight.times(x, self._bias, y)
        return y
