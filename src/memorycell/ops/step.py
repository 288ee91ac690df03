"""Steps of one or many sessions on the native engine: weights are packed once, then nothing is
allocated.
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

MIN_WORK_PER_THREAD = 4_000_000
"""Multiplications in a call that justify another thread."""

TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 6e-2}
"""Largest difference of an output from the float32 reference: absolute up to values of one, the
bound of hidden states, and relative above.
"""


def unsupported_reason(cell: str, layers: Sequence[Params]) -> str | None:
    """Why the engine cannot step these layers, or None."""
    weight = layers[0]["weight_ih"]
    if "weight_hr" in layers[0]:
        return "the native engine has no step with a projection (proj_size)"
    return native.unsupported_reason(
        Call(cell), device=weight.device.type, dtype=weight.dtype, projected=False
    )


class StackStep:
    """Stacked recurrent layers, in one direction.

    layers        their parameters, as for `memorycell.ops.recurrence`; copied: later changes of the
                  weights have no effect
    precision     of the products: "float32", "bfloat16", or "int8" (weights with one scale per row,
                  inputs and h with one scale per step); sums, gates and states are float32
    zoneout       its expectation, as in evaluation mode
    extra_width   float32 values in a session's row after h and c, for the caller

    A session's state is a row of float32 values: h of every layer, then c of every layer; see
    `layout`.

    Raises ValueError if the native engine cannot run the cell.
    """

    def __init__(
        self,
        cell: str,
        layers: Sequence[Params],
        *,
        precision: str = "float32",
        zoneout: tuple[float, float] = (0.0, 0.0),
        extra_width: int = 0,
    ) -> None:
        reason = unsupported_reason(cell, layers)
        if reason:
            raise ValueError(f"step: {reason}")
        if precision not in binding.PRECISIONS:
            raise ValueError(
                f"precision: expected one of {', '.join(binding.PRECISIONS)}, got {precision!r}"
            )
        self.input_size = layers[0]["weight_ih"].shape[1]
        self.hidden_size = len(layers[0]["weight_ih"]) // len(CELLS[cell].blocks)
        self.layout = Layout({name: (len(layers), self.hidden_size) for name in CELLS[cell].state})
        self.bytes_read = 0
        """Bytes of weights that one step reads."""
        self._references: list[object] = []  # the engine holds their addresses
        stack = [
            self._layer(cell, params, k, precision, zoneout) for k, params in enumerate(layers)
        ]
        self._stack = binding.engine.Stack(stack, self.layout.width + extra_width)
        self.step_one = self._stack.walk
        """step_one(ring [R, width], row, x [T, I], y [T, H]) -> row: step one session T times. Each
        step reads a row of the ring and writes the next, or the same one if there is only one.
        Float32, contiguous.
        """
        self.step_finite = self._stack.walk_finite
        """The same, or -1 - t for the first step t whose input or new state is NaN or infinite. The
        state in `row` is then unchanged, and so are the other rows if it is an input.
        """
        self._work = sum(
            p[name].numel() for p in layers for name in ("weight_ih", "weight_hh") if name in p
        )

    def _layer(
        self, cell: str, params: Params, index: int, precision: str, zoneout: tuple[float, float]
    ) -> object:
        names = ("weight_ih", "weight_hh") if CELLS[cell].recurrent else ("weight_ih",)
        weights = [params[name].detach().contiguous() for name in names]
        if not all(bool(weight.isfinite().all()) for weight in weights):
            raise ValueError("weights: expected finite values, got NaN or infinity")
        zero = torch.zeros(len(weights[0]))
        bias_ih = params["bias_ih"].detach() + zero
        bias_hh = params["bias_hh"].detach() + zero if "bias_hh" in params else zero
        bias = bias_ih if cell in ("gru", "layernorm") else bias_ih + bias_hh
        vectors = {**{n: params[n].detach().clone() for n in CELLS[cell].extra}, "bias_hh": bias_hh}
        gain_ih = vectors.get("gain_ih")
        packed = [binding.pack(weight, precision) for weight in weights]
        self._references += [bias, vectors]
        self.bytes_read += sum(p.bytes for p in packed)
        slices = self.layout.slices
        h_start, c_start = (
            slices[name].start + index * self.hidden_size if name in slices else -1 for name in "hc"
        )
        parts = [slices["n"].start - slices["c"].start] if "n" in slices else []
        return binding.engine.Layer(
            binding.CELL_NUMBERS[cell],
            *(packed if len(packed) > 1 else [*packed, None]),
            binding.addresses(vectors.get(n) for n in binding.VECTORS),
            bias.data_ptr(),
            0 if gain_ih is None else gain_ih.data_ptr(),
            *zoneout,
            h_start,
            c_start,
            *parts,
        )

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Step the sessions in `rows` [n] int64 of a block [capacity, width], each at most once: x
        [n, I] -> y [n, H].

        The result is bitwise independent of the other sessions in the call. Raises ValueError for a
        row out of range or repeated; the block is then unchanged.
        """
        y = np.empty((len(rows), self.hidden_size), np.float32)
        threads = max(
            1, min(torch.get_num_threads(), len(rows) * self._work // MIN_WORK_PER_THREAD)
        )
        self._stack.many(block, rows, x, y, threads)
        return y


class LinearStep:
    """y = W x + b per row, on the engine in float32; bitwise independent of the other rows."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = binding.pack(weight, "float32")
        self.bias = bias.detach().numpy().copy()
        self.times = self._weight.times
        """times(x, bias, y): y is overwritten; float32, contiguous."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[n, K] float32, contiguous -> [n, N]."""
        y = np.empty((len(x), len(self.bias)), np.float32)
        self._weight.times(x, self.bias, y)
        return y
