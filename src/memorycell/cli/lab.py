"""lab."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from memorycell.cli.app import app
from memorycell.cli.console import log, put_json
from memorycell.cli.options import AsJson, Seed, whole
from memorycell.cli.outputs import PAGE, check_file
from memorycell.errors import UserError

LINE_INTERVAL = 500
"""Updates of a reader per line of progress."""


@app.command()
def lab(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[classics|story]", help="The long-lag problems, or the article's example."
        ),
    ] = "classics",
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("lab.html"),
    updates: Annotated[
        int | None,
        typer.Option(
            "--updates",
            help="Training ends when a problem is solved, or after this many updates [default:"
            " 5,000; the story 20,000].",
            **whole(1, 10_000_000),
        ),
    ] = None,
    gap: Annotated[
        int, typer.Option("--gap", help="The longest gap of recall.", **whole(2, 100_000))
    ] = 200,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Cells [default: six; see docs/cells.md].")
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "--problem",
            help="recall, adding, order, copy [default: these four], parity, associative.",
        ),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the story's models instead of loading them.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The memory lab: train a plain RNN and gated cells on long-lag problems and compare them, or
    follow the article's story through the gates of an LSTM.
    """
    if what not in ("classics", "story"):
        raise UserError(f"lab {what}: expected classics or story")
    check_file("--out", out, PAGE)
    if what == "story":
        page, result = _story(retrain, updates, seed)
    else:
        page, result = _classics(updates, gap, cell, problem, seed)
    from memorycell.files import write_atomically

    write_atomically(out, page)
    log(f"written: {out}")
    if as_json:
        put_json({"report": str(out), **result})


def _classics(
    updates: int | None, gap: int, cells: list[str] | None, problems: list[str] | None, seed: int
) -> tuple[str, dict[str, Any]]:
    from memorycell.lab import classics
    from memorycell.lab.classics_report import classics_page
    from memorycell.lab.problems import CLASSIC_PROBLEMS
    from memorycell.lab.trial import MAX_UPDATES

    began = time.monotonic()
    problems = problems or list(CLASSIC_PROBLEMS)
    trials = classics.run_trials(
        updates or MAX_UPDATES,
        gap,
        cells or classics.default_cells(problems),
        problems,
        seed=seed,
        log=log,
    )
    result = classics.to_json(trials, time.monotonic() - began)
    return classics_page(trials, result["carousel"]["max_change"]), result


def _story(retrain: bool, updates: int | None, seed: int) -> tuple[str, dict[str, Any]]:
    from memorycell.lab.reader import MAX_UPDATES
    from memorycell.lab.story import run_story
    from memorycell.lab.story_report import story_page
    from memorycell.lab.trained_readers import shipped_readers, train_readers

    if not retrain and (updates, seed) != (None, 0):
        raise UserError("lab story: --updates and --seed need --retrain")
    readers, done = (
        train_readers(seed, _reader_progress, max_updates=updates or MAX_UPDATES)
        if retrain
        else shipped_readers()
    )
    story = run_story(readers, done, seed, log)
    log(f"so this country is … {story.answer.capitalize()} ({story.probability:.1%})")
    return story_page(story), story.to_json()


def _reader_progress(cell: str, updates: int, valid_accuracy: float) -> None:
    if updates % LINE_INTERVAL == 0:
        log(f"{cell}: {updates:,} updates, {valid_accuracy:.1%} correct on validation")
