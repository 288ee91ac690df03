"""Predictions and reports as files."""

from __future__ import annotations

from pathlib import Path

from memorycell.application import catalogue
from memorycell.application.contract import AnyApplication, AnyModelFile, Record
from memorycell.errors import UserError
from memorycell.face.memory import without_paths
from memorycell.files import write_atomically


def figure_suffix(application: AnyApplication, path: Path, option: str = "") -> str:
    """The suffix of a file, if the application can write such files. Raises `UserError`.

    option   names the file in the message: "--out "
    """
    suffix = ".html" if path.suffix.lower() == ".htm" else path.suffix.lower()
    if suffix not in application.figures:
        suffixes = ", ".join(application.figures) or "nothing but text"
        raise UserError(f"{option}{path}: {application.name} can write {suffixes}")
    return suffix


def write_prediction(file: AnyModelFile, record: Record, path: Path) -> None:
    """Write a prediction; the suffix says how. Raises `UserError`."""
    application = catalogue.load(file.task)
    content = application.figures[figure_suffix(application, path)](file, record)
    if isinstance(content, str):
        content = without_paths(content)
    write_atomically(path, content)
