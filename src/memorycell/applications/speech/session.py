"""Speech recognition live: sound in chunks in, labels or words out."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

import numpy as np

from memorycell.application.contract import Item, ModelFile, Record
from memorycell.applications.speech.codec import AudioCodec, FeatureStream
from memorycell.applications.speech.pcm import FORMATS, check_samples
from memorycell.applications.speech.predict import word_record
from memorycell.applications.speech.saved_session import MAX_STORED_WORDS, SavedSession
from memorycell.applications.speech.speech_level import SpeechLevel
from memorycell.applications.speech.wav import (
    MAX_CHANNELS,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    RawFormat,
    SampleReader,
)
from memorycell.errors import DataError, StateError, UserError
from memorycell.setting_fields import check_choices
from memorycell.signals import ctc
from memorycell.signals.recognise import SignalModel, check_unidirectional, label_record
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

MAX_PAUSE_S = 3600


@dataclass(frozen=True)
class StreamOptions:
    """Options of `stream`.

    format     of samples without a header: u8, s16le, s24le, s32le, f32le, f64le, alaw or mulaw;
               by default a WAV header is needed, unless `rate` is given: then s16le
    rate       sample rate in Hz of such samples; by default the model's
    channels   of such samples, interleaved
    pause      seconds of silence that end an utterance (classes) or a word (text); 0: never
    """

    rate: int | None = None
    format: str | None = None
    channels: int = 1
    pause: float = 0.8

    def __post_init__(self) -> None:
        check_choices(self, format=(None, *FORMATS))
        if self.rate is not None and not MIN_RATE_HZ <= self.rate <= MAX_RATE_HZ:
            raise ValueError(f"rate={self.rate}: expected {MIN_RATE_HZ} to {MAX_RATE_HZ}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ValueError(f"channels={self.channels}: expected 1 to {MAX_CHANNELS}")
        if not 0 <= self.pause <= MAX_PAUSE_S:
            raise ValueError(f"pause={self.pause}: expected 0 to {MAX_PAUSE_S} seconds")

    def raw_format(self, rate_hz: int) -> RawFormat | None:
        """Of samples without a header; None where the user does not expect such samples. `rate_hz`
        is the default.
        """
        if self.format is None and self.rate is None:
            return None
        return RawFormat(self.format or "s16le", self.rate or rate_hz, self.channels)


class SpeechSession:
    """See `Session`; items are bytes of a WAV file or of PCM samples, in chunks of any size.

    A classifier gives the label so far, `{"label", "p", "begin_s", "end_s", "final"}`; a
    transcriber gives words, `{"word", "begin_s", "end_s", "p", "final"}`, and at the end
    `{"text", "seconds"}`.

    Raises `UserError` for a model that is bidirectional or normalises full recordings.
    """

    def __init__(
        self,
        file: ModelFile[SignalModel, AudioCodec],
        precision: str = "float32",
        options: StreamOptions | None = None,
    ) -> None:
        check_unidirectional(file.model)
        if file.codec.whole:
            raise UserError(
                "stream: this model normalises full recordings; train without --set whole=yes to"
                " run live"
            )
        self.codec, self.options = file.codec, options or StreamOptions()
        self._stream = Stream(file.model, precision, history=0)
        self._reader = SampleReader(self.options.raw_format(self.codec.rate_hz))
        self._features: FeatureStream | None = None
        self._steps = 0
        # Of a classifier:
        self._level = SpeechLevel()
        self._utterance_begin = 0
        self._log_p = np.zeros(0, np.float32)
        # Of a transcriber:
        self._decoder = ctc.GreedyDecoder()
        self._final_words: deque[str] = deque(maxlen=MAX_STORED_WORDS)
        self._partial_word = ""

    def feed(self, item: Item) -> list[Record]:
        """See `Session`."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        if not isinstance(item, bytes):
            raise DataError("stream: expected bytes of a WAV file or of PCM samples")
        samples = self._reader.read(item)
        if not len(samples):
            return []
        return (yield from self._feed_samples(samples, self._reader.rate_hz, last=False))

    def feed_samples(
        self, samples: np.ndarray, rate_hz: int, *, last: bool = False
    ) -> list[Record]:
        """Like `feed`, for samples [N] float32 in -1 … 1. `last`: no samples follow."""
        return run(self._feed_samples(samples, rate_hz, last=last))

    def _feed_samples(
        self, samples: np.ndarray, rate_hz: int, *, last: bool
    ) -> StreamSteps[list[Record]]:
        check_samples(samples, "stream")
        if self._features is None or self._features.rate_hz != rate_hz:
            self._features = FeatureStream(self.codec, rate_hz)
        features = self._features.feed(samples, last=last)
        if len(features) == 0:
            return []
        if self.codec.text is None:
            return (yield from self._new_labels(features))
        return (yield from self._new_words(features))

    def close(self) -> list[Record]:
        """See `Session`. Raises `DataError` where no samples were read."""
        rest = self._reader.finish()
        if self._features is None and len(rest):
            self._features = FeatureStream(self.codec, self._reader.rate_hz)
        if self._features is None:
            if not self._steps:
                raise DataError(
                    "stdin: no samples; expected a WAV file, or raw samples (--set format=s16le)"
                )
            records = []
        else:
            records = self.feed_samples(rest, self._features.rate_hz, last=True)
        if self.codec.text is None:
            silent = self._utterance_begin > 0 and not self._level.spoken
            if len(self._log_p) and not silent:
                records.append(self._label_record(final=True))
            return records
        records += self._finish(ctc.letters_to_words(self.codec, self._decoder.letters))
        seconds = round(self._steps * self.codec.step_s, 3)
        return [*records, {"text": self.text, "seconds": seconds}]

    @property
    def text(self) -> str:
        """The transcript so far, up to the last `MAX_STORED_WORDS` words."""
        current = ctc.letters_to_text(self.codec, self._decoder.letters)
        return " ".join([*self._final_words, current]).strip()

    # ---- classes ---------------------------------------------------------------------------------

    def _new_labels(self, features: np.ndarray) -> StreamSteps[list[Record]]:
        records: list[Record] = []
        pause_steps = round(self.options.pause / self.codec.step_s)
        begin = 0
        previous = int(self._log_p.argmax()) if len(self._log_p) else -1
        for k, silent_steps in enumerate(self._level.silence_lengths(features)):
            if pause_steps and silent_steps == pause_steps:
                yield from self._step(features[begin : k + 1])
                begin = k + 1
                records.append(self._label_record(final=True))
                self._stream.reset()
                self._utterance_begin, self._log_p = self._steps, np.zeros(0, np.float32)
                previous = -1
                self._level.spoken = False
        if begin < len(features):
            yield from self._step(features[begin:])
            if int(self._log_p.argmax()) != previous and self._level.spoken:
                records.append(self._label_record(final=False))
        return records

    def _step(self, features: np.ndarray) -> StreamSteps[None]:
        self._log_p = (yield self._stream, features)[-1]
        self._steps += len(features)

    def _label_record(self, *, final: bool) -> Record:
        record = label_record(self.codec.labels, np.exp(self._log_p), self.codec.unknown_below)
        return {
            "label": record["label"],
            "p": record["p"],
            "begin_s": round(self._utterance_begin * self.codec.step_s, 3),
            "end_s": round(self._steps * self.codec.step_s, 3),
            "final": final,
        }

    # ---- text ------------------------------------------------------------------------------------

    def _new_words(self, features: np.ndarray) -> StreamSteps[list[Record]]:
        self._decoder.feed((yield self._stream, features))
        self._steps += len(features)
        words = ctc.letters_to_words(self.codec, self._decoder.letters)
        silent_steps = self._steps - (words[-1].end if words else 0)
        pause = self.options.pause
        ended = bool(pause) and silent_steps * self.codec.step_s >= pause
        records = self._finish(words if ended else words[:-1])
        partial = words[-1] if words and not ended else None
        if partial is not None and partial.word != self._partial_word:
            records.append({**word_record(partial, self.codec.step_s), "final": False})
        self._partial_word = "" if partial is None else partial.word
        return records

    def _finish(self, words: list[ctc.Word]) -> list[Record]:
        """Records of words that are final; only their text is stored."""
        if words:
            self._decoder.drop_before(words[-1].end)
            self._final_words.extend(word.word for word in words)
        return [{**word_record(word, self.codec.step_s), "final": True} for word in words]

    # ---- state -----------------------------------------------------------------------------------

    def fork(self) -> SpeechSession:
        """See `Forkable`. Raises `StateError` while resampling."""
        other = copy.copy(self)
        other._stream, other._reader = self._stream.fork(), copy.copy(self._reader)
        other._features = None if self._features is None else self._features.fork()
        other._level = copy.copy(self._level)
        decoder = self._decoder
        other._decoder = ctc.GreedyDecoder(decoder.letters, decoder.steps, decoder.last_token)
        other._final_words = deque(self._final_words, MAX_STORED_WORDS)
        return other

    def snapshot(self) -> bytes:
        """See `Session`. Raises `StateError` while resampling."""
        features = self._features or FeatureStream(self.codec, self.codec.rate_hz)
        feature_state = features.snapshot()
        if feature_state is None:
            raise StateError(
                "--state: the samples are at another rate than the model's"
                f" {self.codec.rate_hz:,} Hz; resample them first"
            )
        return self._stream.snapshot(
            ear=feature_state,
            letters=[list(letter) for letter in self._decoder.letters],
            last=self._decoder.last_token,
            steps=self._steps,
            begin=self._utterance_begin,
            finished=list(self._final_words),
            partial=self._partial_word,
            log_p=self._log_p.tolist(),
            level=self._level.to_json(),
        )

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        try:
            saved = SavedSession.from_json(extra, self.codec)
            features = FeatureStream(self.codec, self.codec.rate_hz)
            features.restore(saved.ear)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"not the state of a speech session ({error}); start without it"
            ) from None
        self._stream.state = state
        self._features, self._steps = features, saved.steps
        self._level = SpeechLevel(*saved.level)
        self._utterance_begin, self._log_p = saved.begin, np.array(saved.log_p, np.float32)
        letters = [ctc.Letter(*letter) for letter in saved.letters]
        self._decoder = ctc.GreedyDecoder(letters, saved.steps, saved.last)
        self._partial_word = saved.partial
        self._final_words = deque(saved.finished, MAX_STORED_WORDS)
