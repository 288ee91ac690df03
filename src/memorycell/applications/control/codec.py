"""From the values of an observation to the inputs of the model, and from its outputs to actions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.setting_fields import from_json

MAX_SHOWN = 8
ENVIRONMENT = re.compile(r"([\w.-]{1,200}:)?([\w.-]{1,200}/)?[\w.-]{1,200}|")
"""A name of gymnasium: [module:][namespace/]name; or none."""


@dataclass(frozen=True)
class ControlCodec:
    """Converts rows of values [..., V] to inputs [..., I]: numbers stay, one of n categories
    becomes n inputs, hidden values are left out.

    environment   its name; empty where trajectories were given without one
    names         of all values of an observation
    counts        per value: 0 for a number, n for one of n categories
    hidden        indices of the values that the model does not see
    actions       names of the actions
    choices       number of choices of each discrete action; empty for numbers
    words         the choices of a discrete action as the table writes them; empty: 0, 1, …
    low, high     bounds of each number
    """

    kind: ClassVar[str] = "control"
    environment: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    hidden: tuple[int, ...]
    actions: tuple[str, ...]
    choices: tuple[int, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @cached_property
    def seen(self) -> np.ndarray:
        """The indices of the values that the model sees, [S]."""
        return np.setdiff1d(np.arange(len(self.names)), self.hidden)

    @cached_property
    def _seen_counts(self) -> list[int]:
        return [self.counts[k] for k in self.seen]

    @cached_property
    def _numbers_only(self) -> bool:
        return not any(self._seen_counts)

    @cached_property
    def input_names(self) -> list[str]:
        """One for each input."""
        result = []
        for k in self.seen:
            name, count = self.names[k], self.counts[k]
            result += [f"{name}={c}" for c in range(count)] if count else [name]
        return result

    def inputs(self, values: np.ndarray) -> np.ndarray:
        """Values of complete observations [N, V] float32 -> inputs [N, I] float32."""
        return self.seen_inputs(values[:, self.seen])

    def seen_inputs(self, values: np.ndarray) -> np.ndarray:
        """Values that the model sees [N, S] -> inputs [N, I]."""
        if self._numbers_only:
            return np.ascontiguousarray(values, np.float32)
        parts = [
            np.eye(count, dtype=np.float32)[column.astype(np.int64).clip(0, count - 1)]
            if count
            else column[:, None].astype(np.float32)
            for column, count in zip(values.T, self._seen_counts, strict=True)
        ]
        return np.concatenate(parts, 1)

    def read(self, values: Sequence[float], where: str) -> np.ndarray:
        """The inputs [I] of one observation: all of its values, or those that the model sees.

        Raises `DataError` for another number of values, NaN, and unknown categories.
        """
        row = np.asarray(values, np.float64)
        seen = len(self.seen)
        if len(row) not in (seen, len(self.names)):
            also = f", or all {len(self.names)} with the hidden ones" if self.hidden else ""
            raise DataError(
                f"{where}: {len(row)} values in an observation; expected {seen}"
                f" ({_shown([self.names[k] for k in self.seen])}){also}"
            )
        row = row if len(row) == seen else row[self.seen]
        for k, (value, count) in enumerate(zip(row, self._seen_counts, strict=True)):
            name = self.names[self.seen[k]]
            if not math.isfinite(value) or abs(value) > np.finfo(np.float32).max:
                raise DataError(f"{where}: {name} is {value}, not a finite number")
            if count and not (value == int(value) and 0 <= value < count):
                raise DataError(f"{where}: {name} is {value:g}; expected 0 to {count - 1}")
        return self.seen_inputs(row[None].astype(np.float32))[0]

    def action_json(self, action: np.ndarray) -> Any:
        """An action [A] as JSON: a choice, a number, or a list of them."""
        if self.choices:
            chosen = [self.words[k][int(a)] if self.words else int(a) for k, a in enumerate(action)]
            return chosen[0] if len(chosen) == 1 else chosen
        numbers = [float(f"{a:.6g}") for a in action]
        return numbers[0] if len(numbers) == 1 else numbers

    def best_action(self, y: np.ndarray) -> np.ndarray:
        """The most likely action of the model's output [..., O]: [..., A] int64 or float32."""
        if not self.choices:
            return y
        if len(self.choices) == 1:
            return np.asarray(y.argmax(-1)[..., None])
        parts = np.split(y, np.cumsum(self.choices)[:-1], -1)
        return np.stack([part.argmax(-1) for part in parts], -1)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "input_size": len(self.input_names),
            "choices": self.choices,
            "low": self.low,
            "high": self.high,
        }

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ControlCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        if not ENVIRONMENT.fullmatch(codec.environment):
            raise ValueError(f"environment: {quote(codec.environment)} is not a name of one")
        if len(codec.counts) != len(codec.names) or any(count < 0 for count in codec.counts):
            raise ValueError("counts: expected one for each name")
        if any(not 0 <= k < len(codec.names) for k in codec.hidden) or len(codec.seen) == 0:
            raise ValueError("hidden: expected some of the values, not all")
        sizes = (len(codec.choices),) if codec.choices else (len(codec.low), len(codec.high))
        if not codec.actions or any(size != len(codec.actions) for size in sizes):
            raise ValueError("actions: expected choices or bounds for each")
        if codec.words and tuple(map(len, codec.words)) != codec.choices:
            raise ValueError("words: expected one for each choice")
        return codec


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(quote(name)[1:-1] for name in names[:MAX_SHOWN])
    return shown + (", …" if len(names) > MAX_SHOWN else "")
