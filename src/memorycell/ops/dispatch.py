"""Which backend runs a recurrence: one layer, one direction, over a full sequence.

`choose` selects a backend and gives the reason; `recurrence` runs it.

    reference   a Python loop over cells.py: every cell and option; the other backends are tested
                against it
    torch       PyTorch's own kernels (oneDNN on the CPU, cuDNN on CUDA): the plain cells, without a
                trace of the gates; or its operators over all steps at once: the cells whose gates
                do not read the state
    native      the C++ engine in csrc/: every cell on the CPU, in float32 or with bfloat16 products
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from memorycell.cells import Params, Tensors
from memorycell.ops import binding, native, parallel, reference, torch_kernels
from memorycell.ops.call import Call, Inputs
from memorycell.ops.crossover import Work, torch_is_faster
from memorycell.ops.operator import is_traced, is_transformed

BACKENDS = ("reference", "torch", "native")
_RUN = {"reference": reference.run, "torch": torch_kernels.run, "native": native.run}


class Result(NamedTuple):
    """The output and the trace by name, or None, laid out as the call says; the final state, each
    [B, H].
    """

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
    lengths: Tensor | None,
    reset: Tensor | None,
    backend: str,
) -> Result:
    """Run one recurrent layer in one direction. The caller checks the shapes; see `check_options`.

    x         [B, T, I], or [T, B, I] if the call is time first
    params    weight_ih [G·H, I], weight_hh [G·H, H or P], bias_ih and bias_hh [G·H], weight_hr [P,
              H] with projection, and the cell's own
    state     (h_0, c_0) or (h_0,): [B, H], h_0 [B, P] with projection
    lengths   [B] int64, 1..T: steps from the length on do not change the state and output zeros
    reset     [B, T] bool: a new sequence begins at that step. The state is zeroed before it; in the
              reverse direction no state crosses the same boundary
    backend   the result of `choose`
    """
    if reset is not None and lengths is not None:
        steps = torch.arange(x.shape[call.time], device=x.device)
        reset = reset & (steps < lengths[:, None])  # no resets in padding
    inputs = Inputs(x, params, state, lengths, reset, _zoneout_masks(call, x, state))
    return Result(*_RUN[backend](call, inputs))


def _zoneout_masks(call: Call, x: Tensor, state: Tensors) -> Tensors:
    """In training, 1 where a unit keeps its previous value at a step: [B, T, H] each, the same for
    every backend.
    """
    if not call.training or not any(call.zoneout):
        return ()
    batch, steps = x.shape[1 - call.time], x.shape[call.time]
    return tuple(
        _mask((batch, steps, s.shape[1]), p, s) for s, p in zip(state, call.zoneout, strict=False)
    )


def _mask(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    """1 with probability p, rounded down to 1/65536: 16 random bits per unit cost half as much as a
    uniform float.
    """
    if torch.compiler.is_compiling():
        return torch.bernoulli(torch.full(shape, p, dtype=like.dtype, device=like.device))
    count = math.prod(shape)
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device).random_(
        -(2**63), None
    )
    bits = words.view(torch.int16)[:count].view(shape)
    return (bits < int(p * 65536) - 32768).to(like.dtype)


def choose(
    call: Call,
    *,
    steps: int = 2,
    batch: int = 1,
    hidden: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    projected: bool = False,
    lengths: bool = False,
    reset: bool = False,
    backend: str | None = None,
) -> Choice:
    """Which backend runs this call, and why; without `hidden`, a call of unknown shape. Raises
    ValueError if the requested one cannot.
    """
    from_native = native.unsupported_reason(
        call, device=device, dtype=dtype, projected=projected
    ) or _context_reason(batch)
    if from_native is None and backend is None:
        if (
            call.cell == "lstm"
            and steps > 1
            and hidden
            and not (projected or lengths or reset)
            and torch_kernels.unsupported_reason(call, lengths=False, reset=False) is None
            and _torch_is_faster(batch, steps, hidden)
        ):
            return Choice("torch", "PyTorch's own kernel is faster for this shape (measured)")
        return Choice("native", "")
    from_torch = torch_kernels.unsupported_reason(call, lengths=lengths, reset=reset)
    if backend is not None:
        if backend not in BACKENDS:
            raise ValueError(
                f"backend: expected one of {', '.join(BACKENDS)} or None, got {backend!r}"
            )
        reason = {"reference": None, "torch": from_torch, "native": from_native}[backend]
        if reason:
            raise ValueError(f"backend={backend!r} cannot run this call: {reason}")
        return Choice(backend, "requested")
    if from_native is not None and is_transformed():
        return Choice("reference", "a transform of torch.func, or forward-mode differentiation")
    if from_torch is None and runs_all_steps_at_once(call):
        if steps == 1:
            return Choice("reference", f"a single step; {from_native}")
        return Choice("torch", f"PyTorch's operators over all steps at once; {from_native}")
    single = steps == 1 and batch > 0 and device == "cpu" and dtype == torch.float32
    if from_torch is None and not single:
        library = "cuDNN" if device == "cuda" else "oneDNN" if device == "cpu" else device
        return Choice("torch", f"PyTorch's own kernel ({library}); {from_native}")
    if from_torch is None:
        # oneDNN packs the weights in every call; see `memorycell bench step --peers
        # torch,reference`.
        return Choice("reference", f"a single step, for which oneDNN is slow; {from_native}")
    cost = "" if device == "cpu" else f"; {LOOP_COST}"
    return Choice("reference", f"{from_torch}; {from_native}{cost}")


def runs_all_steps_at_once(call: Call) -> bool:
    """Whether the torch backend computes the call without a loop over its steps."""
    return parallel.unsupported_reason(call) is None


def _torch_is_faster(batch: int, steps: int, hidden: int) -> bool:
    """By measurement, with the threads, precision and gradients of the current context."""
    # Traced, PyTorch's own kernels would be unrolled over the steps: ours are one operator. In the
    # child of a fork they would wait for OpenMP's threads.
    if is_traced() or binding.FORKED:
        return False
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    precision = "bfloat16" if half else "float32"
    threads = torch.get_num_threads()
    work = Work(torch.is_grad_enabled(), precision, threads, batch, steps, hidden)
    return torch_is_faster(work)


def native_reason(call: Call) -> str:
    """What `explain` says of the native backend."""
    return f"the native engine has the {call.cell} cell ({binding.engine.instruction_set()})"


def _context_reason(batch: int) -> str | None:
    """Why the engine cannot run in the current context (batch, autocast, tracing, transforms)."""
    if batch == 0:
        return "the batch is empty"
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") not in (
        torch.bfloat16,
        torch.float32,
    ):
        return f"the native engine has no products in {torch.get_autocast_dtype('cpu')}"
    if torch.compiler.is_compiling():
        return TRACING if torch.onnx.is_in_onnx_export() else None
    if torch._C._is_tracing():
        return TRACING
    if is_transformed():
        return "the native engine has no rule for transforms of torch.func"
    return None


LOOP_COST = "a loop of 3 to 34 kernels per step, and 5 to 77 in the backward pass"
"""Of the cells, without resets; counted in tests/device."""
TRACING = "torch.jit.trace and torch.onnx.export support only PyTorch's own operators"


def check_options(
    call: Call, batch: int, steps: int, lengths: Tensor | None, reset: Tensor | None
) -> None:
    """Raises ValueError with the argument's name, the expected and the actual value."""
    if lengths is not None:
        if lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ValueError(
                f"lengths: expected [{batch}] int64, got {list(lengths.shape)} {lengths.dtype}"
            )
        if (
            not is_traced(lengths)
            and batch
            and not (int(lengths.min()) >= 1 and int(lengths.max()) <= steps)
        ):
            raise ValueError(
                f"lengths: expected 1..{steps}, got {int(lengths.min())}..{int(lengths.max())}"
            )
    if reset is not None and (reset.shape != (batch, steps) or reset.dtype != torch.bool):
        raise ValueError(
            f"reset: expected [{batch}, {steps}] bool, got {list(reset.shape)} {reset.dtype}"
        )
    if not all(0 <= z < 1 for z in call.zoneout):
        raise ValueError(f"zoneout: expected probabilities in [0, 1), got {call.zoneout}")
