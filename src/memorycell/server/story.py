"""The readers of the article's story as a live session: one word in; the gates of the LSTM and the
predicted answers of the LSTM and two plain RNNs out.

    the peacock dances in the rain . then the panda eats bamboo . … so this country is → china
"""

from __future__ import annotations

import base64
import copy
import difflib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.application.contract import Item, Record
from memorycell.errors import DataError, StateError, UserError, quote
from memorycell.lab.reader import EMBEDDING_SIZE, HIDDEN_SIZE, Reader
from memorycell.lab.stories import (
    ACTIONS,
    ANIMALS,
    ARTICLE_STORY,
    COUNTRIES,
    FILLERS,
    QUESTION,
    TOKEN_IDS,
    VOCABULARY,
)
from memorycell.lab.trained_readers import LSTM, shipped_readers
from memorycell.reading import decode_text
from memorycell.setting_fields import from_json, parse_json
from memorycell.streaming.stream import Stream

NAME = "story"
FORMAT = "memorycell-story-1"
MAX_WORDS = 2000
TITLES = {"lstm": "LSTM", "rnn": "plain RNN", "rnn_long": "plain RNN, trained longer"}


@cache
def _readers() -> tuple[dict[str, Reader], dict[str, int]]:
    return shipped_readers()


def open_story(precision: str = "float32", options: object = None) -> StorySession:
    """A new session. Raises `UserError` for another precision than float32."""
    if precision != "float32":
        raise UserError(f"story: runs in float32, not {precision}")
    return StorySession()


def about() -> Record:
    """What the page shows before the first word."""
    readers, updates = _readers()
    return {
        "name": NAME,
        "task": NAME,
        "summary": "Answers which country the last scene of a story was in",
        "story": ARTICLE_STORY,
        "question": list(QUESTION),
        "countries": list(COUNTRIES),
        "animals": {country: list(pair) for country, pair in ANIMALS.items()},
        "actions": list(ACTIONS),
        "fillers": list(FILLERS),
        "vocabulary": list(VOCABULARY),
        "readers": [
            {
                "name": name,
                "title": TITLES[name],
                "updates": updates[name],
                "parameters": sum(p.numel() for p in reader.parameters()),
            }
            for name, reader in readers.items()
        ],
        "embedding_size": EMBEDDING_SIZE,
        "hidden_size": HIDDEN_SIZE,
    }


@dataclass(frozen=True)
class _Saved:
    """A snapshot: the number of words, how many words of the question came last, and the states."""

    format: str
    words: int
    asked: int
    states: dict[str, str]


