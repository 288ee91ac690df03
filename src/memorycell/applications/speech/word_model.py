"""A language model file of the task `text` as the word model of a lexicon search."""

from __future__ import annotations

import numpy as np

from memorycell.application import modelfile
from memorycell.errors import UserError
from memorycell.language.codec import END_ID, TextCodec
from memorycell.language.model import LanguageModel


class LanguageWordModel:
    """See `WordModel`. The probability of the end of a sentence is not used."""

    def __init__(self, model: LanguageModel, codec: TextCodec) -> None:
        self._codec, self._stepper = codec, model.stepper()
        self._cache: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray | None, float]] = {}

    def log_p(self, history: tuple[str, ...], word: str | None) -> float:
        """See `WordModel`."""
        if word is None:
            return 0.0
        return self._after((*history, word))[2] - self._after(history)[2]

    def _after(self, words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray | None, float]:
        """(state, log-probabilities of the next token, log-probability of the words)"""
        if words in self._cache:
            return self._cache[words]
        next_log_p: np.ndarray | None = None
        if words:
            state, next_log_p, total = self._after(words[:-1])
            state = state.copy()
            tokens = self._codec.encode(words[-1] if len(words) == 1 else " " + words[-1])
        else:
            state = np.zeros((1, self._stepper.layout.width), np.float32)
            total, tokens = 0.0, [END_ID]
        for token in tokens:
            total += 0.0 if next_log_p is None else float(next_log_p[token])
            next_log_p, _ = self._stepper.step_one(state, 0, np.array([token], np.float32))
        self._cache[words] = state, next_log_p, total
        return self._cache[words]


def load_word_model(path: str) -> LanguageWordModel:
    """Raises `UserError` for a file that is not a model of the task `text`."""
    file = modelfile.load(path)
    model, codec = file.model, file.codec
    if (
        file.task != "text"
        or not isinstance(model, LanguageModel)
        or not isinstance(codec, TextCodec)
    ):
        raise UserError(f"--set lm={path}: expected a model of the task text, got {file.task}")
    return LanguageWordModel(model, codec)
