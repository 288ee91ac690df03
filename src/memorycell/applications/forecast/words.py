"""Columns of words: categories that vary over time, such as the weather or the tariff.

A word is an input of its own that is 1 or 0, so that its input weights are the word's embedding.
One more input stands for every other word: rare, missing or not in training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import DataError, counted, quote
from memorycell.tables.cells import is_missing

if TYPE_CHECKING:
    import polars as pl

    from memorycell.applications.forecast.codec import SeriesCodec
    from memorycell.applications.forecast.series import Series

MAX_WORDS = 32
"""Words of a column that have an input each: the most frequent ones in training."""
MIN_WORD_COUNT = 3
"""Times that such a word occurs in training."""
MIN_COVERED_SHARE = 0.5
"""Share of the training steps whose word has an input; otherwise the column is text, not words."""
MAX_KNOWN_FEATURES = 2048
"""Inputs of a column of words that is known in advance."""
MAX_DEFAULT_WORDS = 16
"""Words of a column that may become an input although it is not named."""
WORD_DROPOUT = 0.02
"""Share of the steps in training whose words are replaced by another, unknown one."""
MAX_NOTED_WORDS = 5


def read_words(column: pl.Series) -> np.ndarray:
    """A column as [N] object: text without surrounding spaces, None where it is missing."""
    cells = [word_of(cell) for cell in column]
    return np.array([*cells, None], object)[:-1]


def word_of(cell: Any) -> str | None:
    """A cell as text; None if it is missing."""
    return None if is_missing(cell) else str(cell).strip()


def is_category(column: pl.Series, series: Sequence[np.ndarray]) -> bool:
    """Whether a column of text that is not named may be an input: it has few different words, and
    they vary within at least one of the series, given as their rows.
    """
    import polars as pl

    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    if not 2 <= column.n_unique() <= MAX_DEFAULT_WORDS + 1:
        return False
    words = read_words(column)
    return any(len({w for w in words[rows] if w is not None}) > 1 for rows in series)


def fit_words(
    series: Series, train: np.ndarray, columns: Sequence[str], where: str
) -> dict[str, tuple[str, ...]]:
    """Column -> its words in the training steps [N] bool, the most frequent first. Raises
    `DataError`.
    """
    return {c: _fit(series.words[c][train & (series.row >= 0)], c, where) for c in columns}


def _fit(values: np.ndarray, column: str, where: str) -> tuple[str, ...]:
    counts = Counter(word for word in values if word is not None)
    words = [w for w, count in counts.most_common(MAX_WORDS) if count >= MIN_WORD_COUNT]
    if len(counts) < 2:
        raise DataError(
            f"{where}: column {quote(column)} has one word, or none, in the training split; choose"
            " another"
        )
    if sum(counts[w] for w in words) < MIN_COVERED_SHARE * counts.total():
        raise DataError(
            f"{where}: column {quote(column)} has {len(counts):,} different words in"
            f" {counts.total():,} training rows, too many for an input; choose another"
        )
    return tuple(words)


def check_known_words(codec: SeriesCodec, where: str) -> None:
    """Raises `DataError` for words known in advance that would be too many inputs."""
    for c in codec.known_words:
        count = codec.reach * (len(codec.words[c]) + 1)
        if count > MAX_KNOWN_FEATURES:
            raise DataError(
                f"{where}: known={c}: {len(codec.words[c])} words at {codec.reach} steps ahead"
                f" would be {count:,} inputs, of at most {MAX_KNOWN_FEATURES:,}; use it as"
                f" inputs={c}, or a shorter horizon"
            )


def one_hot(values: Sequence[str | None] | np.ndarray, words: Sequence[str]) -> np.ndarray:
    """[N, words + 1] float32 of N words; the last input is that of other words."""
    index = {word: k for k, word in enumerate(words)}
    codes = np.array([index.get(value, len(words)) for value in values], np.int64)  # type: ignore[arg-type]
    return np.eye(len(words) + 1, dtype=np.float32)[codes]


def word_labels(words: Sequence[str]) -> list[str]:
    """What the inputs of `one_hot` stand for, after the name of the column."""
    return [*(f"is {word}" for word in words), "is another word"]


def drop_words(x: np.ndarray, widths: Sequence[int], begin: int, rng: np.random.Generator) -> None:
    """Replace words by another, unknown one, in place, so that its weights are trained.

    x        [..., F] inputs, of which those from `begin` are words
    widths   inputs of each word, the last one that of other words
    """
    for width in widths:
        dropped = rng.random(x.shape[:-1]) < WORD_DROPOUT
        x[dropped, begin : begin + width] = np.eye(width, dtype=x.dtype)[-1]
        begin += width


def unknown_word_notes(series: Series, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Says which words of a table were not in training, with the number of their steps."""
    notes = []
    for column, known in words.items():
        counts = Counter(w for w in series.words[column] if w is not None and w not in set(known))
        if not counts:
            continue
        names = ", ".join(quote(word) for word, _ in counts.most_common(MAX_NOTED_WORDS))
        more = ", …" if len(counts) > MAX_NOTED_WORDS else ""
        notes.append(
            f"column {quote(column)}: {counted(counts.total(), 'steps')} with words that the"
            f" model does not know ({names}{more}), read as one unknown word"
        )
    return notes


def training_notes(series: Series, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Says which words have an input each, and how many steps have another one."""
    notes = []
    for column, known in words.items():
        index = set(known)
        read = series.words[column][series.row >= 0]
        others = sum(word not in index for word in read)
        names = ", ".join(quote(word) for word in known[:MAX_NOTED_WORDS])
        more = f", … ({len(known)})" if len(known) > MAX_NOTED_WORDS else ""
        rest = f"; {others:,} of {len(read):,} steps with another or none" if others else ""
        notes.append(f"words of {quote(column)}: {names}{more}{rest}")
    return notes
