"""torch.compile without a graph break.

Dynamo refuses every instance of torch.nn.LSTM, GRU and RNN (`torch._dynamo.config.allow_rnn`),
because tracing them would unroll the time steps. Layers that run on the engine are one operator, so
only these are allowed. Dynamo takes seconds to import and most programs never compile, so the patch
is applied when Dynamo is imported.
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


def allow_in_dynamo(kind: Any) -> None:
    """Make Dynamo trace instances of `kind`, now or when it is imported."""
    if BUILDER in sys.modules:
        _patch(sys.modules[BUILDER], kind)
    else:
        sys.meta_path.insert(0, _PatchOnImport(kind))


class _PatchOnImport(MetaPathFinder):
    """Delegates the import of Dynamo's builder and patches the module after it was executed."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of Dynamo's builder; None for other modules."""
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
    """Patch PyTorch's private names. If they have moved, memorycell's layers are refused with
    torch's message.
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
