"""Text codec: text to token ids and back.

The surface of a token is the text it stands for; a text is the surfaces of its tokens joined. The
units are

    char    a grapheme cluster (Unicode UAX #29): a Hindi syllable or an emoji of several code
            points is one token
    word    a word, number or punctuation mark, with the space before it
    piece   a subword of a sentencepiece model (Kudo & Richardson 2018, arXiv:1808.06226), with the
            space before it

Text is normalised to Unicode NFC with LF as newline. The units word and piece reduce other
whitespace between words to one space.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from memorycell.errors import DataError
from memorycell.reading import normalise
from memorycell.setting_fields import from_json

UNITS = ("char", "word", "piece")
UNKNOWN, END = "<unk>", "<end>"
"""The first two tokens: out of vocabulary, and end of text."""
UNKNOWN_ID, END_ID = 0, 1
"""Their token ids."""
PLACEHOLDERS = "".join(chr(0xE000 + k) for k in range(10))
"""Characters of Unicode's private use area that replace text which a translation must copy."""
MAX_CACHED_SPANS = 200_000
MAX_SURFACES = 1_000_000
MAX_LINE_CHARS = 4000
"""Longer lines are split for sentencepiece, which skips them otherwise."""
SPANS = {
    "char": r"\X",
    "word": (
        rf"\n|[{PLACEHOLDERS}]|[^\S\n]+(?=[{PLACEHOLDERS}])"
        r"|[^\S\n]*(?:\p{L}[\p{L}\p{M}\p{N}'’\u200c\u200d]*|\p{N}+|(?!\s)\X)"
    ),
    "piece": r"\n|[^\S\n]*\S+",
}
"""Unit -> the spans that are encoded independently: grapheme clusters; words, numbers and
punctuation marks; or text without whitespace. Newlines are spans. Spans include the whitespace
before them, except placeholders.
"""


