"""Predictions, inspections and exports: complete inputs, computed in the thread."""

from __future__ import annotations

import io
import math
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from memorycell.application import modelfile
from memorycell.errors import UserError
from memorycell.face.options import typed_options
from memorycell.face.trained import Trained
from memorycell.server.bodies import check_no_paths, decode_base64
from memorycell.server.describe import trained_description
from memorycell.server.gates import GateRecord
from memorycell.server.problems import Problem
from memorycell.server.served import ServedModel

AMOUNTS = {"bars", "beam", "count", "frames", "length", "longest", "origins", "top"}
"""Options that say how much is computed."""
MAX_PRODUCT = 100
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.-]{0,100}\.[A-Za-z0-9]{1,12}")


def trained_of(served: ServedModel) -> Trained:
    """The model file of a served model. Raises `Problem` 400."""
    if served.trained is None:
        raise Problem("bad-request", f"{served.name} is no model file: it has sessions only")
    return served.trained


def predict(served: ServedModel, body: dict[str, Any], limit: int) -> dict[str, Any]:
    """The prediction for the input of a body; `limit`: see `check_amounts`. Raises `UserError`,
    `Problem`.
    """
    trained = trained_of(served)
    application = trained.application
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise Problem("bad-request", "options: expected an object")
    check_no_paths(options)
    given = typed_options(application.predict_options, options, application.name)
    check_amounts(given, limit)
    with _source(application.predict_reads, body) as source:
        record = trained.predict_record(source, given)
        name = str(body.get("name", "data.csv"))
        record = {key: name if value == source else value for key, value in record.items()}
    return {"task": served.task, "version": served.version, **record}


def inspect(served: ServedModel, body: dict[str, Any]) -> dict[str, Any]:
    """The inspection of a model while it reads an input, or its own data."""
    trained = trained_of(served)
    with _source(trained.inspect_reads, body) as source:
        found = trained.inspect_source(source)
    record = GateRecord()
    traces = [layer.trace for layer in found.layers]
    if traces and traces[0].gates["h"].shape[0] == 1:
        record.add(traces)
    gates = record.to_json()
    if gates is not None:
        gates["labels"] = found.labels[-gates["steps"] :]
    return {"inspection": found.to_json(), "gates": gates}


def export(served: ServedModel, to: str) -> bytes:
    """A zip file with the files of an export."""
    trained = trained_of(served)
    with tempfile.TemporaryDirectory() as folder:
        exported = trained.export(to, folder)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in exported.files:
                archive.write(path, Path(path).name)
    return buffer.getvalue()


def describe_upload(data: bytes) -> dict[str, Any]:
    """What a model file that is sent says of itself; it is not served and not stored."""
    trained = Trained(modelfile.from_bytes(data, Path("the file")))
    return {"task": trained.task, **trained_description(trained)}


def check_amounts(options: Any, limit: int) -> None:
    """Raises `Problem` 422 for options that ask for too much: one of `AMOUNTS` beyond `limit`, or
    their product beyond `MAX_PRODUCT` times as much, such as many long drawings.
    """
    amounts = {
        each.name: value
        for each in fields(options)
        if each.name in AMOUNTS and type(value := getattr(options, each.name)) is int
    }
    for name, value in amounts.items():
        if value > limit:
            raise Problem("unusable-input", f"options: {name}: at most {limit:,}, got {value:,}")
    product = math.prod(max(value, 1) for value in amounts.values())
    if product > MAX_PRODUCT * limit:
        names = " × ".join(name for name, value in amounts.items() if value > 1)
        raise Problem(
            "unusable-input", f"options: {names}: at most {MAX_PRODUCT * limit:,}, got {product:,}"
        )


@contextmanager
def _source(reads: str, body: dict[str, Any]) -> Iterator[str | None]:
    """What an application predicts from: a text, or the path of a file with the content sent."""
    given, content = body.get("input"), body.get("content")
    unknown = set(body) - {"input", "content", "name", "options", "model", "op", "ref"}
    if unknown:
        raise Problem("bad-request", f"unknown field {sorted(unknown)[0]!r}")
    if given is not None and not isinstance(given, str):
        raise Problem("bad-request", "input: expected a text")
    if given is None and content is None:
        yield None
        return
    if reads == "text" and given is not None:
        yield given
        return
    if reads == "text":
        yield content if isinstance(content, str) else _bytes(content).decode(errors="replace")
        return
    if content is None:
        raise Problem(
            "bad-request",
            'this model reads files: send {"content": text or {"base64": …}, "name": "data.csv"}',
        )
    name = str(body.get("name", "data.csv"))
    if not FILE_NAME.fullmatch(name):
        raise Problem("bad-request", "name: expected a file name with a suffix, such as data.csv")
    data = content.encode() if isinstance(content, str) else _bytes(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            yield str(path)
        except UserError as error:
            raise type(error)(str(error).replace(str(path), path.name)) from None


def _bytes(content: Any) -> bytes:
    if not isinstance(content, dict) or set(content) != {"base64"}:
        raise Problem("bad-request", 'content: expected a text or {"base64": "…"}')
    return decode_base64(content["base64"], "content")
