"""Split labelled examples into train, valid and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from memorycell.errors import DataError, quote
from memorycell.language.codec import fingerprint
from memorycell.signals.examples import Example, R, Splits
from memorycell.training.splits import SPLITS, split_of

MIN_SPLIT_EXAMPLES = 5
MIN_SPEAKERS = 5
"""With fewer, examples by one speaker may be in several splits."""
SPEAKER_FIELD = "speaker"


@dataclass(frozen=True)
class ReadSettings:
    """How files are read.

    encoding   of text files, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    lossy      accept that more than 5% of the examples cannot be read; they are left out
    """

    encoding: str | None = None
    lossy: bool = False


@dataclass(frozen=True)
class SplitSettings:
    """How examples are split.

    held_out     the test examples by a field: "writer>15", "index<5", "group=theo"; by default a
                 share by hash (of the transcript; for classes, of the name)
    checked      the validation examples, likewise; by default a share of the rest
    test_share   size of each of these shares
    """

    held_out: str | None = None
    checked: str | None = None
    test_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.02 <= self.test_share <= 0.34:
            raise ValueError(f"test_share={self.test_share}: expected 0.02 to 0.34")
        for rule in (self.held_out, self.checked):
            if rule is not None:
                SplitRule.parse(rule)


@dataclass(frozen=True)
class SplitRule:
    """Selects the examples with a field equal to, below or above a value."""

    field: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> SplitRule:
        """From "index<5", "writer>15" or "group=theo". Raises ValueError."""
        match = re.fullmatch(r"\s*(\w+)\s*([<>=])\s*(\S+)\s*", text)
        if match is None or (match[2] != "=" and not match[3].lstrip("-").isdigit()):
            raise ValueError(
                f"{text}: expected FIELD=VALUE, FIELD<NUMBER or FIELD>NUMBER, such as index<5"
            )
        return cls(match[1], match[2], match[3])

    def matches(self, example: Example[R]) -> bool:
        """Raises `DataError` for an example without the field."""
        value = example.fields.get(self.field)
        if value is None or (self.operator != "=" and not value.lstrip("-").isdigit()):
            fields = (f"{quote(k)[1:-1]}={quote(v)[1:-1]}" for k, v in example.fields.items())
            known = ", ".join(fields) or "none"
            raise DataError(
                f"{example.name}: cannot evaluate {self.field}{self.operator}{self.value}; its"
                f" fields: {known}"
            )
        if self.operator == "=":
            return value == self.value
        difference = int(value) - int(self.value)
        return difference < 0 if self.operator == "<" else difference > 0


def split_examples(
    examples: Sequence[Example[R]], settings: SplitSettings, *, classes: bool, where: str
) -> tuple[Splits[R], list[str]]:
    """(the examples of every split, notes). Raises `DataError` for a split with too few.

    classes   labels are class names: hash the example's name, not its label

    By default the splits have different speakers, where at least `MIN_SPEAKERS` are known.
    """
    by_speaker = _split_by_speaker(examples, settings)
    if by_speaker:
        return by_speaker, [_speaker_note(by_speaker, classes)]
    test, valid = (
        None if rule is None else SplitRule.parse(rule)
        for rule in (settings.held_out, settings.checked)
    )
    one_in = round(1 / settings.test_share)
    splits: Splits[R] = {split: [] for split in SPLITS}
    for example in examples:
        split = split_of(example.name if classes else example.label, one_in)
        if (split == "test" and test is not None) or (split == "valid" and valid is not None):
            split = "train"
        if test is not None and test.matches(example):
            split = "test"
        elif valid is not None and valid.matches(example):
            split = "valid"
        splits[split].append(example)
    return _checked(splits, where), []


def _checked(splits: Splits[R], where: str) -> Splits[R]:
    for split, members in splits.items():
        if len(members) < MIN_SPLIT_EXAMPLES:
            raise DataError(
                f"{where}: only {len(members)} examples in the {split} split; at least"
                f" {MIN_SPLIT_EXAMPLES} are needed; add data or change held_out"
            )
    return splits


def _split_by_speaker(examples: Sequence[Example[R]], settings: SplitSettings) -> Splits[R]:
    """Splits of different speakers, test and valid of about `test_share` each; empty where a rule
    is given, or too few speakers are known.
    """
    by_speaker: dict[str, list[Example[R]]] = {}
    for example in examples:
        by_speaker.setdefault(example.fields.get(SPEAKER_FIELD, ""), []).append(example)
    rules = settings.held_out or settings.checked
    if rules or "" in by_speaker or len(by_speaker) < MIN_SPEAKERS:
        return {}
    wanted = max(MIN_SPLIT_EXAMPLES, round(settings.test_share * len(examples)))
    splits: Splits[R] = {split: [] for split in SPLITS}
    for speaker in sorted(by_speaker, key=lambda name: fingerprint([name])):
        own = by_speaker[speaker]
        free = (s for s in ("test", "valid") if len(splits[s]) < wanted and len(own) <= 2 * wanted)
        splits[next(free, "train")] += own
    return splits if min(map(len, splits.values())) >= MIN_SPLIT_EXAMPLES else {}


def _speaker_note(splits: Splits[R], classes: bool) -> str:
    counts = ", ".join(
        f"{len({e.fields[SPEAKER_FIELD] for e in members})} {split}"
        for split, members in splits.items()
    )
    if classes:
        return f"split by speaker: {counts}"
    known = {e.label for e in splits["train"]}
    repeated = sum(e.label in known for e in splits["test"])
    return (
        f"split by speaker: {counts}; {repeated:,} of {len(splits['test']):,} test transcripts also"
        " occur in training"
    )
