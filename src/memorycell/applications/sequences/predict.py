"""Answers to the sequences of a file, as records and as tables."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.application.rendering import printable
from memorycell.applications.sequences.answering import answers, answers_over_time
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.prepare import SequencesFile, read_for
from memorycell.applications.sequences.sequence_set import SequenceSet
from memorycell.errors import DataError
from memorycell.models.quantiles import interval
from memorycell.signals.unknown import UNKNOWN_LABEL

if TYPE_CHECKING:
    import polars as pl

MAX_RENDERED = 40
MAX_RENDERED_CLASSES = 3


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    encoding, sheet   of the table, as in training by default: cp1252, the name of a sheet
    """

    encoding: str | None = None
    sheet: str | None = None


def predict(file: SequencesFile, source: str | None, options: PredictOptions) -> Record:
    """`{"data", "kind", "sequences": [{"name", "steps", …}], "notes"}`. Of each sequence

    class     "label", "p" (its probability), "probabilities" by class; "sure_after": the step from
              which on the answer was sure, None if it never was; where the label is "unknown",
              "nearest": the most probable class
    labels    "labels" of a probability of 0.5 or more, "probabilities" by label
    number    "numbers": name -> "median", "low80", "high80"
    at every step   "labels" and "p", or "numbers" with lists
    """
    if source is None:
        raise DataError("predict: needs a file of sequences")
    data = read_sequences_for(file, source, options)
    codec = file.codec
    inputs = codec.encode(data)
    found = answers(file.model, codec, inputs)
    records = []
    for name, length, answer in zip(data.names, data.lengths.tolist(), found, strict=True):
        records.append({"name": name, "steps": length, **answer_record(codec, answer)})
    if codec.target == "class" and not file.model.config.bidirectional:
        threshold = float(file.model.sure)
        paths = answers_over_time(file.model, codec, inputs)
        for record, path in zip(records, paths, strict=True):
            record["sure_after"] = _sure_after(path, threshold, codec.patch, record["steps"])
    return {
        "data": source,
        "kind": codec.target,
        "encoding": options.encoding,
        "sheet": options.sheet,
        "sequences": records,
        "notes": data.notes,
    }


def read_sequences_for(file: SequencesFile, source: str, options: PredictOptions) -> SequenceSet:
    """Sequences without targets."""
    settings: dict[str, Any] = dict(file.info.get("settings") or {})
    if options.encoding is not None:
        settings["encoding"] = options.encoding
    if options.sheet is not None:
        settings["sheet"] = options.sheet
    info = {**file.info, "settings": settings}
    own = ModelFile(file.model, file.codec, info, file.arrays)
    return read_for(own, source, labelled=False, pair=False)


def _sure_after(path: np.ndarray, threshold: float, patch: int, steps: int) -> int | None:
    reached = path.max(1) >= threshold
    return min(patch * (int(reached.argmax()) + 1), steps) if reached.any() else None


def answer_record(codec: SequenceCodec, answer: np.ndarray) -> dict[str, Any]:
    """The answer to a sequence, or the answers at its steps; see `predict`."""
    names = codec.names
    if codec.target == "class":
        best = int(answer.argmax())
        record = {
            "label": names[best],
            "p": round(float(answer[best]), 4),
            "probabilities": _by_name(names, answer),
        }
        if answer[best] < codec.unknown_below:
            record |= {"label": UNKNOWN_LABEL, "nearest": names[best]}
        return record
    if codec.target == "labels":
        chosen = [name for name, p in zip(names, answer, strict=True) if p >= 0.5]
        return {"labels": chosen, "probabilities": _by_name(names, answer)}
    if codec.target == "step_class":
        best_of = answer.argmax(1)
        return {
            "labels": [names[k] for k in best_of],
            "p": [round(float(p), 4) for p in answer.max(1)],
        }
    low, median, high = interval(answer)
    numbers = {}
    for k, name in enumerate(names):
        parts = {"median": median[..., k], "low80": low[..., k], "high80": high[..., k]}
        numbers[name] = {key: value.tolist() for key, value in parts.items()}
    return {"numbers": numbers}


