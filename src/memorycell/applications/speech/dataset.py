"""The dataset of speech models: recordings with classes or transcripts."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.speech.audio import (
    AUDIO_SUFFIXES,
    UNREADABLE_SUFFIXES,
    Sound,
    mfcc,
    part_of_sound,
    read_audio,
    resample_sound,
)
from memorycell.applications.speech.augmentation import (
    augment_frames,
    augment_samples,
    mask_frames,
)
from memorycell.applications.speech.codec import AudioCodec
from memorycell.applications.speech.nearest import NearestRecordings
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import DataError, quote
from memorycell.reading import Losses
from memorycell.signals import reopening
from memorycell.signals.codec import describe_outputs, normalise_transcript
from memorycell.signals.dataset import SignalDataset
from memorycell.signals.dtw import DtwClassifier
from memorycell.signals.examples import Example, LabelledData, Splits, choose_head
from memorycell.signals.preparing import split_and_fit
from memorycell.signals.recognise import SignalModel, mean_of_views
from memorycell.signals.recordings import Recording, find_recordings

MAX_DEFAULT_RATE_HZ = 16000
MAX_RECORDING_S = 40.0


class SpeechDataset(SignalDataset[Sound, AudioCodec]):
    """Recordings at the codec's sample rate.

    nearest   training recordings that count besides the network, or None
    """

    settings: SpeechSettings
    nearest: NearestRecordings | None = None

    def encode(self, example: Example[Sound]) -> np.ndarray:
        """See `SignalDataset`."""
        return self.codec.encode(example.raw)

    def augment(self, example: Example[Sound], rng: np.random.Generator) -> np.ndarray:
        """See `SignalDataset`: speed, silence, noise, level, microphone, vocal tract, masking."""
        s = self.settings
        samples = augment_samples(
            example.raw.samples,
            rng,
            rate_hz=self.codec.rate_hz,
            speed=s.speed,
            noise=s.noise,
            silence=s.silence,
            level=s.level,
        )
        frames = self.codec.frames(samples)
        scaled, _ = self.codec.scale(augment_frames(frames, rng, tilt=s.tilt, throat=s.throat))
        if not self.codec.whole:  # masking would change the mean of the recording
            scaled = mask_frames(scaled, rng, bands=s.bands, share=s.share)
        return self.codec.stack_frames(scaled)

    def log_p(self, model: SignalModel, split: str, precision: str = "float32") -> list[np.ndarray]:
        """See `SignalDataset`: the mean over the views of each recording, joined with the nearest
        recordings.
        """
        if self.codec.stretches:
            log_p = self._mean_log_p(model, self.splits[split], precision)
        else:
            log_p = super().log_p(model, split, precision)
        if self.nearest is None:
            return log_p
        if split not in self._excess:
            self._excess[split] = [self.nearest.excess(e.raw) for e in self.splits[split]]
        return [
            self.nearest.join(own, excess)
            for own, excess in zip(log_p, self._excess[split], strict=True)
        ]

    @cached_property
    def _excess(self) -> dict[str, list[np.ndarray]]:
        """Split -> `NearestRecordings.excess` of every recording."""
        return {}

    def calibrate(self, model: SignalModel) -> None:
        """See `SignalDataset`: of the network alone, whose speakers the nearest recordings know."""
        nearest, self.nearest = self.nearest, None
        super().calibrate(model)
        self.nearest = nearest

    def arrays(self) -> dict[str, torch.Tensor]:
        """See `Dataset`."""
        return {} if self.nearest is None else self.nearest.arrays()

    def unknown_p(self, model: SignalModel, split: str, precision: str = "float32") -> np.ndarray:
        """See `SignalDataset`."""
        if not self.codec.stretches:
            return super().unknown_p(model, split, precision)
        log_p = self._mean_log_p(model, self.unknown[split], precision)
        return np.exp(np.array(log_p).max(1))

    @torch.inference_mode()
    def _mean_log_p(
        self, model: SignalModel, examples: Sequence[Example[Sound]], precision: str
    ) -> list[np.ndarray]:
        views = [self.codec.encode_views(example.raw) for example in examples]
        each = [self._log_p(model, one, precision) for one in zip(*views, strict=True)]
        return [mean_of_views(own) for own in zip(*each, strict=True)]

    def fit_dtw(self) -> Callable[[str], np.ndarray]:
        """See `SignalDataset`: on mel-frequency cepstra."""
        classifier = DtwClassifier([mfcc(e.raw) for e in self.splits["train"]], self.truth["train"])
        return lambda split: classifier.classify([mfcc(e.raw) for e in self.splits[split]])


def prepare(data: str | None, settings: SpeechSettings) -> SpeechDataset:
    """See `Application.prepare`: outputs and scaling are fitted on the training split."""
    labelled, settings = _read(data or "free-spoken-digits", settings)
    head = choose_head(settings.head, labelled)
    if head == "text":
        labelled = _with_speech(labelled, settings)
    prepared = split_and_fit(labelled, settings, head)
    train = prepared.splits["train"]
    rate = train[0].raw.rate_hz
    codec = AudioCodec(
        **prepared.outputs,
        rate_hz=rate,
        bins=settings.bins,
        stack=settings.stack,
        adapt=settings.adapt,
        ceps=settings.ceps,
        whole=settings.whole,
        voiced=settings.whole,
        stretches=_stretches(settings) if head == "classes" else (),
        gain_control=settings.gain_control,
    )
    try:
        codec.check_bands()
    except ValueError as error:
        raise DataError(f"--set {error}") from None
    codec = codec.fit_scaling([codec.frames(e.raw.samples) for e in train])
    dataset = SpeechDataset(labelled.name, prepared.splits, codec, settings, prepared.notes)
    dataset.set_unknown(prepared.unknown)
    if settings.nearest and head == "classes":
        kept = [e.raw for e in dataset.splits["train"]]
        dataset.nearest = NearestRecordings.fit(
            kept, dataset.truth["train"], codec, settings.nearest
        )
    minutes = sum(len(e.raw.samples) for e in labelled.examples) / rate / 60
    dataset.notes += [
        f"{len(labelled.examples):,} recordings, {minutes:.1f} minutes at {rate:,} Hz:"
        f" {dataset.split_sizes()}",
        describe_outputs(codec),
    ]
    return dataset


def _stretches(settings: SpeechSettings) -> tuple[float, ...]:
    """Factors from 1/(1 + throat) to 1 + throat, evenly spaced on a logarithmic scale."""
    if settings.views == 1:
        return ()
    factors = np.exp(np.linspace(-1, 1, settings.views) * np.log1p(settings.throat))
    return tuple(factors.tolist())


def reopen(data: str | None, file: ModelFile[SignalModel, AudioCodec]) -> SpeechDataset:
    """See `Application.reopen`."""
    codec = file.codec
    settings = dataclasses.replace(file.typed_settings(SpeechSettings), lossy=True)

    def read(name: str) -> LabelledData[Sound]:
        labelled, _ = _read(name, dataclasses.replace(settings, rate=codec.rate_hz))
        return labelled if codec.text is None else _with_speech(labelled, settings)

    def build(name: str, splits: Splits[Sound], notes: Sequence[str]) -> SpeechDataset:
        dataset = SpeechDataset(name, splits, codec, settings, notes)
        dataset.nearest = NearestRecordings.of(file.arrays, codec)
        return dataset

    return reopening.reopen(data, file, settings, read, build)


def _read(data: str, settings: SpeechSettings) -> tuple[LabelledData[Sound], SpeechSettings]:
    """(data, the settings with those of a named dataset)"""
    path, source = locate(data)
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    recordings, transcribed, notes = find_recordings(
        path,
        where,
        (*AUDIO_SUFFIXES, *UNREADABLE_SUFFIXES),
        names=settings.names,
        encoding=settings.encoding,
        lossy=settings.lossy,
    )
    losses = Losses("recordings")
    sounds: list[tuple[Recording, Sound]] = []
    errors: list[str] = []
    read = functools.lru_cache(1)(read_audio)  # the parts of a recording follow one another
    for recording in recordings:
        try:
            sound = read(recording.path)
            if recording.part is not None:
                sound = part_of_sound(sound, *recording.part, str(recording.path))
            sounds.append((recording, sound))
        except DataError as error:
            errors.append(str(error))
    if not sounds:
        raise DataError(
            f"{where}: none of the {len(recordings)} recordings can be read; the first: {errors[0]}"
        )
    if errors:
        losses.skip(f"unreadable; the first: {errors[0]}", len(errors))
    _count_conditions([sound for _, sound in sounds], losses)
    audible = [(r, s) for r, s in sounds if "silent" not in s.notes]
    too_long = [r for r, s in audible if not _short_enough(s)]
    if too_long:
        first = quote(too_long[0].path.name)
        losses.skip(f"longer than {MAX_RECORDING_S:.0f} s (the first: {first})", len(too_long))
    losses.check(len(recordings), where, settings.lossy)
    notes += losses.notes(len(recordings))
    most_common_rate = Counter(s.rate_hz for _, s in sounds).most_common(1)[0][0]
    rate = settings.rate or min(MAX_DEFAULT_RATE_HZ, most_common_rate)
    base = path if path.is_dir() else path.parent
    examples = [
        Example(resample_sound(sound, rate), r.label, _name(r, base), r.fields)
        for r, sound in audible
        if _short_enough(sound)
    ]
    if not examples:
        raise DataError(f"{where}: no recording is left; {'; '.join(notes)}")
    return LabelledData(where, examples, transcribed, notes), settings


def _name(recording: Recording, base: Path) -> str:
    """The name of its file, with the seconds of its part."""
    path = recording.path
    name = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
    return (
        name
        if recording.part is None
        else f"{name} {recording.part[0]:.2f}–{recording.part[1]:.2f} s"
    )


def _short_enough(sound: Sound) -> bool:
    return len(sound.samples) <= MAX_RECORDING_S * sound.rate_hz


def _count_conditions(sounds: list[Sound], losses: Losses) -> None:
    """How many recordings are stereo, clipped, truncated or silent."""
    conditions = {
        "stereo": "stereo, averaged to one channel",
        "clipped": "clipped",
        "truncated": "shorter than their header says",
    }
    for name, consequence in conditions.items():
        losses.repair(consequence, sum(name in sound.notes for sound in sounds))
    losses.skip("silent", sum("silent" in sound.notes for sound in sounds))


def _with_speech(data: LabelledData[Sound], settings: SpeechSettings) -> LabelledData[Sound]:
    """The data with normalised transcripts; recordings without words are left out."""
    normalised = [
        dataclasses.replace(e, label=normalise_transcript(e.label)) for e in data.examples
    ]
    examples = [example for example in normalised if example.label]
    losses = Losses("recordings")
    losses.skip("no words in the transcript (tones, silence)", len(normalised) - len(examples))
    losses.check(len(normalised), data.name, settings.lossy)
    notes = [*data.notes, *losses.notes(len(normalised))]
    return dataclasses.replace(data, examples=examples, notes=notes)
