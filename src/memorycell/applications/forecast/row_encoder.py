"""The inputs of live rows, one row at a time, equal to those of the complete table."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.series import (
    RETURN,
    SERIES,
    VALUE,
    log_return,
    require_columns,
)
from memorycell.applications.forecast.words import one_hot, word_of
from memorycell.errors import DataError
from memorycell.setting_fields import from_json
from memorycell.tables.clock import rounded_steps
from memorycell.tables.numbers import read_number
from memorycell.tables.zones import MAX_TIME_US

MAX_STEP_ERROR = 1e-3
"""Tolerated deviation of a time stamp from a whole number of steps."""


@dataclass(frozen=True)
class SavedRow:
    """`RowEncoder.memory` as it is stored."""

    time: int | None
    filled: tuple[float, ...]
    price: float | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self.filled):
            raise ValueError("filled: expected finite numbers")
        if self.price is not None and not 0 < self.price < math.inf:
            raise ValueError("price: expected a price above 0")


class RowEncoder:
    """Encodes the rows of one series.

    memory   JSON values from which another encoder of the series continues: the time, the filled
             values and the price of the last row
    clipped  columns whose value in the last row is beyond the bound of the codec
    unknown  column -> its word in the last row, where that was not in training
    """

    def __init__(self, codec: SeriesCodec, name: str = "") -> None:
        self.codec, self.name = codec, name
        self._scaling = codec.scaling_of([name])
        self._mean = self._scaling.mean[0]
        self.memory: dict[str, Any] = {"time": None, "filled": self._mean.tolist()}
        self.clipped: list[str] = []
        self.unknown: dict[str, str] = {}

    def encode(self, row: Mapping[str, Any], where: str = "row") -> tuple[np.ndarray, bool]:
        """(inputs [n, F] float32, new_segment) of the n steps that the row completes: those of a
        gap, then its own.

        n is 0 for a row that shares a step with the previous row. The state must be zeroed before a
        new segment. Raises `DataError`; memory is then unchanged.
        """
        codec, clock = self.codec, self.codec.clock
        row, price = self._with_return(row, where)
        values = np.array([self._number(row, c, where) for c in codec.columns])
        last = self.memory["time"]
        now = 0 if last is None else last + 1
        if codec.times is not None:
            now = codec.times.read_row(row, where, last)
        gap = 1 if last is None or clock.unit == "row" else self._elapsed(last, now, where)
        new_segment = last is None or gap > codec.max_gap
        if gap == 0:
            return np.zeros((0, len(codec.features)), np.float32), False
        previous = np.array(self.memory["filled"])
        known = ~np.isnan(values)
        filled = np.where(known, values, self._mean if new_segment else previous)
        steps = 1 if new_segment else gap
        level = np.repeat((filled if new_segment else previous)[None], steps, 0)
        before = level.copy()
        level[-1] = filled
        filling = np.arange(steps) < steps - 1
        inputs = codec.assemble_inputs(
            level,
            before,
            observed=~filling,
            missing=np.where(filling[:, None], True, ~known),
            time=np.array([clock.after(last, k) for k in range(1, steps)] + [now], np.int64),
            scaling=self._scaling,
            more=self._other_inputs(row, steps, where),
        )
        self.unknown = self._unknown_words(row)
        clipped = codec.is_clipped(filled[None], self._scaling)[0]
        self.clipped = [c for c, beyond in zip(codec.columns, clipped, strict=True) if beyond]
        self.memory = {"time": int(now), "filled": filled.tolist()} | self._price_memory(price)
        return inputs, new_segment

    def unscale(self, quantiles: np.ndarray) -> np.ndarray:
        """Quantiles [horizon, targets, K] in the table's units; see `SeriesCodec.unscale`."""
        return self.codec.unscale(quantiles[None], [self.name])[0]

    def _number(self, row: Mapping[str, Any], column: str, where: str) -> float:
        own = self.codec.each and column == VALUE
        number_format = self.codec.numbers.get(str(row[SERIES]) if own else column)
        return read_number(row, column, where, number_format)

    def fork(self) -> RowEncoder:
        """A copy that continues independently."""
        return copy.copy(self)  # what `encode` changes, it replaces

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Continue from `memory`. Raises ValueError for values that are not one."""
        saved = from_json(SavedRow, memory)
        if len(saved.filled) != len(self.codec.columns):
            raise ValueError("filled: does not fit the columns")
        if saved.time is not None and abs(saved.time) > MAX_TIME_US:
            raise ValueError("time: out of range")
        self.memory = {"time": saved.time, "filled": list(saved.filled)}
        if self.codec.returns is not None:
            self.memory["price"] = saved.price

    def _with_return(self, row: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], float]:
        """(row with the return since the last price, price)"""
        column = self.codec.returns
        if column is None:
            return row, math.nan
        price = self._number(row, column, where)
        if price <= 0:
            raise DataError(
                f"{where}, column {column!r}: {price:g} is not a price; returns need prices above 0"
            )
        last = float(self.memory.get("price") or math.nan)
        return {**row, RETURN: log_return(last, price)}, price

    def _price_memory(self, price: float) -> dict[str, Any]:
        if self.codec.returns is None:
            return {}
        return {"price": self.memory.get("price") if math.isnan(price) else price}

    def _other_inputs(self, row: Mapping[str, Any], steps: int, where: str) -> list[np.ndarray]:
        """The inputs that are known in advance, from `column+1`, `column+2`, … of the row, the
        words and the static ones.
        """
        codec, (mean, std, _) = self.codec, self._scaling
        require_columns(row, [*codec.words, *codec.static], where)
        parts = []
        for c in codec.known_numbers:
            at, number_format = codec.columns.index(c), codec.numbers.get(c)
            names = codec.ahead_columns(c)
            ahead = np.array([read_number(row, name, where, number_format) for name in names])
            _check_known(names, np.isnan(ahead), where)
            parts.append(np.tile((ahead - mean[0, at]) / std[0, at], (steps, 1)))
        for c, words in codec.words.items():  # the steps of a gap have none
            parts.append(one_hot([None] * (steps - 1) + [word_of(row[c])], words))
        for c in codec.known_words:
            names = codec.ahead_columns(c)
            words_ahead = [word_of(row.get(name)) for name in names]
            _check_known(names, np.array([word is None for word in words_ahead]), where)
            parts.append(np.tile(one_hot(words_ahead, codec.words[c]).ravel(), (steps, 1)))
        if codec.static:
            static = codec.one_hot({c: [str(row[c])] for c in codec.static})
            parts.append(np.repeat(static, steps, 0))
        return parts

    def _unknown_words(self, row: Mapping[str, Any]) -> dict[str, str]:
        unknown: dict[str, str] = {}
        for c, words in self.codec.words.items():
            names = [c, *(self.codec.ahead_columns(c) if c in self.codec.known else ())]
            for word in (word_of(row.get(name)) for name in names):
                if word is not None and word not in words:
                    unknown.setdefault(c, word)
        return unknown

    def _elapsed(self, last: int, now: int, where: str) -> int:
        """Steps since the last row."""
        clock = self.codec.clock
        if now < last:
            raise DataError(
                f"{where}: the time goes back ({self.codec.stamp(now)} after"
                f" {self.codec.stamp(last)})"
            )
        if clock.snap:
            return rounded_steps(clock, last, now)
        steps = clock.elapsed(last, now)
        if round(steps) < 1 or abs(steps - round(steps)) > MAX_STEP_ERROR:
            raise DataError(
                f"{where}: {self.codec.stamp(now)} is not a whole number of steps ({clock}) after"
                f" {self.codec.stamp(last)}"
            )
        return round(steps)


def _check_known(names: Sequence[str], missing: np.ndarray, where: str) -> None:
    """Raises `DataError` for the first of the columns `names` that is missing."""
    if missing.any():
        raise DataError(
            f"{where}: column {names[int(missing.argmax())]!r} is missing; it must be known in"
            " advance"
        )