class StorySession:
    """See `Session`: a word in, a record out.

    `"belief"`      reader -> probability of each country, were the question asked now: the state is
                    forked, and the copy reads a full stop and the question
    `"gates"`       i, f, g, o, c, h of the LSTM, [48] each
    `"evidence"`    [48] what each unit adds to the score of the predicted answer at the question
    `"dropped"`     |(1 - f) c_{t-1}| / |c_{t-1}|
    `"written"`     |i g| / |c_t|
    `"let_out"`     |h_t| / |tanh c_t|
    """

    def __init__(self) -> None:
        readers, _ = _readers()
        self._readers = readers
        self._streams = {
            name: Stream(reader.recurrent, history=0) for name, reader in readers.items()
        }
        self.words, self._asked = 0, 0

    def feed(self, item: Item) -> list[Record]:
        """One record per word of a line. Raises `DataError` for a word that the readers do not
        know; nothing is then read.
        """
        if not isinstance(item, (str, bytes)):
            raise DataError("story: expected words, such as the peacock dances")
        text = decode_text(item, "story") if isinstance(item, bytes) else item
        words = text.lower().split()
        for word in words:
            if word not in TOKEN_IDS:
                near = difflib.get_close_matches(word, VOCABULARY, 1)
                hint = f"did you mean {near[0]}?" if near else "use the words of the list"
                raise DataError(f"story: the readers do not know {quote(word)}; {hint}")
        if self.words + len(words) > MAX_WORDS:
            raise DataError(f"story: at most {MAX_WORDS:,} words; start again")
        return [self._read(word) for word in words]

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def _read(self, word: str) -> Record:
        gates, before = self._lstm_gates(word)
        for name, stream in self._streams.items():
            stream.step(self._embed(name, word))
        self.words += 1
        continues = self._asked < len(QUESTION) and word == QUESTION[self._asked]
        self._asked = self._asked + 1 if continues else int(word == QUESTION[0])
        ask = list(QUESTION[self._asked :])
        if not self._asked and word != ".":
            ask.insert(0, ".")
        hidden = {name: self._ask(name, ask) for name in self._streams}
        belief = {name: self._probabilities(name, h) for name, h in hidden.items()}
        best = int(belief[LSTM].argmax())
        forget, c = gates["f"], gates["c"]
        size = float(np.linalg.norm(before))
        write = float(np.linalg.norm(gates["i"] * gates["g"]))
        return {
            "word": word,
            "answer": COUNTRIES[best],
            "p": round(float(belief[LSTM][best]), 4),
            "belief": {name: _rounded(p) for name, p in belief.items()},
            "dropped": float(np.linalg.norm((1 - forget) * before)) / size if size else 0.0,
            "written": write / max(float(np.linalg.norm(c)), 1e-9),
            "let_out": float(
                np.linalg.norm(gates["h"]) / max(float(np.linalg.norm(np.tanh(c))), 1e-9)
            ),
            "gates": {name: _rounded(value) for name, value in gates.items()},
            "evidence": _rounded(self._evidence(hidden[LSTM], best)),
        }

    @torch.no_grad()
    def _lstm_gates(self, word: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """(gate -> [H] at this word, c before it [H])."""
        state = self._streams[LSTM].state
        x = torch.from_numpy(self._embed(LSTM, word))[None, None]
        _, _, trace = self._readers[LSTM].recurrent(x, tuple(state), trace=True)
        return {name: value[0, 0].numpy() for name, value in trace[0].items()}, state[1][
            0, 0
        ].numpy()

    @torch.no_grad()
    def _embed(self, name: str, word: str) -> np.ndarray:
        vector: Tensor = self._readers[name].words.weight[TOKEN_IDS[word]]
        return vector.numpy()

    def _ask(self, name: str, words: list[str]) -> np.ndarray:
        """[H]: h after a copy of the state has read the words."""
        stream = self._streams[name]
        if not words:
            return stream.state[0][-1, 0].numpy()
        return stream.fork().step(np.stack([self._embed(name, word) for word in words]))[-1]

    @torch.no_grad()
    def _probabilities(self, name: str, hidden: np.ndarray) -> np.ndarray:
        """[countries]."""
        logits: Tensor = self._readers[name].country(torch.from_numpy(hidden))
        return logits.softmax(-1).numpy()

    @torch.no_grad()
    def _evidence(self, hidden: np.ndarray, best: int) -> np.ndarray:
        """[H]: its share of the logit of the best country above the mean of all."""
        weight = self._readers[LSTM].country.weight.numpy()
        evidence: np.ndarray = (weight[best] - weight.mean(0)) * hidden
        return evidence

    def fork(self) -> StorySession:
        """An independent session with the same state."""
        other = copy.copy(self)
        other._streams = {name: stream.fork() for name, stream in self._streams.items()}
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        states = {
            name: base64.b64encode(stream.snapshot(words=self.words, asked=self._asked)).decode()
            for name, stream in self._streams.items()
        }
        saved = {"format": FORMAT, "words": self.words, "asked": self._asked, "states": states}
        return json.dumps(saved).encode()

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        try:
            saved = from_json(_Saved, parse_json(data))
            counts = {"words": saved.words, "asked": saved.asked}
            if saved.format != FORMAT or set(saved.states) != set(self._streams):
                raise ValueError("another format")
            restored = {name: stream.fork() for name, stream in self._streams.items()}
            for name, stream in restored.items():
                extra: Any = stream.restore(base64.b64decode(saved.states[name], validate=True))
                if extra != counts or not 0 <= saved.asked <= len(QUESTION) or saved.words < 0:
                    raise ValueError("the counts differ")
        except (ValueError, TypeError, StateError):
            raise StateError("not the state of a story; start without it") from None
        self._streams, self.words, self._asked = restored, saved.words, saved.asked


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 4) for v in values]
