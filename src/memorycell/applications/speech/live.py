"""A model of speech at work: which word a recording holds, or what is said in it; live, from a
microphone.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application import modelfile
from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import ENDINGS, AudioCodec, Ear, read_audio
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.model import LanguageModel
from memorycell.signals import ctc
from memorycell.signals import recognise as signals
from memorycell.streaming.stream import Stream

FORMATS: dict[str, np.dtype[Any]] = {
    "s16le": np.dtype("<i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
}
"""Of samples that come without a header, as ffmpeg names them."""
UNKNOWN_SIZE, MOST_HEADER = 0x7FFFF000, 1 << 20
"""Bytes of samples from which a WAV header does not know how many there are; and that a part of the
header may have.
"""
REMEMBERED = 10_000
"""Words of a stream whose text is kept."""


@dataclass(frozen=True)
class Hearing:
    """What --set can say about hearing.

    search   of a model that writes text: also look for the likeliest words of its lexicon, by its
             language model: yes or no
    lm       a model file of the task text: the language model of that search, in place of the
             n-grams of what training said
    """

    search: str = "yes"
    lm: str | None = None

    def __post_init__(self) -> None:
        if self.search not in ("yes", "no"):
            raise ValueError(f"search={self.search}: expected yes or no")


@dataclass(frozen=True)
class Microphone:
    """What --set can say about `stream`.

    rate, format, channels   of samples that come without a header: a second (where not said the
                             model's own), s16le, s32le or f32le, and how many side by side
    pause                    seconds of silence after which something new is said (of a model that
                             tells words apart), or after which a word is finished; 0: never
    """

    rate: int | None = None
    format: str = "s16le"
    channels: int = 1
    pause: float = 0.8

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format}: expected {', '.join(FORMATS)}")
        if (
            self.channels < 1
            or not (self.rate is None or 1000 <= self.rate <= 400_000)
            or self.pause < 0
        ):
            raise ValueError("channels: expected 1 or more; rate: 1000 to 400000; pause: 0 or more")


def features_of(file: ModelFile, source: str) -> np.ndarray:
    """The features [T, F] of a recording, as the model reads them."""
    return _codec(file).encode(read_audio(source))


def predict(file: ModelFile, source: str | None, how: Hearing) -> dict[str, Any]:
    """`{"recordings": [...]}` of a recording or a folder of them: each with its label and how sure
    it is, or with its text, its words with their times and probabilities, and the text that the
    search found.
    """
    codec = _codec(file)
    if source is None or not Path(source).exists():
        raise DataError(
            f"predict: {source or 'no recording given'}: name a recording"
            f" ({', '.join(ENDINGS[:4])} …)"
        )
    path = Path(source)
    files = (
        sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS)
        if path.is_dir()
        else [path]
    )
    if not files:
        raise DataError(f"{path}: no recording in this folder")
    search = None
    if codec.text is not None and how.search == "yes":
        search = ctc.search_with(
            file.model.search, codec, None if how.lm is None else _language_model(how.lm)
        )
    return {"recordings": [_record(file, codec, one, search) for one in files]}


def _record(
    file: ModelFile, codec: AudioCodec, path: Path, search: ctc.LexiconSearch | None
) -> dict[str, Any]:
    sound = read_audio(path)
    features = codec.encode(sound)
    if len(features) == 0:
        raise DataError(
            f"{path}: {len(sound.samples)} samples are too few; a step takes"
            f" {codec.step_s + 0.015:.3f} s"
        )
    record: dict[str, Any] = {
        "file": str(path),
        "seconds": round(len(sound.samples) / sound.rate_hz, 3),
    }
    if sound.notes:
        record["notes"] = list(sound.notes)
    log_p = signals.recognise(file, features)
    if codec.text is None:
        return {**record, **signals.label_record(codec.labels, np.exp(log_p))}
    letters = ctc.greedy(log_p)
    record["text"] = ctc.text(codec, letters)
    record["words"] = [_word(word, codec.step_s) for word in ctc.words(codec, letters)]
    if search is not None:
        record["searched"] = search.find(log_p)
    return record


def _word(word: ctc.Word, step_s: float) -> dict[str, Any]:
    times = {"begin_s": round(word.begin * step_s, 3), "end_s": round(word.end * step_s, 3)}
    return {"word": word.word, **times, "p": round(word.p, 4)}


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = []
    for one in record["recordings"]:
        noted = f"   [{', '.join(one['notes'])}]" if "notes" in one else ""
        if "label" in one:
            others = [
                f"{k} {p:.1%}" for k, p in list(one["probabilities"].items())[1:4] if p >= 0.001
            ]
            beside = f"   (else {', '.join(others)})" if others else ""
            lines.append(f"{one['label']} ({one['p']:.1%})  {one['file']}{beside}{noted}")
        else:
            lines.append(
                f"{one['searched' if one.get('searched') else 'text']}   ({one['file']},"
                f" {one['seconds']} s){noted}"
            )
            if "searched" in one:
                lines.append(f"    by ear alone: {one['text']}")
    return "\n".join(lines)


# ---- live ----------------------------------------------------------------------------------------


class LiveSpeech:
    """Samples go in, in pieces of any size; words, or the label so far, come out. Only a model that
    reads forward.
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", how: Microphone | None = None
    ) -> None:
        self.codec, self.how = _codec(file), how or Microphone()
        signals.check_forward(file.model)
        if self.codec.whole:
            raise UserError(
                "stream: this model takes a recording by its own mean; train without --set"
                " whole=yes to run live"
            )
        self._stream = Stream(file.model, precision, history=0)
        self._input = _Samples(self.how, self.codec.rate_hz)
        self._ear: Ear | None = None
        self._spelling = ctc.Spelling()
        self._finished: deque[str] = deque(maxlen=REMEMBERED)  # words that were told
        self._partial = ""
        self._begin = 0  # step where the utterance began
        self._steps = 0
        self._log_p = np.zeros(0, np.float32)
        self._level = _Level()

    def feed_bytes(self, data: bytes) -> list[dict[str, Any]]:
        """Bytes of a WAV file, or of bare samples: what is new."""
        samples = self._input.read(data)
        return self.hear(samples, self._input.rate_hz) if len(samples) else []

    def close(self) -> list[dict[str, Any]]:
        """Nothing follows: what is still to be said."""
        if self._ear is None and not self._steps:
            raise DataError(
                "stdin: no samples came; expected a WAV file, or bare samples (--set rate=…"
                " format=…)"
            )
        told = (
            self.hear(np.zeros(0, np.float32), self._ear.rate_hz, last=True)
            if self._ear is not None
            else []
        )
        if self.codec.text is None:
            silent = (
                self._begin > 0 and not self._level.said
            )  # after the last pause nothing was said
            return told + ([self._label(final=True)] if len(self._log_p) and not silent else [])
        final = self._finish(ctc.words(self.codec, self._spelling.letters))
        return [
            *told,
            *final,
            {"text": self.text, "seconds": round(self._steps * self.codec.step_s, 3)},
        ]

    @property
    def text(self) -> str:
        """What was heard so far (the last words of it), of a model that writes text."""
        return " ".join([*self._finished, ctc.text(self.codec, self._spelling.letters)]).strip()

    def hear(
        self, samples: np.ndarray, rate_hz: int, *, last: bool = False
    ) -> list[dict[str, Any]]:
        """Samples [N] float32 in -1 … 1 -> what is new: words or labels, final ones marked."""
        if self._ear is None or self._ear.rate_hz != rate_hz:
            self._ear = Ear(self.codec, rate_hz)
        features = self._ear.hear(samples, last=last)
        if len(features) == 0:
            return []
        return self._labels(features) if self.codec.text is None else self._words(features)

    def _labels(self, features: np.ndarray) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        most = round(self.how.pause / self.codec.step_s)
        begin = 0
        before = int(self._log_p.argmax()) if len(self._log_p) else -1
        for k, pause in enumerate(self._level.pauses(features)):
            if most and pause == most:  # what was said has ended
                self._log_p = self._stream.step(features[begin : k + 1])[-1]
                self._steps += k + 1 - begin
                begin = k + 1
                told.append(self._label(final=True))
                self._stream.reset()
                self._begin, self._log_p, before = self._steps, np.zeros(0, np.float32), -1
                self._level.said = False
        if begin < len(features):
            self._log_p = self._stream.step(features[begin:])[-1]
            self._steps += len(features) - begin
            if int(self._log_p.argmax()) != before and self._level.said:
                told.append(self._label(final=False))
        return told

    def _label(self, *, final: bool) -> dict[str, Any]:
        record = signals.label_record(self.codec.labels, np.exp(self._log_p))
        times = {
            "begin_s": round(self._begin * self.codec.step_s, 3),
            "end_s": round(self._steps * self.codec.step_s, 3),
        }
        return {"label": record["label"], "p": record["p"], **times, "final": final}

    def _words(self, features: np.ndarray) -> list[dict[str, Any]]:
        self._spelling.read(self._stream.step(features))
        self._steps += len(features)
        words = ctc.words(self.codec, self._spelling.letters)
        quiet = self._steps - (words[-1].end if words else 0)
        over = bool(self.how.pause) and quiet * self.codec.step_s >= self.how.pause
        told = self._finish(words if over else words[:-1])
        going = words[-1] if words and not over else None
        if going is not None and going.word != self._partial:
            told.append({**_word(going, self.codec.step_s), "final": False})
        self._partial = going.word if going is not None else ""
        return told

    def _finish(self, words: list[ctc.Word]) -> list[dict[str, Any]]:
        """Tell words as finished, and keep no more of them than their text."""
        if words:
            self._spelling.drop(words[-1].end)
            self._finished.extend(word.word for word in words)
        return [{**_word(word, self.codec.step_s), "final": True} for word in words]

    def save(self, path: str | Path) -> None:
        """See `Live`. Raises `StateError` where a converter of rates is at work, whose state cannot
        be kept.
        """
        rest = (self._ear or Ear(self.codec, self.codec.rate_hz)).rest()
        if rest is None:
            raise StateError(
                f"--state: samples come at another rate than the model's {self.codec.rate_hz:,} Hz;"
                " convert them before"
            )
        self._stream.save(
            path,
            ear=rest,
            letters=[list(x) for x in self._spelling.letters],
            last=self._spelling.last,
            steps=self._steps,
            begin=self._begin,
            finished=list(self._finished),
            partial=self._partial,
            log_p=self._log_p.tolist(),
            level=self._level.to_json(),
        )

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        extra = self._stream.load(path)
        try:
            ear = Ear(self.codec, self.codec.rate_hz)
            ear.resume(extra["ear"])
            letters = [
                ctc.Letter(int(t), int(b), int(e), float(p)) for t, b, e, p in extra["letters"]
            ]
            spelling = ctc.Spelling(letters, int(extra["steps"]), int(extra["last"]))
            numbers = int(extra["steps"]), int(extra["begin"]), str(extra["partial"])
            finished = [str(word) for word in extra["finished"]]
            log_p, level = np.array(extra["log_p"], np.float32), _Level(*map(float, extra["level"]))
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{path}: not the state of what was heard; start without it") from None
        self._ear, self._spelling, self._log_p, self._level = ear, spelling, log_p, level
        self._steps, self._begin, self._partial = numbers
        self._finished = deque(finished, REMEMBERED)


