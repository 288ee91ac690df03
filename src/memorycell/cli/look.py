"""prove, inspect, lab."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import (
    app,
    check_precision,
    load_model,
    packages_of,
)
from memorycell.cli.console import log, put_json
from memorycell.cli.options import MINUTES, AsJson, ModelPath, Seed, whole
from memorycell.cli.outputs import PAGE, check_file
from memorycell.errors import UserError


@app.command()
def prove(
    file: ModelPath,
    precision: Annotated[
        list[str] | None,
        typer.Option("--precision", help="float32, bfloat16, int8 [default: all three]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model in every way it can run and print the largest difference: full sequence, chunks,
    single steps, in a pool, saved and loaded, rewound and forked, exported. Status 1 when a
    difference exceeds its bound.
    """
    from memorycell.cli.export import proved

    precisions = precision or ["float32", "bfloat16", "int8"]
    check_precision(*precisions)
    application, model = load_model(file)
    with packages_of(application):
        proof = proved(application, model, precisions, ("onnx", "c"))
    if as_json:
        put_json({"file": str(file), **proof.result, "costs": proof.costs})
    if not proof.ok:
        raise SystemExit(1)


@app.command()
def inspect(
    file: ModelPath,
    source: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="A file or a text to read; else the model's data."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Look inside the gates: their activity over time, saturation, and how far back the model
    remembers.
    """
    from memorycell.cli.run import read_input
    from memorycell.files import write_atomically

    check_file("--out", out, PAGE, inputs=(file, source))
    application, model = load_model(file)
    with packages_of(application):
        reads = application.inspect_reads or application.predict_reads
        found = application.inspect(model, read_input(reads, source))
        write_atomically(out, found.page())
    log(found.summary)
    for line in found.advice:
        log(f"suggestion: {line}")
    log(f"written: {out}")
    if as_json:
        put_json({"file": str(file), "report": str(out), **found.to_json()})


@app.command()
def lab(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[classics|story]", help="The long-lag problems, or the article's example."
        ),
    ] = "classics",
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("lab.html"),
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Approximate time [3; the story 0.8].", **MINUTES),
    ] = None,
    gap: Annotated[
        int, typer.Option("--gap", help="The longest gap of recall.", **whole(2, 100_000))
    ] = 200,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Cells [default: all six].")
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option("--problem", help="recall, adding, order, copy [default: all]."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The memory lab: train a plain RNN and gated cells on long-lag problems and compare them."""
    if what not in ("classics", "story"):
        raise UserError(f"lab {what}: expected classics or story")
    check_file("--out", out, PAGE)
    from memorycell.files import write_atomically

    if what == "story":
        from memorycell.lab.story import run_story
        from memorycell.lab.story_report import story_page

        story = run_story(minutes or 0.8, seed, log)
        write_atomically(out, story_page(story))
        log(f"so this country is … {story.answer.capitalize()} ({story.probability:.1%})")
        result = story.to_json()
    else:
        from memorycell.lab import classics
        from memorycell.lab.classics_report import classics_page
        from memorycell.lab.problems import PROBLEMS
        from memorycell.lab.trial import CELLS

        began = time.monotonic()
        trials = classics.run_trials(
            minutes or 3.0, gap, cell or CELLS, problem or tuple(PROBLEMS), seed=seed, log=log
        )
        result = classics.to_json(trials, time.monotonic() - began)
        write_atomically(out, classics_page(trials, result["carousel"]["max_change"]))
    log(f"written: {out}")
    if as_json:
        put_json({"report": str(out), **result})
