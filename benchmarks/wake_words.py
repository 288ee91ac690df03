"""False alarms and misses of one spoken word in speech that is none of it.

    python benchmarks/wake_words.py [--word 7] [--minutes 2] [--json]
    python benchmarks/wake_words.py --smoke

A model of the spoken digits is trained with a third of the asterisk prompts as none of the labels
(complete ones, and parts of a second); another third sets the threshold. The last third is then
streamed, with a second of silence after each prompt. An answer with the word is a false alarm;
prompts with the word in their transcript are left out. Misses are test recordings of the word,
streamed one by one, with another answer. --smoke trains a small model on generated data: its
figures have no meaning.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_data
import soundfile

from memorycell.application import catalogue, modelfile
from memorycell.application.contract import AnyModelFile
from memorycell.application.datasets import locate
from memorycell.applications.speech.audio import Sound, read_audio, resample_sound
from memorycell.applications.speech.session import SpeechSession, StreamOptions
from memorycell.setting_fields import parse_settings
from memorycell.training import loop

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PART_S, SILENCE_S = 1.0, 1.0
FAINT = 1e-3
"""Amplitude of the noise in the silence between prompts."""
TEST_INDEX = 5
"""Recordings of the digits below it are those of the test split."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--word", default="7", help="a digit")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    names = ("free-spoken-digits", "asterisk-en")
    digits, prompts = (
        small_data.write(name, folder) if options.smoke else locate(name)[0] for name in names
    )
    word, last = ("1", 8) if options.smoke else (options.word, TEST_INDEX)
    others = prompts_without(prompts, NUMBERS[int(word)])
    data = folder / "joined"
    data.mkdir()
    for path in digits.glob("*.wav"):
        (data / path.name).symlink_to(path)
    for third in (0, 1):
        write_prompts(data, f"prompts{third}", others[third::3])
    write_prompts(data, "prompts2", others[2::3][:3])  # the third class: its share is not used
    values = {"unknown": "prompts*", "names": "{label}_{group}_{index}"}
    values |= {"test_share": "0.2"} if options.smoke else {"held_out": f"index<{TEST_INDEX}"}
    values |= {"hidden": "8", "layers": "1", "epochs": "1"} if options.smoke else {}
    application, out = catalogue.load("speech"), folder / "model.safetensors"
    settings, training = parse_settings((application.settings(), application.training), values)
    minutes = None if options.smoke else options.minutes
    loop.train(application, str(data), settings, replace(training, seed=0), out, minutes=minutes)
    file = modelfile.load(out)
    recordings = [p for p in digits.glob(f"{word}_*.wav") if int(p.stem.split("_")[-1]) < last]
    misses = [word not in answers(file, [read_audio(path)]) for path in sorted(recordings)]
    sounds = [read_audio(path) for path in others[2::3]]
    found = answers(file, sounds)
    hours = sum(len(s.samples) / s.rate_hz + SILENCE_S for s in sounds) / 3600
    result = {
        "word": word,
        "misses": round(float(np.mean(misses)), 4),
        "recordings": len(recordings),
        "false alarms": found.count(word),
        "hours": round(hours, 4),
        "per hour": round(found.count(word) / hours, 2),
        "answers": len(found),
        "with any digit": sum(label != "unknown" for label in found),
        "accuracy of the digits": file.info["metrics"]["accuracy"],
    }
    print(json.dumps(result) if options.json else "  ".join(map(str, result.values())))


def prompts_without(folder: Path, word: str) -> list[Path]:
    """The prompts whose transcript has words, and not this one, in an order of a fixed seed."""
    lines = (folder / "transcripts.txt").read_text().splitlines()
    texts = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != ";")
    named = {name: text.lower() for name, text in texts.items() if "[" not in text}
    found = [
        path
        for name, text in sorted(named.items())
        if word not in text and (path := folder / f"{name}.wav").exists()
    ]
    return [found[k] for k in np.random.default_rng(0).permutation(len(found))]


def write_prompts(folder: Path, label: str, paths: list[Path]) -> None:
    """Complete prompts, and a part of each."""
    rng = np.random.default_rng(0)
    for k, path in enumerate(paths):
        sound = read_audio(path)
        size = round(PART_S * sound.rate_hz)
        begin = int(rng.integers(0, max(len(sound.samples) - size, 0) + 1))
        parts = (sound.samples, sound.samples[begin : begin + size])
        for index, samples in enumerate(parts):
            file = folder / f"{label}_{path.stem.replace('_', '-')}{index}_{100 + k}.wav"
            soundfile.write(file, samples, sound.rate_hz)


def answers(file: AnyModelFile, sounds: list[Sound]) -> list[str]:
    """The final labels of sounds that are streamed one after another, with silence between them."""
    rng, rate = np.random.default_rng(0), file.codec.rate_hz
    session, found = SpeechSession(file, options=StreamOptions()), []
    for sound in sounds:
        silence = FAINT * rng.standard_normal(round(SILENCE_S * rate))
        samples = resample_sound(sound, rate).samples
        joined = np.concatenate([samples, silence.astype(np.float32)])
        found += session.feed_samples(joined, rate)
    found += session.close()
    return [record["label"] for record in found if record.get("final")]


if __name__ == "__main__":
    main()
