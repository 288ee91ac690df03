"""Matrix products on the engine, over all steps of a sequence."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from memorycell.ops.binding import (
    PRECISIONS,
    address,
    allocate,
    engine,
    pack,
    threads_for,
    wrap,
)


def matrix(
    name: str,
    weight: Tensor,
    rows: int,
    columns: int,
    precision: str,
    *,
    transposed: bool = False,
    in_place: bool = False,
) -> Any:
    """A weight [rows, columns] for the engine, packed or used in place.

    Raises RuntimeError for another shape, type or device.
    """
    address(name, weight, rows, columns)
    return wrap(weight) if in_place else pack(weight, precision, transposed=transposed)


def multiply(
    x: Tensor,
    weight: Tensor,
    precision: str,
    bias: Tensor | None = None,
    *,
    transposed: bool = False,
    in_place: bool = False,
) -> Tensor:
    """Rows of x times W^T, plus the bias; times W if transposed."""
    rows, inner = x.shape[0] * x.shape[1], x.shape[2]
    outer = weight.shape[1 if transposed else 0]
    shape = (inner, outer) if transposed else (outer, inner)
    out = allocate(x, *x.shape[:2], outer)
    engine.product(
        matrix("weight_ih", weight, *shape, precision, transposed=transposed, in_place=in_place),
        address("x", x, *x.shape),
        rows,
        address("bias", bias, outer),
        out.data_ptr(),
        threads_for(rows * inner * outer, rows),
    )
    return out


def sum_outer(left: Tensor, right: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Σ over batch and time of left^T right: [N, K] from N and K features; and Σ left, [N]."""
    right = right.contiguous()
    steps, rows, columns = left.shape[0] * left.shape[1], left.shape[2], right.shape[2]
    result, sums = left.new_empty(rows, columns), left.new_empty(rows)
    engine.outer(
        address("left", left, *left.shape),
        address("right", right, *left.shape[:2], columns),
        steps,
        rows,
        columns,
        PRECISIONS[precision],
        result.data_ptr(),
        sums.data_ptr(),
        threads_for(steps * rows * columns, rows),
    )
    return result, sums
