"""From levels to inputs and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memorycell.errors import DataError


@dataclass(frozen=True)
class TideCodec:
    """Levels in standard deviations from the mean of the training split."""

    kind: ClassVar[str] = "tide"
    mean: float
    std: float

    def encode(self, levels: np.ndarray) -> np.ndarray:
        """Levels [T] -> inputs [T, 1] float32."""
        return ((levels - self.mean) / self.std).astype(np.float32)[:, None]

    def decode(self, y: np.ndarray) -> np.ndarray:
        """Outputs [T, 1] -> levels [T]."""
        return y[:, 0].astype(np.float64) * self.std + self.mean

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`: it fits every model of this application."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TideCodec:
        """See `Codec`."""
        return cls(float(data["mean"]), float(data["std"]))


def read_levels(path: str) -> np.ndarray:
    """The levels [T] of a file. Raises `DataError` that names the line."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return np.array([read_level(line, f"{path}, line {k}") for k, line in enumerate(lines, 1)])


def read_level(text: str, where: str) -> float:
    """A level. Raises `DataError`."""
    try:
        level = float(text)
    except ValueError:
        level = np.nan
    if not np.isfinite(level):
        raise DataError(f"{where}: {text!r} is not a number")
    return level
