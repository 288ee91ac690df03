"""One step of one or many sessions on the native engine: weights packed once, nothing allocated after that."""

from __future__ import annotations

import torch
from torch import Tensor

from memorycell.cells import CELLS, Params
from memorycell.ops import native
from memorycell.ops.call import Call


class LayerStep:
    """One recurrent layer, one direction, with the states of `capacity` sessions.

    params      as for `memorycell.ops.recurrence`; copied, so later changes of the weights are not seen
    precision   of the products: "float32", "bfloat16", or "int8" (weights with a scale a row, inputs and h with a scale
                a step); sums, gates and states are float32
    largest     sessions in one call of `many` at most

    h, c        [capacity, H] float32: the states, to read and to write

    Raises ValueError where the native engine cannot run the cell.
    """

    def __init__(
        self,
        cell: str,
        params: Params,
        *,
        precision: str = "float32",
        capacity: int = 1,
        largest: int = 1,
        zoneout: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        weight_ih, weight_hh = (params[n].detach().contiguous() for n in ("weight_ih", "weight_hh"))
        obstacle = native.obstacle(Call(cell), device=weight_hh.device.type, dtype=weight_hh.dtype, projected=False)
        if obstacle or "weight_hr" in params:
            raise ValueError(f"step: {obstacle or 'no projection (proj_size)'}")
        if precision not in native.PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(native.PRECISIONS)}, got {precision!r}")
        if not bool(weight_ih.isfinite().all() and weight_hh.isfinite().all()):
            raise ValueError("weights: expected finite values, got NaN or infinity")
        rows, self.input_size = weight_ih.shape
        self.hidden_size = weight_hh.shape[1]
        self.h = torch.zeros(capacity, self.hidden_size)
        self.c = torch.zeros(capacity, self.hidden_size) if "c" in CELLS[cell].state else None
        self._y = torch.zeros(self.hidden_size)
        self._address = self._y.data_ptr()
        zero = torch.zeros(rows)
        bias_ih, bias_hh = (params[n].detach() + zero for n in ("bias_ih", "bias_hh"))
        bias = bias_ih if cell in ("gru", "layernorm") else bias_ih + bias_hh
        extras = {**{n: params[n].detach().contiguous() for n in CELLS[cell].extra}, "bias_hh": bias_hh}
        gain_ih = extras.get("gain_ih")
        self._kept = (bias, extras)  # the engine holds their addresses
        packed = [native.packed(w, precision) for w in (weight_ih, weight_hh)]
        self._stepper = native.engine.Stepper(
            native.CELL_NUMBERS[cell], self.input_size, self.hidden_size, capacity, *packed,
            native.addresses(extras.get(n) for n in native.EXTRAS), bias.data_ptr(),
            0 if gain_ih is None else gain_ih.data_ptr(), *zoneout, self.h.data_ptr(),
            0 if self.c is None else self.c.data_ptr(), largest,
        )  # fmt: skip
        self.bytes_read = sum(p.bytes for p in packed)
        """Bytes of weights that one step reads."""

    def one(self, x: Tensor) -> Tensor:
        """Step session 0: x [I] -> y [H], float32. The tensor returned is the same at every call."""
        if x.dtype is not torch.float32 or x.numel() != self.input_size or not x.is_contiguous() or not x.is_cpu:
            raise ValueError(
                f"x: expected [{self.input_size}] float32 on the CPU, contiguous; got {list(x.shape)} {x.dtype} {x.device}"
            )
        self._stepper.one(x.data_ptr(), self._address)
        return self._y

    def many(self, slots: Tensor, x: Tensor) -> Tensor:
        """Step the sessions `slots` [n] int64, each at most once: x [n, I] -> y [n, H], new at every call."""
        count = len(slots)
        if slots.dtype is not torch.int64 or slots.ndim != 1:
            raise ValueError(f"slots: expected [n] int64, got {list(slots.shape)} {slots.dtype}")
        if x.dtype is not torch.float32 or x.shape != (count, self.input_size) or not x.is_cpu:
            raise ValueError(
                f"x: expected [{count}, {self.input_size}] float32 on the CPU, got {list(x.shape)} {x.dtype} {x.device}"
            )
        x, slots = x.contiguous(), slots.contiguous()
        y = torch.empty(count, self.hidden_size)
        try:
            self._stepper.many(count, slots.data_ptr(), x.data_ptr(), y.data_ptr())
        except IndexError as error:
            raise ValueError(str(error)) from None
        return y
