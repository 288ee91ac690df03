"""torch.compile without a graph break.

Dynamo refuses every instance of torch.nn.LSTM, GRU and RNN (`torch._dynamo.config.allow_rnn`),
because tracing theirs would unroll the time steps. Ours are one operator where the engine runs
them; those are let in, and they alone: others keep PyTorch's rule. Dynamo takes seconds to import
and most programs never compile, so this waits until somebody imports it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

BUILDER = "torch._dynamo.variables.builder"


def let_in(kind: Any) -> None:
    """Have Dynamo trace instances of `kind`, now or when it is imported."""
    if BUILDER in sys.modules:
        _patch(sys.modules[BUILDER], kind)
    else:
        sys.meta_path.insert(0, _WhenImported(kind))


class _WhenImported(MetaPathFinder):
    """Finds the module as everybody else does, and patches it once it has run."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of Dynamo's builder, and of nothing else."""
        if name != BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_patch(module: ModuleType) -> None:
                run(module)
                _patch(module, self.kind)

            spec.loader.exec_module = run_and_patch  # type: ignore[method-assign]
        return spec


def _patch(builder: Any, kind: Any) -> None:
    """PyTorch's private names: where they have moved, ours are refused like torch's, with its
    message.
    """
    wrap = getattr(getattr(builder, "VariableBuilder", None), "wrap_module", None)
    if wrap is None or not hasattr(builder.config, "allow_rnn"):
        return

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, kind) or not value.runs_as_one_operator():
            return wrap(self, value)
        with builder.config.patch(allow_rnn=True):
            return wrap(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
