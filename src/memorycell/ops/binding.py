"""The C++ engine in csrc/ as Python sees it: whether it is there, its numbering, packed matrices
and checked addresses.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

engine: Any = None
missing = ""
try:
    engine = import_module("memorycell._native")
except (
    ImportError
) as error:  # no compiler when it was installed, or MEMORYCELL_ISA names what this processor lacks
    missing = (
        f"the native engine is not here ({error}); install g++ or clang++ and install memorycell"
        " again"
    )


def _share_team() -> None:
    """Have the engine run on PyTorch's own threads, where its OpenMP is GNU's; see
    csrc/threads.hpp.
    """
    home = Path(torch.__file__).parent
    found = [*home.glob("lib/libgomp*.so*"), *home.parent.glob("torch.libs/libgomp*.so*")]
    for path in [*map(str, found), "libgomp.so.1"]:
        try:
            team = ctypes.CDLL(
                path, mode=getattr(os, "RTLD_NOLOAD", 0)
            )  # the one PyTorch has loaded, or none
            names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
            engine.share_team(
                *(ctypes.cast(getattr(team, name), ctypes.c_void_p).value for name in names)
            )
        except (OSError, AttributeError):
            continue
        return


if engine is not None and sys.platform == "linux":
    _share_team()

CELL_NUMBERS = {
    name: k
    for k, name in enumerate(("rnn", "rnn_relu", "lstm", "peephole", "coupled", "layernorm", "gru"))
}
PRECISIONS = {"float32": 0, "bfloat16": 1, "int8": 2}
EXTRAS = ("weight_ch", "bias_hh", "gain_hh", "gain_c", "bias_c")
"""The parameters beside the matrices, in the engine's order."""
USED = {
    "peephole": ("weight_ch",),
    "gru": ("bias_hh",),
    "layernorm": ("bias_hh", "gain_hh", "gain_c", "bias_c"),
}
"""Those a cell's recurrence reads; the rest of the biases are added ahead."""


def packed(weight: Tensor, precision: str, *, transposed: bool = False) -> Any:
    """A matrix [N, K], or its transpose, packed for the engine: a copy."""
    value = weight.detach().contiguous()
    rows, columns = value.shape
    sizes = (columns, rows, 1, columns) if transposed else (rows, columns, columns, 1)
    return engine.Weight(value.data_ptr(), *sizes, PRECISIONS[precision])


def unpacked(weight: Tensor) -> Any:
    """A contiguous float32 matrix [N, K] used as it lies, while the caller holds it."""
    rows, columns = weight.shape
    return engine.Weight(weight.data_ptr(), rows, columns, columns, 1, PRECISIONS["float32"], True)


def address(
    name: str, tensor: Tensor | None, *shape: int, dtype: torch.dtype = torch.float32
) -> int:
    """Where a tensor lies, 0 for None. Raises RuntimeError for a tensor the engine would read
    wrongly.
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


THREAD_WORK = 1_000_000
"""Multiplications for which it pays to hand work to another thread: about 20 µs of them."""


def addresses(tensors: Iterable[Tensor | None]) -> list[int]:
    """Where they lie; 0 for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def threads_for(work: int, rows: int) -> int:
    """As many threads as torch uses, where each has `THREAD_WORK` multiplications or more, and a
    row.
    """
    return max(1, min(torch.get_num_threads(), rows, work // THREAD_WORK))


def new(like: Tensor, *shape: int) -> Tensor:
    """An empty tensor about to be filled."""
    tensor = like.new_empty(*shape)
    if tensor.numel() >= 1 << 20:
        engine.expect_much(tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return tensor
