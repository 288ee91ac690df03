"""How a recurrence is executed: one layer, one direction, over a whole sequence.

`recurrence` checks its arguments, picks a backend and can say which and why (`choose`).

    reference   a Python loop over cells.py: every cell, every option; the truth the others are tested against
    torch       PyTorch's own kernels (oneDNN on the CPU, cuDNN on CUDA): the plain cells, without gates to look at
    native      the C++ engine in csrc/: every cell on the CPU, in float32 or with bfloat16 products
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from memorycell.cells import CELLS, Params, Tensors
from memorycell.ops import native, reference, torch_kernels
from memorycell.ops.call import Call, Inputs

BACKENDS = ("reference", "torch", "native")


class Result(NamedTuple):
    """output [B, T, H or P]; the final state, each [B, H]; the gates, cell and hidden state of every step, or None."""

    output: Tensor
    state: Tensors
    trace: dict[str, Tensor] | None


class Choice(NamedTuple):
    """A backend and the reason for it."""

    backend: str
    reason: str


def recurrence(
    call: Call,
    x: Tensor,
    params: Params,
    state: Tensors,
    *,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    backend: str | None = None,
) -> Result:
    """Run one recurrent layer in one direction.

    x         [B, T, I]
    params    weight_ih [G·H, I], weight_hh [G·H, H or P], bias_ih and bias_hh [G·H], weight_hr [P, H] with projection,
              and the cell's own
    state     (h_0, c_0) or (h_0,): [B, H], h_0 [B, P] with projection
    lengths   [B] int64, 1..T: steps at and past the length leave the state alone and give zeros
    reset     [B, T] bool: a new sequence begins at that step. The state is zeroed before it; going backwards, no state
              crosses the same border
    backend   a name from `BACKENDS`, or None for the fastest that can

    Raises ValueError that names the argument, what was expected and what came; also when the backend asked for cannot
    run the call.
    """
    _check(call, x, params, state, lengths, reset)
    choice = choose(
        call,
        steps=x.shape[1],
        device=x.device.type,
        dtype=params["weight_hh"].dtype,
        projected="weight_hr" in params,
        lengths=lengths is not None,
        reset=reset is not None,
        backend=backend,
    )
    if reset is not None and lengths is not None:
        reset = reset & (torch.arange(x.shape[1], device=x.device) < lengths[:, None])  # nothing begins in padding
    run = {"reference": reference.run, "torch": torch_kernels.run, "native": native.run}[choice.backend]
    return Result(*run(call, Inputs(x, params, state, lengths, reset, _zoneout_masks(call, x, state))))


def _zoneout_masks(call: Call, x: Tensor, state: Tensors) -> Tensors:
    """In training, 1 where a unit keeps its old value at a step: [B, T, H] each; drawn here, the same for every backend."""
    if not call.training or not any(call.zoneout):
        return ()
    return tuple(_mask((*x.shape[:2], s.shape[1]), p, s) for s, p in zip(state, call.zoneout, strict=False))


def _mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """1 with probability p, to the nearest 1/65536 below: 16 random bits a unit cost half of what a uniform float does."""
    count = math.prod(shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device).random_(-(2**63), None)
    bits = words.view(torch.int16)[:count].view(shape)
    return (bits < int(p * 65536) - 32768).to(like.dtype)


def choose(
    call: Call,
    *,
    steps: int = 2,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    projected: bool = False,
    lengths: bool = False,
    reset: bool = False,
    backend: str | None = None,
) -> Choice:
    """Which backend runs this call, and why. Raises ValueError when the one asked for cannot."""
    obstacles = {
        "reference": None,
        "torch": torch_kernels.obstacle(call, lengths=lengths, reset=reset),
        "native": native.obstacle(call, device=device, dtype=dtype, projected=projected),
    }
    if backend is None:
        return _pick(call, obstacles, steps, device, projected)
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)} or None, got {backend!r}")
    if obstacles[backend]:
        raise ValueError(f"backend={backend!r} cannot run this call: {obstacles[backend]}")
    return Choice(backend, "asked for")


def _pick(call: Call, obstacles: Mapping[str, str | None], steps: int, device: str, projected: bool) -> Choice:
    """The rules, from `make bench`."""
    if obstacles["native"] is None and projected and obstacles["torch"] is None and steps > 1:
        # The engine walks over the unprojected state, whose matrix is wider than the projection's.
        return Choice("torch", "a plain lstm cell with a projection, for which PyTorch's own kernel is faster")
    if obstacles["native"] is None:
        return Choice("native", f"the native engine has the {call.cell} cell ({native.engine.instruction_set()})")
    if obstacles["torch"] is None and not (steps == 1 and device == "cpu"):
        where = "cuDNN" if device == "cuda" else "oneDNN" if device == "cpu" else device
        return Choice("torch", f"PyTorch's own kernel ({where}); {obstacles['native']}")
    if obstacles["torch"] is None:
        # oneDNN packs the weights at every call; see `memorycell bench step --peers torch,reference`.
        return Choice("reference", f"a single step, for which oneDNN is slow; {obstacles['native']}")
    return Choice("reference", f"{obstacles['torch']}; {obstacles['native']}")


def _check(call: Call, x: Tensor, params: Params, state: Tensors, lengths: Tensor | None, reset: Tensor | None) -> None:
    if call.cell not in CELLS:
        raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {call.cell!r}")
    cell = CELLS[call.cell]
    if x.ndim != 3 or x.shape[1] == 0:
        raise ValueError(f"x: expected [B, T, I] with at least one step, got {list(x.shape)}")
    batch, steps, features = x.shape
    rows, expected = params["weight_ih"].shape
    if features != expected:
        raise ValueError(f"x: expected {expected} features a step (input_size), got {features}")
    if x.dtype != params["weight_ih"].dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"x: expected dtype {params['weight_ih'].dtype} (the weights'), got {x.dtype}")
    hidden = rows // len(cell.blocks)
    sizes = {"h": params["weight_hh"].shape[1], "c": hidden}
    if len(state) != len(cell.state):
        raise ValueError(f"state: cell {call.cell!r} keeps {', '.join(cell.state)}, got {len(state)} tensors")
    for name, value in zip(cell.state, state, strict=True):
        if value.shape != (batch, sizes[name]):
            raise ValueError(f"state {name}: expected {[batch, sizes[name]]}, got {list(value.shape)}")
    if lengths is not None:
        if lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ValueError(f"lengths: expected [{batch}] int64, got {list(lengths.shape)} {lengths.dtype}")
        if batch and not (int(lengths.min()) >= 1 and int(lengths.max()) <= steps):
            raise ValueError(f"lengths: expected 1..{steps}, got {int(lengths.min())}..{int(lengths.max())}")
    if reset is not None and (reset.shape != (batch, steps) or reset.dtype != torch.bool):
        raise ValueError(f"reset: expected [{batch}, {steps}] bool, got {list(reset.shape)} {reset.dtype}")
    if not all(0 <= z < 1 for z in call.zoneout):
        raise ValueError(f"zoneout: expected probabilities in [0, 1), got {call.zoneout}")
