"""Stream: one live sequence, one step at a time, in memory that never grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.nn.recurrent import Recurrent
from memorycell.state import State, fingerprint


class Stream:
    """A layer or a model that runs live: `y = stream.step(x)`, with `stream.state` to read, write, save and fork.

    module   a batch-first module with `initial_state()` and `forward(x [B, T, F], state) -> (y [B, T, …], state)`: a
             layer of ours, or a `Model`. It is put into evaluation mode. A step gives the numbers of the whole sequence.

    Raises ValueError for a bidirectional layer: its backward half needs the future.
    """

    def __init__(self, module: nn.Module) -> None:
        for layer in module.modules():
            if isinstance(layer, Recurrent) and layer.bidirectional:
                raise ValueError(
                    "stream: a bidirectional layer needs the future and cannot run live; train one direction"
                )
        self.module = module.eval()
        self._batch_first = bool(getattr(module, "batch_first", True))
        self.reset()

    def reset(self) -> None:
        """Begin a new sequence: the state is zero."""
        self.state: State = self.module.initial_state()  # type: ignore[operator]

    @torch.inference_mode()
    def step(self, x: Tensor | np.ndarray) -> Tensor:
        """One step, x [F] -> y [H], or several at once, x [T, F] -> y [T, H]: the same numbers."""
        chunk = torch.as_tensor(x)
        several = chunk.ndim == 2
        chunk = chunk if several else chunk[None]
        given: Any = self.state if "c" in self.state.asdict() or len(self.state) > 1 else self.state.h
        y, state = self.module(chunk[None] if self._batch_first else chunk[:, None], given)
        self.state = state if isinstance(state, State) else State(h=state)
        y = y[0] if self._batch_first else y[:, 0]
        return y if several else y[0]

    def save(self, path: str | Path, **extra: Any) -> None:
        """Write the state and JSON values beside it; it can only be loaded into the same weights."""
        self.state.save(path, fingerprint=fingerprint(self.module), extra=extra)

    def load(self, path: str | Path) -> dict[str, Any]:
        """Take up a saved state; returns the JSON values saved with it. Raises `StateError`."""
        state, extra = State.load(path, fingerprint=fingerprint(self.module))
        if {n: t.shape for n, t in state.asdict().items()} != {n: t.shape for n, t in self.state.asdict().items()}:
            from memorycell.errors import StateError

            raise StateError(f"{path}: expected {self.state!r}, got {state!r}; start a new state")
        self.state = state
        return extra