def _by_name(names: tuple[str, ...], p: np.ndarray) -> dict[str, float]:
    return {name: round(float(v), 4) for name, v in zip(names, p, strict=True)}


# ---- tables --------------------------------------------------------------------------------------


def answer_columns(file: SequencesFile, record: Record) -> dict[str, list[object]]:
    """A prediction as columns: one row per sequence with `sequence`, and

    class    label, p, and the probability of each class
    labels   the probability of each label
    number   the median, low80 and high80 of each number

    or at every step one row per step, with `step` from 1.
    """
    codec, given = file.codec, dict(record)
    sequences: Any = given["sequences"]
    columns: dict[str, list[object]] = {"sequence": []}
    if codec.every_step:
        columns["step"] = []
    for one in sequences:
        count = one["steps"] if codec.every_step else 1
        columns["sequence"] += [one["name"]] * count
        if codec.every_step:
            columns["step"] += range(1, count + 1)
        for name, values in _cells(codec, one).items():
            columns.setdefault(name, []).extend(values if codec.every_step else [values])
    return columns


def _cells(codec: SequenceCodec, one: dict[str, Any]) -> dict[str, Any]:
    """Column -> its value for a sequence, or the list of those at its steps."""
    if codec.numeric:
        return {
            name if part == "median" else f"{name} {part}": value
            for name, parts in one["numbers"].items()
            for part, value in parts.items()
        }
    if codec.target == "step_class":
        return {"label": one["labels"], "p": one["p"]}
    own = {"label": one["label"], "p": one["p"]} if codec.target == "class" else {}
    return own | {f"p {name}": p for name, p in one["probabilities"].items()}


def answer_table(file: SequencesFile, record: Record) -> pl.DataFrame:
    """`answer_columns` as a frame."""
    import polars as pl

    return pl.DataFrame(answer_columns(file, record))


def to_csv(file: SequencesFile, record: Record) -> bytes:
    """A prediction as CSV; see `answer_columns`."""
    return answer_table(file, record).write_csv().encode()


def to_parquet(file: SequencesFile, record: Record) -> bytes:
    """A prediction as Parquet; see `answer_columns`."""
    buffer = io.BytesIO()
    answer_table(file, record).write_parquet(buffer)
    return buffer.getvalue()


# ---- text ----------------------------------------------------------------------------------------


def render(record: dict[str, Any]) -> str:
    """See `Application.render`."""
    lines = [*record["notes"]]
    lines += [
        f"{printable(one['name'])}: {_shown(record['kind'], one)}"
        for one in record["sequences"][:MAX_RENDERED]
    ]
    more = len(record["sequences"]) - MAX_RENDERED
    if more > 0:
        lines.append(f"… and {more:,} more (--json, or --out answers.csv)")
    return "\n".join(lines)


def _shown(kind: str, one: dict[str, Any]) -> str:
    if kind == "class":
        ranked = sorted(one["probabilities"].items(), key=lambda item: -item[1])
        others = ", ".join(f"{printable(n)} {p:.1%}" for n, p in ranked[1:MAX_RENDERED_CLASSES])
        early = (
            f"; sure after {one['sure_after']} of {one['steps']} steps"
            if (one.get("sure_after"))
            else ""
        )
        if "nearest" in one:
            return f"{one['label']} (nearest {printable(one['nearest'])} {one['p']:.1%})"
        return (
            f"{printable(one['label'])} {one['p']:.1%}" + (f" ({others})" if others else "") + early
        )
    if kind == "labels":
        return ", ".join(map(printable, one["labels"])) or "none of the labels"
    if kind == "number":
        return ", ".join(
            f"{printable(name)} {v['median']:.6g} ({v['low80']:.6g} to {v['high80']:.6g})"
            for name, v in one["numbers"].items()
        )
    if kind == "step_class":
        return f"{one['steps']} steps, the last {printable(one['labels'][-1])} {one['p'][-1]:.1%}"
    return ", ".join(
        f"{one['steps']} steps, {printable(name)} {v['median'][-1]:.6g} at the last"
        f" ({v['low80'][-1]:.6g} to {v['high80'][-1]:.6g})"
        for name, v in one["numbers"].items()
    )
