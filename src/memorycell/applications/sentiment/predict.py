"""Classify texts, and weigh their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.limits import Limits
from memorycell.applications.sentiment.mixing import Mixture
from memorycell.applications.sentiment.reading import MAX_TEXT_CHARS
from memorycell.errors import DataError, UserError
from memorycell.language.codec import UNKNOWN_ID
from memorycell.language.files import check_encoding, input_text
from memorycell.models.batches import padded
from memorycell.models.classifier import Classifier
from memorycell.signals.unknown import UNKNOWN_LABEL

BATCH_SIZE = 64
NUM_RENDERED_WORDS = 6


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    words      also give the weights of the words: yes or no
    encoding   of a text file, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    """

    words: bool = True
    encoding: str | None = None

    def __post_init__(self) -> None:
        check_encoding(self.encoding)


def predict(
    file: ModelFile[Classifier, LabelledCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"texts": [{"text", "label", "p", "probabilities", "unknown", "unsure", "words"}]}`, one per
    line.
    """
    if not (isinstance(file.codec, LabelledCodec) and isinstance(file.model, Classifier)):
        raise UserError("predict: not a text classifier")
    texts = [line for line in input_text(source).split("\n") if line.strip()]
    if not texts:
        raise DataError("predict: no text; give one, or a file of lines")
    records = []
    limits = Limits.of(file.arrays)
    for text, p in zip(texts, classify(file, texts), strict=True):
        record = label_record(file.codec, text, p, limits.unknown_below)
        record |= unsure_record(limits, file.codec, text, p)
        if len(text) > MAX_TEXT_CHARS:
            record["note"] = f"only the first {MAX_TEXT_CHARS:,} characters were read"
        if options.words:
            record["words"] = word_weights(file, text)
        records.append(record)
    return {"texts": records}


@torch.inference_mode()
def classify(file: ModelFile[Classifier, LabelledCodec], texts: list[str]) -> np.ndarray:
    """Probabilities [N, classes] float32 of texts. Raises `DataError` for an empty one."""
    tokens = []
    for k, text in enumerate(texts):
        ids = file.codec.text.encode(text[:MAX_TEXT_CHARS])
        if not ids:
            raise DataError(f"predict: text {k + 1} is empty")
        tokens.append(np.array(ids, np.int64))
    cut = [text[:MAX_TEXT_CHARS] for text in texts]
    return Mixture.of(file.arrays).mix(_probabilities(file, tokens), cut)


def _probabilities(
    file: ModelFile[Classifier, LabelledCodec], tokens: list[np.ndarray]
) -> np.ndarray:
    """[N, classes] float32."""
    p = np.empty((len(tokens), len(file.codec.labels)), np.float32)
    for begin in range(0, len(tokens), BATCH_SIZE):
        batch = slice(begin, begin + BATCH_SIZE)
        p[batch] = file.model.classify(*padded(tokens[batch])).exp().numpy()
    return p


@torch.inference_mode()
def word_weights(file: ModelFile[Classifier, LabelledCodec], text: str) -> list[dict[str, Any]]:
    """`{"word", "weight"}` of every word: the probability of the predicted label minus that without
    the word (leave-one-out; Li, Monroe & Jurafsky 2016, arXiv:1612.08220). The probabilities are
    those of `classify`: of the network, and of the linear model where it is mixed in.
    """
    codec, cut = file.codec.text, text[:MAX_TEXT_CHARS]
    spans = codec.spans(cut)
    tokens = [np.array(codec.encode_span(span), np.int64) for span in spans]
    without = [
        np.concatenate([*tokens[:k], *tokens[k + 1 :]])
        if len(spans) > 1
        else np.array([UNKNOWN_ID], np.int64)
        for k in range(len(spans))
    ]
    # The linear model reads text: the one that is given, and the codec's form of it, from which
    # the words are removed.
    texts = [cut, "".join(spans), *("".join(spans[:k] + spans[k + 1 :]) for k in range(len(spans)))]
    complete = np.concatenate(tokens)
    network = _probabilities(file, [complete, *without])
    p = Mixture.of(file.arrays).mix(network[[0, 0, *range(1, len(network))]], texts)
    label = int(p[0].argmax())
    return [
        {"word": span.strip(), "weight": round(float(p[1, label] - p[k + 2, label]), 4)}
        for k, span in enumerate(spans)
    ]


def label_record(
    codec: LabelledCodec, text: str, p: np.ndarray, unknown_below: float = 0.0
) -> dict[str, Any]:
    """`{"text", "label", "p", "probabilities"}` of probabilities [classes]. Below `unknown_below`
    the label is "unknown", and `nearest` the most probable one.
    """
    k = int(p.argmax())
    record: dict[str, Any] = {
        "text": text,
        "label": codec.labels[k],
        "p": round(float(p[k]), 4),
        "probabilities": {
            label: round(float(v), 4) for label, v in zip(codec.labels, p, strict=True)
        },
    }
    if p[k] < unknown_below:
        record |= {"label": UNKNOWN_LABEL, "nearest": codec.labels[k]}
    return record


def unsure_record(limits: Limits, codec: LabelledCodec, text: str, p: np.ndarray) -> dict[str, Any]:
    """`{"unknown", "unsure"}`: the share of the text's tokens that are not in the vocabulary."""
    tokens = codec.text.encode(text[:MAX_TEXT_CHARS])
    unknown = tokens.count(UNKNOWN_ID) / max(len(tokens), 1)
    return {"unknown": round(unknown, 4), "unsure": limits.is_unsure(float(p.max()), unknown)}


def render(record: dict[str, Any]) -> str:
    """See `Application`."""
    lines = []
    for text in record["texts"]:
        note = "   (unsure)" if text["unsure"] else ""
        if text["unknown"] > 0:
            note += f"   ({text['unknown']:.0%} of the words unknown)"
        note += f"   [{text['note']}]" if "note" in text else ""
        nearest = f"nearest {text['nearest']}, " if "nearest" in text else ""
        lines.append(f"{text['label']} ({nearest}{text['p']:.1%})  {text['text']}{note}")
        words = sorted(text.get("words", []), key=lambda w: -abs(w["weight"]))[:NUM_RENDERED_WORDS]
        if words:
            lines.append("    " + "  ".join(f"{w['word']} {w['weight']:+.2f}" for w in words))
    return "\n".join(lines)
