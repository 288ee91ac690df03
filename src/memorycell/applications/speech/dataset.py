"""speech: which word was said, or what was said; live, as it is said."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import (
    ENDINGS,
    AudioCodec,
    Sound,
    coloured,
    masked,
    mfcc,
    perturbed,
    read_audio,
    resampled,
)
from memorycell.errors import DataError
from memorycell.settings import check_choices, check_counts
from memorycell.signals import dataset as signals
from memorycell.signals.codec import fit_outputs, spoken
from memorycell.signals.dataset import Example, SignalDataset, SignalSettings, head_of, parted
from memorycell.signals.dtw import NearestByWarping
from memorycell.signals.recordings import Recording, find_recordings

MOST_RATE_HZ = 16000
LONGEST_S = 40.0


@dataclass(frozen=True)
class SpeechSettings(SignalSettings):
    """What --set can say about a model of speech, besides `SignalSettings`.

    names     a pattern of the recordings' names, such as "{label}_{group}_{index}", where there is
              no list of transcripts
    rate      samples a second that features are made from; where not said the recordings' own,
              16,000 at most
    bins, stack   bands of a frame, frames (10 ms) in a step
    ceps      read so many cepstra of a frame in place of its bands; 0: the bands
    adapt     frames after which the mean of what was heard counts as much as that of training, and
              is taken off; 0: never
    whole     yes: a recording is taken by its own mean and deviation, with its changes beside it,
              for voices never heard; it is then not to be had live
    speed     in training, recordings are played faster or slower by up to this share; noise:
              probability of added noise
    tilt      in training, a smooth curve over the bands, so many nats high, stands for another
              microphone; throat: the bands are stretched by up to this share, as by another
              speaker's throat
    bands, share  in training, up to so many bands and up to this share of the time are masked,
                  twice each (SpecAugment)
    """

    names: str | None = None
    rate: int | None = None
    bins: int = 40
    stack: int = 2
    adapt: int = 0
    ceps: int = 0
    whole: str = "no"
    speed: float = 0.1
    noise: float = 0.3
    tilt: float = 0.0
    throat: float = 0.0
    bands: int = 8
    share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "rate", "bins", "stack")
        check_choices(self, whole=("yes", "no"))
        if not 0 <= self.ceps <= self.bins:
            raise ValueError(f"ceps={self.ceps}: expected 0 to {self.bins}, the bands")
        if self.adapt < 0 or self.tilt < 0 or not 0 <= self.throat < 1:
            raise ValueError("adapt, tilt: expected 0 or more; throat: a share below 1")
        if not (
            0 <= self.speed < 1
            and 0 <= self.noise <= 1
            and 0 <= self.share < 1
            and 0 <= self.bands < self.bins
        ):
            raise ValueError("speed, noise, share: expected shares below 1; bands: fewer than bins")


class SpeechDataset(SignalDataset):
    """Recordings; `raw` of an example is a `Sound` at the codec's rate."""

    codec: AudioCodec
    settings: SpeechSettings

    def encode(self, example: Example) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def varied(self, example: Example, rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`: at another speed, louder or softer, with noise, and in part masked."""
        s = self.settings
        frames = self.codec.frames(
            perturbed(example.raw.samples, rng, speed=s.speed, noise=s.noise)
        )
        scaled, _ = self.codec.scaled(coloured(frames, rng, tilt=s.tilt, throat=s.throat))
        if self.codec.whole:  # a masked stretch would change the mean of all the rest
            return self.codec.steps(scaled)
        return self.codec.steps(masked(scaled, rng, bands=s.bands, share=s.share))

    def nearest(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`: over mel-frequency cepstra."""
        known = NearestByWarping([mfcc(e.raw) for e in self.parts["train"]], self.truth["train"])
        return lambda split: known.classify([mfcc(e.raw) for e in self.parts[split]])


def prepare(data: str | None, settings: SpeechSettings) -> SpeechDataset:
    """Read the recordings, split them, and only then fit letters, scaling and lexicon, to the
    training part.
    """
    examples, written, where, settings, notes = _read(data or "free-spoken-digits", settings)
    head = head_of(examples, settings, written=written)
    if head == "text":
        examples, dropped = _speech_only(examples)
        notes += dropped
    parts = parted(examples, settings, classes=head == "classes", where=where)
    train = parts["train"]
    outputs = fit_outputs([e.said for e in train], head, settings.unit, settings.vocabulary, where)
    rate = train[0].raw.rate_hz
    codec = AudioCodec(
        **outputs,
        rate_hz=rate,
        bins=settings.bins,
        stack=settings.stack,
        adapt=settings.adapt,
        ceps=settings.ceps,
        whole=settings.whole == "yes",
    )
    codec = codec.fitted([codec.frames(e.raw.samples) for e in train])
    if head == "classes":
        parts, unseen = signals.known_classes(parts, codec.labels)
        notes += unseen
    dataset = SpeechDataset(where, parts, codec, settings, notes)
    seconds = sum(len(e.raw.samples) for e in examples) / rate
    dataset.notes.append(
        f"{len(examples):,} recordings, {seconds / 60:.1f} minutes at {rate:,} Hz: "
        + ", ".join(f"{len(part):,} {split}" for split, part in dataset.parts.items())
    )
    dataset.notes.append(signals.outputs_in_words(codec))
    return dataset


def reopen(data: str | None, file: ModelFile) -> SpeechDataset:
    """The same for a trained model. Its own data: the held-out test part. Others: all of them."""
    return signals.reopen(
        data, file, SpeechSettings, SpeechDataset, lambda name, s: _opened(name, s, file.codec)
    )


def _opened(data: str, settings: SpeechSettings, codec: AudioCodec) -> tuple[list[Example], str]:
    examples, _, where, _, _ = _read(data, dataclasses.replace(settings, rate=codec.rate_hz))
    return (examples if codec.text is None else _speech_only(examples)[0]), where


def _read(
    data: str, settings: SpeechSettings
) -> tuple[list[Example], bool, str, SpeechSettings, list[str]]:
    """(examples, whether what is said was written, the data's name, the settings with the set's
    own, notes).
    """
    path, source = locate(data)
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    found, written, notes = find_recordings(path, where, ENDINGS, names=settings.names)
    sounds: list[tuple[Recording, Sound]] = []
    bad: list[str] = []
    for recording in found:
        try:
            sounds.append((recording, read_audio(recording.path)))
        except DataError as error:
            bad.append(str(error))
    if not sounds:
        raise DataError(
            f"{where}: none of {len(found)} recordings can be read; the first: {bad[0]}"
        )
    if bad:
        notes.append(f"left out: {len(bad):,} recordings that cannot be read; the first: {bad[0]}")
    for name, what in (
        ("stereo", "mixed down to one channel"),
        ("clipped", "clipped: louder than the file can hold"),
        ("silent", "silent, left out"),
    ):
        count = sum(name in sound.notes for _, sound in sounds)
        if count:
            notes.append(f"{count:,} recordings {what}")
    kept = [(r, s) for r, s in sounds if "silent" not in s.notes]
    long = [r for r, s in kept if len(s.samples) > LONGEST_S * s.rate_hz]
    if long:
        notes.append(
            f"{len(long):,} recordings longer than {LONGEST_S:.0f} s left out (the first:"
            f" {long[0].path.name})"
        )
    rate = settings.rate or min(
        MOST_RATE_HZ, Counter(s.rate_hz for _, s in sounds).most_common(1)[0][0]
    )
    base = path if path.is_dir() else path.parent
    examples = [
        Example(resampled(sound, rate), r.said, r.path.relative_to(base).as_posix(), r.fields)
        for r, sound in kept
        if len(sound.samples) <= LONGEST_S * sound.rate_hz
    ]
    if not examples:
        raise DataError(f"{where}: no recording is left; {'; '.join(notes)}")
    return examples, written, where, settings, notes


def _speech_only(examples: list[Example]) -> tuple[list[Example], list[str]]:
    """What is said as words are read; recordings of something else left out."""
    said = [(e, spoken(e.said)) for e in examples]
    kept = [dataclasses.replace(e, said=text) for e, text in said if text]
    count = len(examples) - len(kept)
    return kept, (
        [f"{count:,} recordings left out that say nothing (tones, silence)"] if count else []
    )
