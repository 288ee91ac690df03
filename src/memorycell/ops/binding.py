"""The C++ engine in csrc/ as seen from Python: whether it is available, its numbering, packed
matrices and checked addresses.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

engine: Any = None
missing = ""
try:
    engine = import_module("memorycell._native")
except ImportError as error:
    # No compiler at installation, or MEMORYCELL_ISA names an instruction set this CPU lacks.
    missing = (
        f"the native engine is not available ({error}); install g++ or clang++ and install"
        " memorycell again"
    )


def _share_threads() -> bool:
    """Run the engine on PyTorch's threads if PyTorch uses GNU OpenMP; see csrc/threads.hpp.

    Returns whether it does.
    """
    home = Path(torch.__file__).parent
    paths = [*home.glob("lib/libgomp*.so*"), *home.parent.glob("torch.libs/libgomp*.so*")]
    for path in [*map(str, paths), "libgomp.so.1"]:
        try:
            # Only the library that PyTorch has loaded.
            library = ctypes.CDLL(path, mode=getattr(os, "RTLD_NOLOAD", 0))
            names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
            engine.share_team(
                *(ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names)
            )
        except (OSError, AttributeError):
            continue
        return True
    return False


OPENMP = engine is not None and sys.platform == "linux" and _share_threads()
"""Whether the engine runs on PyTorch's threads."""

FORKED = False
"""Whether this process is a child of a fork: it lacks the threads of GNU OpenMP, which PyTorch's
kernels would wait for.
"""


def _note_fork() -> None:
    global FORKED
    FORKED = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

_FIRST_CELLS = ("rnn", "rnn_relu", "lstm", "peephole", "coupled", "layernorm", "gru")
CELL_NUMBERS = {
    name: k for k, name in enumerate(engine.cells() if hasattr(engine, "cells") else _FIRST_CELLS)
}
SCANNED_CELLS = ("minlstm", "mingru")
"""Those of which the engine runs the recurrence alone: their gates do not read the state."""
PRECISIONS = {"float32": 0, "bfloat16": 1, "int8": 2}
VECTORS = ("weight_ch", "bias_hh", "gain_hh", "gain_c", "bias_c")
"""The parameters other than the matrices, in the engine's order."""
CELL_VECTORS = {
    "peephole": ("weight_ch",),
    "gru": ("bias_hh",),
    "layernorm": ("bias_hh", "gain_hh", "gain_c", "bias_c"),
}
"""Those a cell's recurrence reads; other biases are added before the recurrence."""
MIN_WORK_PER_THREAD = 1_000_000
"""Multiplications that justify another thread: about 20 µs of work."""


def pack(weight: Tensor, precision: str, *, transposed: bool = False) -> Any:
    """A matrix [N, K], or its transpose, packed for the engine: a copy."""
    value = weight.detach().contiguous()
    rows, columns = value.shape
    sizes = (columns, rows, 1, columns) if transposed else (rows, columns, columns, 1)
    return engine.Weight(value.data_ptr(), *sizes, PRECISIONS[precision])


def wrap(weight: Tensor) -> Any:
    """A contiguous float32 matrix [N, K], used in place; the caller keeps it alive."""
    rows, columns = weight.shape
    return engine.Weight(weight.data_ptr(), rows, columns, columns, 1, PRECISIONS["float32"], True)


def address(
    name: str, tensor: Tensor | None, *shape: int, dtype: torch.dtype = torch.float32
) -> int:
    """The address of a tensor, 0 for None. Raises RuntimeError for a tensor that the engine would
    misread.
    """
    if tensor is None:
        return 0
    if (
        tensor.shape != shape
        or tensor.dtype != dtype
        or not tensor.is_cpu
        or not tensor.is_contiguous()
        or tensor.is_neg()
    ):
        raise RuntimeError(
            f"{name}: the native engine expects a contiguous {str(dtype).removeprefix('torch.')}"
            f" tensor {list(shape)} on the CPU, got {tensor.dtype} {list(tensor.shape)} on"
            f" {tensor.device}"
        )
    return tensor.data_ptr()


def addresses(tensors: Iterable[Tensor | None]) -> list[int]:
    """The addresses of tensors; 0 for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def threads_for(work: int, rows: int) -> int:
    """At most torch's number of threads, each with at least one row and `MIN_WORK_PER_THREAD`
    multiplications.
    """
    return max(1, min(torch.get_num_threads(), rows, work // MIN_WORK_PER_THREAD))


def allocate(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor that the engine fills."""
    tensor = like.new_empty(*shape)
    if tensor.numel() >= 1 << 20:
        engine.expect_much(tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return tensor


@cache
def cpu_name() -> str:
    """The processor's name, as reported by the operating system; on Linux with family and model,
    which tell generations of the same name apart.
    """
    try:
        found: dict[str, str] = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
        parts = [found["model name"]]
        parts += [f"family {found['cpu family']}"] if "cpu family" in found else []
        parts += [f"model {found['model']}"] if "model" in found else []
        return ", ".join(parts)
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
