"""A live text classifier: words in, the label of the text so far out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.limits import Limits
from memorycell.applications.sentiment.mixing import Mixture
from memorycell.applications.sentiment.predict import label_record, unsure_record
from memorycell.errors import DataError, UserError
from memorycell.language.lines import LineReader
from memorycell.language.search import token_input
from memorycell.language.snapshots import read_extra
from memorycell.models.classifier import Classifier
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream


class SentimentSession:
    """Classifies a text as it is read. Raises `UserError` for a bidirectional model."""

    def __init__(
        self,
        file: ModelFile[Classifier, LabelledCodec],
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        if file.model.config.bidirectional:
            raise UserError(
                "stream: this model is bidirectional and needs the full text; train with --set"
                " direction=forward"
            )
        self.codec = file.codec
        self._stream = Stream(file.model, precision, history=0)
        self._lines = LineReader()
        self._limits, self._mixture = Limits.of(file.arrays), Mixture.of(file.arrays)
        self.text = ""
        """The text so far."""

    def feed(self, item: Item) -> list[Record]:
        """The label after the next line of the text and after each of its words: `{"text", "label",
        "p", "probabilities", "unknown", "unsure", "words"}`; an empty line begins a new text.
        """
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        line = self._lines.read(item)
        if not line.strip():
            self._stream.reset()
            self.text = ""
            return []
        spans = self.codec.text.spans(line)
        if not spans:
            raise DataError(f"{self._lines.place}: contains no word")
        rows, texts, text = [], [], self.text
        for span in spans:
            for token in self.codec.text.encode_span(span):
                p = np.exp((yield self._stream, token_input(token)))
            text += span
            rows.append(p)
            texts.append(text)
        self.text = f"{self.text} {line.strip()}".strip()
        texts[-1] = self.text
        p_words = self._mixture.mix(np.stack(rows), texts)
        words = [
            {
                "word": span.strip(),
                "label": self.codec.labels[int(p.argmax())],
                "p": round(float(p.max()), 4),
            }
            for span, p in zip(spans, p_words, strict=True)
        ]
        record = label_record(self.codec, self.text, p_words[-1], self._limits.unknown_below)
        record |= unsure_record(self._limits, self.codec, self.text, p_words[-1])
        return [{**record, "words": words}]

    def close(self) -> list[Record]:
        """See `Session`: nothing."""
        return []

    def fork(self) -> SentimentSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream, other._lines = self._stream.fork(), copy.copy(self._lines)
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot(text=self.text)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        saved = read_extra(_Saved, extra, "sentiment")
        self._stream.state = state
        self.text = saved.text


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds besides the state of the layers."""

    text: str
