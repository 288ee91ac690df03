"""Models whose weights are still to come from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

C = TypeVar("C")
M = TypeVar("M")


def blank(make: Callable[[C], M], config: C) -> M:
    """A model whose parameters have shapes only: they take no memory, and are not initialised.

    On the meta device some initialisations would run in Python and import the compiler of PyTorch
    for it, which takes over a second.
    """
    with torch.device("meta"), _NoInitialisation():
        return make(config)


class _NoInitialisation(TorchFunctionMode):
    """The functions of `torch.nn.init` return their tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
