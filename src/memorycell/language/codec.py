"""Text codec: from text to tokens and back, whole or as it is typed.

A token has a surface, the text it stands for, and the text is its tokens' surfaces one after
another. Three units:

    char    what a reader takes for one character: a grapheme cluster (Unicode UAX #29), so that a
            Hindi syllable, or an emoji of several code points, is one
    word    a word or a sign, with the space before it
    piece   a part of a word, learnt by sentencepiece (Kudo & Richardson 2018, arXiv:1808.06226),
            with the space before it

Text is brought to Unicode's form NFC and to newlines of one kind. Words and pieces keep one space
between words, whatever stood there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from memorycell.errors import DataError

UNITS = ("char", "word", "piece")
UNKNOWN, END = "<unk>", "<end>"
"""The first two tokens: what is not in the vocabulary, and where a text ends."""
UNKNOWN_ID, END_ID = 0, 1
"""Their token ids."""
HELD = "".join(chr(0xE000 + k) for k in range(10))
"""Characters of Unicode's private use area that stand for what a translation must not change; see
`data.pairs`.
"""
SPANS = {
    "char": r"\X",
    "word": (
        rf"\n|[{HELD}]|[^\S\n]+(?=[{HELD}])"
        r"|[^\S\n]*(?:\p{L}[\p{L}\p{M}\p{N}'’\u200c\u200d]*|\p{N}+|(?!\s)\X)"
    ),
    "piece": r"\n|[^\S\n]*\S+",
}
"""What is encoded each on its own: a character; a line's end; a word, a number or a sign; what
stands between two blanks. All with the blanks before them, but for what is held.
"""


@dataclass(frozen=True)
class TextCodec:
    """A vocabulary of surfaces.

    unit        "char", "word" or "piece"
    surfaces    token number -> surface; `UNKNOWN` and `END` first, then further marks (names in
                <…>), then text
    marks       how many of the first are no text
    pieces      the sentencepiece model (its protocol buffer in base64) where the unit is "piece"
    lower       capital letters are read as small ones
    """

    kind: ClassVar[str] = "text"
    unit: str
    surfaces: tuple[str, ...]
    marks: int = 2
    pieces: str = ""
    lower: bool = False

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Surface -> token number."""
        return {surface: k for k, surface in enumerate(self.surfaces)}

    @cached_property
    def _processor(self) -> Any:
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=base64.b64decode(self.pieces))

    @cached_property
    def _spans(self) -> dict[str, list[int]]:
        return {}

    # ---- text to tokens --------------------------------------------------------------------------

    def cut(self, text: str, begins: bool = True) -> list[tuple[str, int]]:
        """The spans that are encoded each on its own (characters, words, or what stands between two
        blanks), each with the place in the text where it ends. `begins`: the text stands where a
        line begins.
        """
        import regex  # the standard library's knows neither \\X nor \\p

        matches = regex.finditer(SPANS[self.unit], text)
        if self.unit == "char":
            return [(m.group(), m.end()) for m in matches]
        spans: list[tuple[str, int]] = []
        for match in matches:
            span = match.group()
            if span != "\n" and (begins or span[0].isspace()) and span not in HELD:
                span = " " + span.lstrip()  # one blank, also where a line begins
            begins = span == "\n"
            spans.append((span, match.end()))
        return spans

    def encode(self, text: str) -> list[int]:
        """Token numbers. What is not in the vocabulary is token 0."""
        return [number for span in self.spans(text) for number in self.encode_span(span)]

    def spans(self, text: str) -> list[str]:
        """The spans of a text as people write it."""
        return [span for span, _ in self.cut(self.normalise(text))]

    def normalise(self, text: str) -> str:
        """A text as it is read: see `normalise`; in small letters where capitals do not count."""
        text = normalise(text)
        return text.lower() if self.lower else text

    def encode_span(self, span: str) -> list[int]:
        """Token numbers of one span."""
        if self.unit != "piece" or span == "\n":
            return [self.numbers.get(span, 0)]
        cached = self._spans.get(span)
        if cached is None:
            if len(self._spans) > 200_000:  # a stream may bring new words for ever
                self._spans.clear()
            parts = self._processor.encode(span.replace(" ", "▁"), out_type=str)
            cached = self._spans[span] = [
                self.numbers.get(part.replace("▁", " "), 0) for part in parts
            ]
        return cached

    # ---- tokens to text --------------------------------------------------------------------------

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens. Marks are left out, but for what is unknown, which is shown as �."""
        shown = ("�" if t == 0 else self.surfaces[t] for t in tokens if t == 0 or t >= self.marks)
        return self.tidy("".join(shown))

    def tidy(self, text: str) -> str:
        """Joined surfaces as people write them: no space where a line begins."""
        return text if self.unit == "char" else text.replace("\n ", "\n").removeprefix(" ")

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"vocabulary": len(self)}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return {
            "unit": self.unit,
            "surfaces": list(self.surfaces),
            "marks": self.marks,
            "pieces": self.pieces,
            "lower": self.lower,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(
            str(data["unit"]),
            tuple(data["surfaces"]),
            int(data["marks"]),
            str(data["pieces"]),
            data["lower"] is True,
        )
        if codec.unit not in UNITS or not all(isinstance(s, str) for s in codec.surfaces):
            raise ValueError("not a text codec")
        if (
            len(codec.numbers) != len(codec)
            or codec.surfaces[:2] != (UNKNOWN, END)
            or not 2 <= codec.marks < len(codec)
        ):
            raise ValueError("the vocabulary is not whole")
        if codec.unit == "piece":
            try:
                codec._processor.get_piece_size()
            except Exception as error:  # sentencepiece raises what it likes
                raise ValueError(f"the sentencepiece model is damaged ({error})") from None
        return codec


def fit(
    texts: Sequence[str],
    unit: str,
    *,
    vocabulary: int,
    marks: Sequence[str] = (),
    lower: bool = False,
    apart: str = "",
) -> TextCodec:
    """A codec from training texts: the most frequent surfaces, at most `vocabulary` of them, each
    seen twice or more where there are many. `apart` are characters that are never joined with
    others into a piece. Raises `DataError` for texts too small to learn pieces from.
    """
    names = (UNKNOWN, END, *marks)
    if unit == "piece":
        texts = [text.lower() for text in texts] if lower else texts
        pieces, surfaces = _learn_pieces(texts, vocabulary - len(names), apart)
        return TextCodec(unit, (*names, *surfaces), len(names), pieces, lower)
    blank = TextCodec(unit, names, len(names), lower=lower)
    counts = Counter(span for text in texts for span in blank.spans(text))
    ordered = sorted(counts, key=lambda s: (-counts[s], s))
    least = 2 if sum(counts.values()) > 20 * len(counts) or unit == "word" else 1
    kept = [s for s in ordered if counts[s] >= least and s not in names][
        : vocabulary - len(names)
    ] or ordered[:1]
    kept += [c for c in (*apart, " ") if apart and c not in kept]
    if not kept:
        raise DataError("no text to learn from")
    return TextCodec(unit, (*names, *kept), len(names), lower=lower)


def _learn_pieces(texts: Sequence[str], size: int, apart: str) -> tuple[str, list[str]]:
    import sentencepiece

    spans = TextCodec("piece", (UNKNOWN, END))
    lines = (
        "".join(spans.spans(line))
        for text in texts
        for line in normalise(text).split("\n")
        if line.strip()
    )
    cut = (
        line[k : k + 4000] for line in lines for k in range(0, len(line), 4000)
    )  # it leaves longer ones out
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=cut,
            model_writer=model,
            vocab_size=size + 1,
            model_type="unigram",
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            character_coverage=0.9999,
            user_defined_symbols=list(apart),
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1][:120]
        raise DataError(
            f"too little text to learn pieces from ({reason}); bring more, or --set unit=char"
        ) from None
    proto = model.getvalue()
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    surfaces = [
        processor.id_to_piece(k).replace("▁", " ") for k in range(1, processor.get_piece_size())
    ]
    return base64.b64encode(proto).decode(), ["\n", *(s for s in surfaces if s != "\n")]


def normalise(text: str) -> str:
    """Unicode's form NFC, newlines of one kind, no byte order mark and no NUL."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\0", "")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def read_text(path: Path, encoding: str | None = None) -> str:
    """A text file in UTF-8, in UTF-16 or UTF-32 where it begins with a byte order mark, or in the
    encoding named.

    Raises `DataError` with the line and the byte that is not of it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if encoding is None:
        marks = {
            b"\xff\xfe\x00\x00": "utf-32",
            b"\x00\x00\xfe\xff": "utf-32",
            b"\xff\xfe": "utf-16",
            b"\xfe\xff": "utf-16",
        }
        encoding = next(
            (name for mark, name in marks.items() if data.startswith(mark)), "utf-8-sig"
        )
    try:
        text = data.decode(encoding)
    except LookupError:
        raise DataError(
            f"{path}: no encoding is called {encoding!r}; try utf-8, cp1252, latin-1, shift-jis"
        ) from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: line {line}: byte {error.start} (0x{data[error.start]:02x}) is not"
            f" {encoding.removesuffix('-sig')}; name its encoding: --set encoding=cp1252"
        ) from None
    if not text.strip():
        raise DataError(f"{path}: holds no text")
    if "\0" in text[:10_000] and encoding == "utf-8-sig":
        raise DataError(f"{path}: holds NUL bytes: not a text file")
    return normalise(text)


def fingerprint(texts: Iterable[str]) -> str:
    """16 hexadecimal digits that name the texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
