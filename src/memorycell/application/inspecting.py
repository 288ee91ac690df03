"""What the applications share to implement `inspect`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from memorycell.application.contract import AnyModelFile
from memorycell.errors import DataError
from memorycell.inspection.inspect import Inspection, inspect

MAX_STEPS = 1000
"""Of a longer input the last steps are inspected."""
MIN_STEPS = 3


class Called(nn.Module):
    """A model behind one call on its inputs alone, for `inspect`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> None:
        """Run the model on x [1, T] int64 or [1, T, F] float32."""
        self.model(x)


class CalledWithLengths(Called):
    """A `Classifier` behind one call; of several networks the first one."""

    def forward(self, x: Tensor) -> None:
        """See `Called`."""
        self.model.logits(x, torch.tensor([x.shape[1]]))  # type: ignore[operator]


def inspect_steps(
    file: AnyModelFile,
    called: nn.Module,
    inputs: Tensor,
    *,
    labels: Sequence[str] = (),
    where: str,
    unit: str = "steps",
    trained_on: int | None = None,
) -> Inspection:
    """The gates of a file's model while it reads inputs [T, …].

    where        names the input
    labels       one for every step
    trained_on   steps that gradients flowed back in training

    Raises `DataError` for too few steps.
    """
    if len(inputs) < MIN_STEPS:
        raise DataError(f"{where}: too short to inspect: {len(inputs)} {unit}")
    found = inspect(
        called.eval(),
        inputs[None],
        labels=[label.replace("\n", "⏎") for label in labels],
        title=f"Inside a model of {file.data}",
        trained_on=trained_on,
    )
    found.history = file.history
    found.notes.append(f"{where}: {len(inputs):,} {unit}")
    return found