@dataclass(frozen=True)
class TextCodec:
    """A vocabulary of surfaces.

    unit        "char", "word" or "piece"
    surfaces    token id -> surface: `UNKNOWN`, `END`, further special tokens (<…>), then text
    num_special number of special tokens
    pieces      the sentencepiece model for the unit "piece" (protocol buffer in base64)
    lower       text is converted to lower case
    """

    kind: ClassVar[str] = "text"
    unit: str
    surfaces: tuple[str, ...]
    num_special: int = 2
    pieces: str = ""
    lower: bool = False

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def token_ids(self) -> dict[str, int]:
        """Surface -> token id."""
        return {surface: k for k, surface in enumerate(self.surfaces)}

    @cached_property
    def _processor(self) -> Any:
        return _load_sentencepiece(base64.b64decode(self.pieces, validate=True))

    @cached_property
    def _span_cache(self) -> dict[str, list[int]]:
        return {}

    # ---- text to tokens --------------------------------------------------------------------------

    def split_spans(self, text: str, line_start: bool = True) -> list[tuple[str, int]]:
        """The spans of a normalised text that are encoded independently (see `SPANS`), each with
        the position where it ends. `line_start`: the text is at the start of a line.
        """
        import regex  # `re` supports neither \\X nor \\p

        matches = regex.finditer(SPANS[self.unit], text)
        if self.unit == "char":
            return [(m.group(), m.end()) for m in matches]
        spans: list[tuple[str, int]] = []
        for match in matches:
            span = match.group()
            if span != "\n" and (line_start or span[0].isspace()) and span not in PLACEHOLDERS:
                span = " " + span.lstrip()  # one space, also at the start of a line
            line_start = span == "\n"
            spans.append((span, match.end()))
        return spans

    def encode(self, text: str) -> list[int]:
        """Token ids; `UNKNOWN_ID` for what is not in the vocabulary."""
        return [token for span in self.spans(text) for token in self.encode_span(span)]

    def spans(self, text: str) -> list[str]:
        """The spans of a text; see `split_spans`."""
        return [span for span, _ in self.split_spans(self.normalise(text))]

    def normalise(self, text: str) -> str:
        """The text in the form that is encoded: see the function `normalise`, and `lower`. Halves
        of surrogate pairs become question marks.
        """
        text = normalise(text)
        text = text if text.isascii() else text.encode(errors="replace").decode()
        return text.lower() if self.lower else text

    def encode_span(self, span: str) -> list[int]:
        """Token ids of one span."""
        if self.unit != "piece" or span == "\n":
            return [self.token_ids.get(span, UNKNOWN_ID)]
        cached = self._span_cache.get(span)
        if cached is None:
            if len(self._span_cache) > MAX_CACHED_SPANS:  # bounds the memory of endless streams
                self._span_cache.clear()
            parts = self._processor.encode(span.replace(" ", "▁"), out_type=str)
            cached = self._span_cache[span] = [
                self.token_ids.get(part.replace("▁", " "), UNKNOWN_ID) for part in parts
            ]
        return cached

    def encode_sampled(self, text: str, alpha: float) -> list[int]:
        """Token ids of a text in pieces that are sampled: of all segmentations of a word, by their
        probability to the power of alpha (subword regularisation, Kudo 2018, arXiv:1804.10959). The
        numbers are those of sentencepiece's own generator, see its `set_random_generator_seed`.
        """
        tokens: list[int] = []
        for span in self.spans(text):
            if self.unit != "piece" or span == "\n":
                tokens += self.encode_span(span)
                continue
            parts = self._processor.encode(
                span.replace(" ", "▁"),
                out_type=str,
                enable_sampling=True,
                alpha=alpha,
                nbest_size=-1,
            )
            tokens += [self.token_ids.get(p.replace("▁", " "), UNKNOWN_ID) for p in parts]
        return tokens

    # ---- tokens to text --------------------------------------------------------------------------

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of token ids: � for `UNKNOWN_ID`, nothing for other special tokens."""
        surfaces = (
            "�" if t == UNKNOWN_ID else self.surfaces[t]
            for t in tokens
            if t == UNKNOWN_ID or t >= self.num_special
        )
        return self.strip_line_starts("".join(surfaces))

    def strip_line_starts(self, text: str) -> str:
        """Joined surfaces without the space at the start of each line."""
        return text if self.unit == "char" else text.replace("\n ", "\n").removeprefix(" ")

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": len(self)}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {
            "unit": self.unit,
            "surfaces": list(self.surfaces),
            "marks": self.num_special,
            "pieces": self.pieces,
            "lower": self.lower,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextCodec:
        """See `Codec`."""
        stored = from_json(_Description, data)
        codec = cls(stored.unit, stored.surfaces, stored.marks, stored.pieces, stored.lower)
        if (
            len(codec.token_ids) != len(codec)
            or codec.surfaces[:2] != (UNKNOWN, END)
            or not codec.num_special < len(codec)
        ):
            raise ValueError("the vocabulary is incomplete or has duplicates")
        if (codec.unit == "piece") != bool(codec.pieces):
            raise ValueError(f"a sentencepiece model does not go with the unit {codec.unit}")
        if codec.pieces and codec.surfaces[codec.num_special :] != _surfaces(codec._processor):
            raise ValueError("the vocabulary is not that of the sentencepiece model")
        return codec


@dataclass(frozen=True)
class _Description:
    """`TextCodec.to_json`."""

    unit: Literal["char", "word", "piece"]
    surfaces: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=MAX_SURFACES)
    ]
    marks: Annotated[int, Meta(ge=2)]
    pieces: str
    lower: bool


def fit_text_codec(
    texts: Sequence[str],
    unit: str,
    *,
    vocabulary: int,
    special_tokens: Sequence[str] = (),
    lower: bool = False,
    separate: str = "",
) -> TextCodec:
    """A codec with the most frequent surfaces of training texts.

    vocabulary       maximum number of tokens; surfaces that occur once are dropped for the unit
                     word, and where surfaces occur 20 times on average
    special_tokens   after `UNKNOWN` and `END`
    separate         characters that are tokens of their own, never part of a longer piece

    Raises `DataError` for too little text.
    """
    special = (UNKNOWN, END, *special_tokens)
    size = vocabulary - len(special)
    if unit == "piece":
        texts = [text.lower() for text in texts] if lower else texts
        pieces, surfaces = _train_sentencepiece(texts, size, separate)
        return TextCodec(unit, (*special, *surfaces), len(special), pieces, lower)
    blank = TextCodec(unit, special, len(special), lower=lower)
    counts = Counter(span for text in texts for span in blank.spans(text))
    ordered = sorted(counts, key=lambda s: (-counts[s], s))
    min_count = 2 if sum(counts.values()) > 20 * len(counts) or unit == "word" else 1
    frequent = [s for s in ordered if counts[s] >= min_count and s not in special]
    surfaces = frequent[:size] or ordered[:1]
    surfaces += [c for c in (*separate, " ") if separate and c not in surfaces]
    if not surfaces:
        raise DataError("no text to learn from")
    return TextCodec(unit, (*special, *surfaces), len(special), lower=lower)


def _train_sentencepiece(texts: Sequence[str], size: int, separate: str) -> tuple[str, list[str]]:
    """(the model in base64, its surfaces)."""
    import sentencepiece

    spans = TextCodec("piece", (UNKNOWN, END))
    lines = (
        "".join(spans.spans(line))
        for text in texts
        for line in normalise(text).split("\n")
        if line.strip()
    )
    parts = (
        line[k : k + MAX_LINE_CHARS] for line in lines for k in range(0, len(line), MAX_LINE_CHARS)
    )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=parts,
            model_writer=model,
            vocab_size=size + 1,
            model_type="unigram",
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            character_coverage=0.9999,
            user_defined_symbols=list(separate),
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1][:120]
        raise DataError(
            f"too little text to train a sentencepiece model ({reason}); add more text, or --set"
            " unit=char"
        ) from None
    proto = model.getvalue()
    return base64.b64encode(proto).decode(), list(_surfaces(_load_sentencepiece(proto)))


def _load_sentencepiece(proto: bytes) -> Any:
    """Raises ValueError for bytes that are not a model."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        if proto and processor.LoadFromSerializedProto(proto) and processor.get_piece_size() > 1:
            return processor
    except Exception as error:  # sentencepiece documents no exception types
        raise ValueError(f"the sentencepiece model is damaged ({error})") from None
    raise ValueError("the sentencepiece model is damaged")


def _surfaces(processor: Any) -> tuple[str, ...]:
    """The surfaces of a sentencepiece model after the special tokens: a newline, then its pieces
    but the unknown one.
    """
    pieces = (processor.id_to_piece(k) for k in range(1, processor.get_piece_size()))
    return ("\n", *(s for s in (piece.replace("▁", " ") for piece in pieces) if s != "\n"))


def fingerprint(texts: Iterable[str]) -> str:
    """16 hexadecimal digits of SHA-256 over the texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
