"""Ready models of `memorycell serve --demo`: trained on first use from data that come with
installed packages, in a few minutes, and kept in the cache folder. The story needs no training.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from memorycell.application import catalogue
from memorycell.errors import UserError
from memorycell.face.memory import as_source
from memorycell.face.options import with_options
from memorycell.files import write_atomically
from memorycell.server.demo_digits import digit_lines
from memorycell.training import loop
from memorycell.training.events import Epoch, Log, Step, ignore

Source: TypeAlias = "str | None"
OnReady: TypeAlias = Callable[[str, Path], None]
"""(model name, its file)"""
OnProgress: TypeAlias = Callable[[str, dict[str, Any]], None]
"""(model name, its state): {"state": "waiting" | "training" | "ready" | "failed", "share": 0..1,
"message", "task", "summary"}
"""

DIGITS_PER_CLASS = 200
MAX_CHORALES = 120
REVISION = 3
"""Raise it when a demonstration changes, so that those in the cache are trained again."""


@dataclass(frozen=True)
class Demo:
    """A small model that is trained on first use.

    find     (a folder for prepared data) -> path or name of the data; None: the task's default.
             Raises `UserError` where a package is missing
    """

    name: str
    task: str
    summary: str
    find: Callable[[Path], Source]
    settings: Mapping[str, Any] = field(default_factory=dict)


def cache_folder() -> Path:
    """XDG_CACHE_HOME/memorycell/demo, by default in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "memorycell" / "demo"


def _shakespeare_or_python(folder: Path) -> Source:
    """Shakespeare's plays where they are in MEMORYCELL_DATA, else Python's own help texts."""
    dataset = next(d for d in catalogue.load("text").datasets if d.name == "tinyshakespeare")
    try:
        return str(dataset.find())
    except UserError:
        from pydoc_data.topics import topics

        path = folder / "python-help.txt"
        write_atomically(path, "\n\n".join(topics.values()).encode())
        return str(path)


def _digits(folder: Path) -> Source:
    path = folder / "digits.jsonl"
    write_atomically(path, "\n".join(digit_lines(DIGITS_PER_CLASS)).encode())
    return str(path)


def _chorales(folder: Path) -> Source:
    """Bach's chorales: those of MEMORYCELL_DATA, else the scores that music21 carries."""
    dataset = next(d for d in catalogue.load("music").datasets if d.name == "jsb")
    try:
        dataset.find()
        return dataset.name
    except UserError:
        pass
    spec = find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("music: needs a package with scores: pip install 'memorycell[musicxml]'")
    corpus = Path(spec.submodule_search_locations[0]) / "corpus" / "bach"
    pieces = folder / "chorales"
    pieces.mkdir(exist_ok=True)
    for path in sorted(corpus.glob("bwv*.mxl"))[:MAX_CHORALES]:
        shutil.copyfile(path, pieces / path.name)
    return str(pieces)


def _cart_pole(folder: Path) -> Source:
    if find_spec("gymnasium") is None:
        raise UserError("cartpole: needs gymnasium: pip install 'memorycell[control]'")
    return "CartPole-v1"


def _default(folder: Path) -> Source:
    return None


DEMOS = (
    Demo(
        "glucose",
        "forecast",
        "Forecasts blood glucose two hours ahead",
        _default,
        {"target": "glucose", "horizon": 24, "hidden": 64, "epochs": 6},
    ),
    Demo(
        "digits",
        "handwriting",
        "Recognises digits while you draw them",
        _digits,
        {"epochs": 40, "hidden": 96, "dropout": 0.2, "warp": 0.5},
    ),
    Demo(
        "cartpole",
        "control",
        "Balances a pole without seeing how fast it falls",
        _cart_pole,
        {"hide": "velocity", "baseline_share": 0.0, "epochs": 6},
    ),
    Demo("music", "music", "Suggests what could sound next", _chorales, {"epochs": 40}),
    Demo(
        "text",
        "text",
        "Predicts the next words as you type",
        _shakespeare_or_python,
        {"epochs": 16, "hidden": 192},
    ),
)


def demo_path(demo: Demo, cache: Path) -> Path:
    """The file of a demonstration in the cache, of this version of the library."""
    return cache / f"{demo.name}-{version('memorycell')}-{REVISION}.safetensors"


def train_demos(
    cache: Path | None = None,
    log: Log = ignore,
    on_ready: OnReady = lambda name, path: None,
    on_progress: OnProgress = lambda name, state: None,
    demos: tuple[Demo, ...] = DEMOS,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Path]:
    """Train the demonstrations that are not in the cache yet, one after the other; returns the file
    of each. One that cannot be trained is reported and left out. `stopped` is asked at every step.
    """
    cache = cache or cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    ready: dict[str, Path] = {}
    waiting = []
    for demo in demos:
        path = demo_path(demo, cache)
        if path.exists():
            ready[demo.name] = path
            on_progress(demo.name, _state(demo, "ready", 1.0))
            on_ready(demo.name, path)
        else:
            waiting.append(demo)
            on_progress(demo.name, _state(demo, "waiting"))
    for demo in waiting:
        path = demo_path(demo, cache)
        try:
            _train(demo, path, cache, log, on_progress, stopped)
        except _Stopped:
            break
        except (UserError, ImportError, OSError) as error:
            log(f"demo: {demo.name}: {error}")
            on_progress(demo.name, _state(demo, "failed", message=str(error)))
            continue
        ready[demo.name] = path
        on_progress(demo.name, _state(demo, "ready", 1.0))
        on_ready(demo.name, path)
    return ready


def _state(demo: Demo, state: str, share: float = 0.0, message: str = "") -> dict[str, Any]:
    """See `OnProgress`."""
    about = {"task": demo.task, "summary": demo.summary}
    return {"state": state, "share": share, "message": message, **about}


class _Stopped(Exception):
    """The training was asked to end."""


def _train(
    demo: Demo,
    path: Path,
    cache: Path,
    log: Log,
    on_progress: OnProgress,
    stopped: Callable[[], bool],
) -> None:
    application = catalogue.load(demo.task)
    own, train_settings = with_options(
        [application.settings(), application.training], dict(demo.settings), demo.task
    )

    def report(share: float, message: str) -> None:
        on_progress(demo.name, _state(demo, "training", share, message))

    def on_event(event: Step | Epoch) -> None:
        if stopped():
            raise _Stopped
        if isinstance(event, Step) and event.steps:
            share = min(event.step / event.steps, 1.0)
            left = event.seconds / share - event.seconds if share else 0.0
            report(share, f"epoch {event.epoch} of {event.epochs}, {left:.0f} s left")

    report(0.0, "reading the data")
    log(f"demo: training {demo.name} ({demo.summary}), once; it is kept in {cache}")
    # Training writes its file at every better epoch: one that was stopped is not in the cache.
    unfinished = cache / f"unfinished-{demo.name}.safetensors"
    with as_source(application, demo.find(cache), own) as source:
        loop.train(application, source, own, train_settings, unfinished, on_event=on_event)
    unfinished.replace(path)