class _Level:
    """How loud it is: whether something is said, and for how long there has been silence after it.

    Loudness is the mean feature of a step. Quiet is what lies in the lower third between the
    quietest and the loudest of the last seconds, where they are far enough apart.
    """

    apart = 0.7
    drift = 0.002

    def __init__(
        self, low: float = np.inf, high: float = -np.inf, quiet: float = 0, said: float = 0
    ) -> None:
        self.low, self.high, self.quiet, self.said = low, high, int(quiet), bool(said)

    def pauses(self, features: np.ndarray) -> Iterator[int]:
        """For every step, how many steps of silence there have been since something was said; 0
        while nothing was.
        """
        for loud in features.mean(1).tolist():
            self.low = min(loud, self.low + self.drift)
            self.high = max(loud, self.high - self.drift)
            speaks = (
                self.high - self.low > self.apart and loud > self.low + (self.high - self.low) / 3
            )
            self.said = self.said or speaks
            self.quiet = 0 if speaks or not self.said else self.quiet + 1
            yield self.quiet

    def to_json(self) -> list[float]:
        """To be kept."""
        bounded = [float(np.clip(v, -1e9, 1e9)) for v in (self.low, self.high)]
        return [*bounded, float(self.quiet), float(self.said)]


class _Samples:
    """Bytes to samples: a WAV file's header is read where there is one."""

    def __init__(self, how: Microphone, rate_hz: int) -> None:
        self.rate_hz, self._kind, self._channels = (
            how.rate or rate_hz,
            FORMATS[how.format],
            how.channels,
        )
        self._bytes = b""
        self._begun = False
        self._left: int | None = (
            None  # bytes of samples that a header promised; what stands behind them is no sound
        )

    def read(self, data: bytes) -> np.ndarray:
        """[N] float32 in -1 … 1; a sample that is not whole waits."""
        self._bytes += data
        if not self._begun and not self._header():
            return np.zeros(0, np.float32)
        width = self._kind.itemsize * self._channels
        if self._left is not None:
            self._bytes = self._bytes[: self._left]
        whole = len(self._bytes) // width * width
        if self._left is not None:
            self._left -= whole
        values = np.frombuffer(self._bytes[:whole], self._kind).reshape(-1, self._channels)
        self._bytes = self._bytes[whole:]
        scale = 1.0 if self._kind.kind == "f" else 1.0 / -float(np.iinfo(self._kind).min)
        samples = values.astype(np.float32).mean(1) * np.float32(scale)
        if not np.isfinite(samples).all():
            raise DataError("stdin: samples that are not finite; is --set format=… right?")
        return np.ascontiguousarray(samples, np.float32)

    def _header(self) -> bool:
        """Whether what follows are samples."""
        if len(self._bytes) < 12:
            return False
        if self._bytes[:4] != b"RIFF" or self._bytes[8:12] != b"WAVE":
            self._begun = True
            return True
        at = 12
        while len(self._bytes) >= at + 8:
            name, size = (
                self._bytes[at : at + 4],
                struct.unpack("<I", self._bytes[at + 4 : at + 8])[0],
            )
            if name == b"data":
                self._bytes, self._begun = self._bytes[at + 8 :], True
                self._left = size if 0 < size < UNKNOWN_SIZE else None
                return True
            if size > MOST_HEADER:
                raise DataError("stdin: a WAV file whose header is damaged")
            if len(self._bytes) < at + 8 + size:
                return False
            if name == b"fmt ":
                self._take(self._bytes[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        return False

    def _take(self, described: bytes) -> None:
        if len(described) < 16:
            raise DataError("stdin: a WAV file whose header is damaged")
        coding, channels, rate = struct.unpack("<HHI", described[:8])
        bits = struct.unpack("<H", described[14:16])[0]
        if coding == 0xFFFE and len(described) >= 26:  # the coding stands further on
            coding = struct.unpack("<H", described[24:26])[0]
        kinds = {(1, 16): "s16le", (1, 32): "s32le", (3, 32): "f32le"}
        if (coding, bits) not in kinds or not channels or not 1000 <= rate <= 400_000:
            raise DataError(
                f"stdin: a WAV file of coding {coding} with {bits} bits; expected 16-bit, 32-bit or"
                " float samples"
            )
        self.rate_hz, self._kind, self._channels = rate, FORMATS[kinds[coding, bits]], channels


def _codec(file: ModelFile) -> AudioCodec:
    if not isinstance(file.codec, AudioCodec):
        raise UserError("predict: not a model of speech")
    return file.codec


class _Texts:
    """A language model of the task `text` as a model of words."""

    def __init__(self, file: ModelFile) -> None:
        self._codec, self._stepper = file.codec, file.model.stepper()
        self._known: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray | None, float]] = {}

    def after(self, history: tuple[str, ...], word: str | None) -> float:
        """See `ctc.WordModel`."""
        if word is None:
            return 0.0
        return self._read((*history, word))[2] - self._read(history)[2]

    def _read(self, words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray | None, float]:
        """(the state after the words, what may follow, log p of the words)."""
        if words not in self._known:
            stepper = self._stepper
            if words:
                ring, log_p, total = self._read(words[:-1])
                ring = ring.copy()
                text = words[-1] if len(words) == 1 else " " + words[-1]
                tokens = self._codec.encode(text)
            else:
                ring, log_p, total, tokens = (
                    np.zeros((1, stepper.layout.width), np.float32),
                    None,
                    0.0,
                    [1],
                )
            for token in tokens:
                total += 0.0 if log_p is None else float(log_p[token])
                log_p, _ = stepper.walk(ring, 0, np.array([token], np.float32))
            self._known[words] = (ring, log_p, total)
        return self._known[words]


def _language_model(path: str) -> _Texts:
    file = modelfile.load(path)
    if not isinstance(file.model, LanguageModel) or file.info.get("task") != "text":
        raise UserError(
            f"--set lm={path}: a model of the task text was expected, got {file.info.get('task')}"
        )
    return _Texts(file)
