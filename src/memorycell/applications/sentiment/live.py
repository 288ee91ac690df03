"""A classifier of texts at work: the label, how sure it is, and the words that mattered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import NoOptions
from memorycell.application.modelfile import ModelFile
from memorycell.applications.sentiment.codec import LONGEST, LabelledCodec
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.codec import normalise
from memorycell.models.batches import padded
from memorycell.models.classifier import Classifier
from memorycell.streaming.stream import Stream


@dataclass(frozen=True)
class Explaining:
    """What --set can say about an answer.

    words   whether to say which words mattered: "yes" or "no"
    """

    words: str = "yes"

    def __post_init__(self) -> None:
        if self.words not in ("yes", "no"):
            raise ValueError(f"words={self.words}: expected yes or no")


@torch.inference_mode()
def classify(file: ModelFile, texts: list[str]) -> np.ndarray:
    """Probabilities [N, classes] of texts. Raises `DataError` for one without any text."""
    codec, model = _parts(file)
    rows = []
    for k, text in enumerate(texts):
        tokens = codec.text.encode(text[:LONGEST])
        if not tokens:
            raise DataError(f"predict: text {k + 1} is empty")
        rows.append(np.array(tokens, np.int64))
    out = np.empty((len(rows), len(codec.labels)), np.float32)
    for begin in range(0, len(rows), 64):
        out[begin : begin + 64] = model.classify(*padded(rows[begin : begin + 64])).exp().numpy()
    return out


@torch.inference_mode()
def words_that_mattered(file: ModelFile, text: str) -> list[dict[str, Any]]:
    """Every word with its weight: by how much the probability of the answer falls when that word is
    left out (leave-one-out; Li, Monroe & Jurafsky 2016, arXiv:1612.08220). Positive ones spoke for
    the answer.
    """
    codec, model = _parts(file)
    spans = codec.text.spans(text[:LONGEST])
    tokens = [np.array(codec.text.encode_span(span), np.int64) for span in spans]
    unknown = np.zeros(1, np.int64)
    without = [
        np.concatenate([*tokens[:k], *tokens[k + 1 :]]) if len(spans) > 1 else unknown
        for k in range(len(spans))
    ]
    rows = [np.concatenate(tokens), *without]
    p = model.classify(*padded(rows)).exp().numpy()
    answer = int(p[0].argmax())
    return [
        {"word": span.strip(), "weight": round(float(p[0, answer] - p[k + 1, answer]), 4)}
        for k, span in enumerate(spans)
    ]


def predict(file: ModelFile, source: str | None, how: Explaining) -> dict[str, Any]:
    """`{"texts": [{"text", "label", "p", "probabilities", "words"}]}`, one a line of the source."""
    texts = [line for line in normalise(source or "").split("\n") if line.strip()]
    if not texts:
        raise DataError("predict: no text; give one, or a file of lines")
    codec, _ = _parts(file)
    records = []
    for text, p in zip(texts, classify(file, texts), strict=True):
        record = _record(codec, text, p)
        if len(text) > LONGEST:
            record["note"] = f"only the first {LONGEST:,} characters were read"
        if how.words == "yes":
            record["words"] = words_that_mattered(file, text)
        records.append(record)
    return {"texts": records}


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = []
    for one in record["texts"]:
        note = f"   [{one['note']}]" if "note" in one else ""
        lines.append(f"{one['label']} ({one['p']:.1%})  {one['text']}{note}")
        strongest = sorted(one.get("words", []), key=lambda w: -abs(w["weight"]))[:6]
        if strongest:
            lines.append("    " + "  ".join(f"{w['word']} {w['weight']:+.2f}" for w in strongest))
    return "\n".join(lines)


class LiveSentiment:
    """Words go in, the label so far comes out. Only a model that reads forward: --set
    direction=forward.
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.codec, model = _parts(file)
        if model.config.bidirectional:
            raise UserError(
                "stream: this model reads both ways and needs the whole text; train with --set"
                " direction=forward"
            )
        self._stream = Stream(model, precision, history=0)
        self.text = ""

    def line(self, text: str, number: int) -> dict[str, Any] | None:
        """What follows of a text: its label so far, and after every word; an empty line begins a
        new text.
        """
        if not text.strip():
            self._stream.reset()
            self.text = ""
            return None
        words = []
        p = np.zeros(0)
        for span in self.codec.text.spans(text):
            for token in self.codec.text.encode_span(span):
                p = np.exp(self._stream.step([float(token)]))
            words.append(
                {
                    "word": span.strip(),
                    "label": self.codec.labels[int(p.argmax())],
                    "p": round(float(p.max()), 4),
                }
            )
        if not words:
            raise DataError(f"stdin, line {number}: holds no word")
        self.text = f"{self.text} {text.strip()}".strip()
        return {**_record(self.codec, self.text, p), "words": words}

    def save(self, path: str | Path) -> None:
        """See `Live`."""
        self._stream.save(path, text=self.text)

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        text = self._stream.load(path).get("text")
        if not isinstance(text, str):
            raise StateError(f"{path}: not the state of a text; start without it")
        self.text = text


def _record(codec: LabelledCodec, text: str, p: np.ndarray) -> dict[str, Any]:
    k = int(p.argmax())
    shares = {label: round(float(v), 4) for label, v in zip(codec.labels, p, strict=True)}
    return {
        "text": text,
        "label": codec.labels[k],
        "p": round(float(p[k]), 4),
        "probabilities": shares,
    }


def _parts(file: ModelFile) -> tuple[LabelledCodec, Classifier]:
    if not (isinstance(file.codec, LabelledCodec) and isinstance(file.model, Classifier)):
        raise UserError("predict: not a classifier of texts")
    return file.codec, file.model
