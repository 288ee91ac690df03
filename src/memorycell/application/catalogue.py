"""Which applications there are, by name. Nothing is imported until one is loaded.

Another package adds an application through the entry-point group `memorycell.applications`:

    [project.entry-points."memorycell.applications"]
    tides = "tides_package.application:APPLICATION"
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from memorycell.errors import UserError, quote
from memorycell.setting_fields import suggestion

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication

GROUP = "memorycell.applications"
EXTRAS = {
    "forecast": "forecast",
    "text": "language",
    "sentiment": "language",
    "translation": "language",
    "chat": "language",
    "speech": "speech",
    "handwriting": "handwriting",
    "drawing": "handwriting",
    "music": "music",
    "anomaly": "anomaly",
    "sequences": "sequences",
    "video": "video",
    "control": "control",
}
"""Built-in application -> the extra that installs what it needs."""


@cache
def _entries() -> dict[str, EntryPoint]:
    built_in = {
        name: EntryPoint(name, f"memorycell.applications.{name}:APPLICATION", GROUP)
        for name in EXTRAS
    }
    return {**{entry.name: entry for entry in entry_points(group=GROUP)}, **built_in}


def names() -> list[str]:
    """The names of all applications, built-in ones first."""
    return [*EXTRAS, *(name for name in sorted(_entries()) if name not in EXTRAS)]


@cache
def load(name: str) -> AnyApplication:
    """The application of a name. Raises `UserError` for an unknown one, or a missing package."""
    if name not in _entries():
        raise UserError(
            f"{quote(name)[1:-1]}: no such task; {suggestion(name, names())}there are"
            f" {', '.join(names())} (memorycell tasks)"
        )
    try:
        application: AnyApplication = _entries()[name].load()
    except ModuleNotFoundError as error:
        raise missing_package(name, error) from None
    return application


def missing_package(name: str, error: ModuleNotFoundError) -> UserError:
    """The error to raise where an application needs a package that is not installed.

    Raises the given error where the package is one of ours.
    """
    if (error.name or "").startswith("memorycell"):
        raise error
    distribution = _entries()[name].dist
    what = f"memorycell[{EXTRAS[name]}]" if distribution is None else distribution.name
    return UserError(f"{name} needs {error.name}: pip install '{what}'")
