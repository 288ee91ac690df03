"""Continue a text, predict its next words and score it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.text.limits import LIMITS, is_unsure
from memorycell.applications.text.session import TextSession
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID, UNKNOWN_ID, TextCodec
from memorycell.language.files import check_encoding, input_text
from memorycell.language.model import LanguageModel
from memorycell.language.search import check_sampling
from memorycell.reading import normalise

MAX_PROMPT_CHARS = 100_000
MAX_LENGTH, MAX_NEXT_WORDS = 1_000_000, 1000


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    length        maximum number of tokens to generate
    temperature, top_k, top_p   of sampling, see `language.search.sample`
    seed          the same seed generates the same text
    stop          a text that ends the continuation and is not part of it
    top           number of next words
    encoding      of a text file, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    """

    length: int = 300
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: str | None = None
    top: int = 10
    encoding: str | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_k, self.top_p, self.seed)
        check_encoding(self.encoding)
        for name, limit in (("length", MAX_LENGTH), ("top", MAX_NEXT_WORDS)):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name}={getattr(self, name)}: expected 0 to {limit:,}")


def predict(
    file: ModelFile[LanguageModel, TextCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"text", "continuation", "next", "score"}`, and a "note" where the text was truncated."""
    if not isinstance(file.model, LanguageModel):
        raise UserError("predict: not a language model")
    text = input_text(source)
    size = len(text)
    text = text[-MAX_PROMPT_CHARS:]
    session = TextSession(file)
    session.read(text)
    next_words = session.next_words(options.top)
    continuation = session.generate(
        length=options.length,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        stop=options.stop,
    )
    record: Record = {
        "text": text,
        "continuation": "".join(continuation),
        "next": next_words,
        "score": score(file, text) if text else None,
    }
    if size > MAX_PROMPT_CHARS:
        record["note"] = f"only the last {MAX_PROMPT_CHARS:,} of {size:,} characters were read"
    return record


def score(file: ModelFile[LanguageModel, TextCodec], text: str) -> dict[str, Any]:
    """The likelihood of a text: nats and perplexity per token, bits per character, the number of
    unknown tokens, whether the text is unlike the training text ("unsure"), and the nats of every
    token. Raises `DataError` for an empty text.
    """
    codec = file.codec
    tokens = codec.encode(text)
    if not tokens:
        raise DataError("predict: no text to score")
    sequence = torch.tensor([[END_ID, *tokens]])
    nats = file.model.nats(sequence[:, :-1], sequence[:, 1:])[0].double().numpy()
    return {
        "nats": float(nats.mean()),
        "perplexity": math.exp(min(float(nats.mean()), 700.0)),
        "bits_per_character": float(nats.sum()) / math.log(2) / len(normalise(text)),
        "unknown": tokens.count(UNKNOWN_ID),
        **({"unsure": is_unsure(file.arrays, nats)} if LIMITS in file.arrays else {}),
        "tokens": [
            {"token": codec.surfaces[t], "nats": round(float(n), 4)}
            for t, n in zip(tokens, nats, strict=True)
        ],
    }


def render(record: dict[str, Any]) -> str:
    """See `Application`."""
    lines = [record["text"] + record["continuation"], ""]
    if record["next"]:
        lines.append("next: " + "  ".join(f"{w['word']} {w['p']:.1%}" for w in record["next"]))
    if record["score"]:
        lines.append(
            "input text: {nats:.3f} nats per token, perplexity {perplexity:.3g},"
            " {bits_per_character:.3f} bits per character".format(**record["score"])
        )
        if record["score"].get("unsure"):
            lines.append("unsure: this text is unlike the text that the model was trained on")
    if "note" in record:
        lines.append(record["note"])
    return "\n".join(lines)
