"""bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import AsJson, app, check_writable
from memorycell.cli.console import log
from memorycell.errors import UserError

KINDS = ("step", "stream", "sessions", "train")


@app.command()
def bench(
    work: Annotated[
        str,
        typer.Argument(
            metavar="|".join(KINDS),
            help="One live step, raw or through Stream; many sessions; or one training step.",
        ),
    ],
    hidden: Annotated[
        list[int] | None,
        typer.Option("--hidden", help="Hidden sizes [default: 64 128 256 512]."),
    ] = None,
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Cells [default: lstm].")] = None,
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="float32, bfloat16, int8 (step).")
    ] = None,
    peers: Annotated[
        str, typer.Option("--peers", help="torch, onnxruntime, openvino, reference; with commas.")
    ] = "torch",
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Batch size of a training step.")
    ] = 64,
    sessions: Annotated[
        int, typer.Option("--sessions", min=1, help="Live sessions stepped together.")
    ] = 64,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Sequence length of a training step.")
    ] = 100,
    zoneout: Annotated[
        float, typer.Option("--zoneout", min=0, max=0.99, help="In a training step.")
    ] = 0.0,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a page with the table and a chart.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed against peers: outputs compared first, then timed alternately, medians."""
    if work not in KINDS:
        raise UserError(f"bench {work}: expected {', '.join(KINDS)}")
    check_writable(plot)
    from memorycell.bench import measure

    result = measure.run(
        work,
        hidden or [64, 128, 256, 512],
        cell or ["lstm"],
        [p.strip() for p in peers.split(",") if p.strip()],
        precision or ["float32"],
        batch=batch,
        sessions=sessions,
        steps=steps,
        threads=threads,
        zoneout=zoneout,
        log=log,
    )
    if plot is not None:
        measure.plot(result, plot)
        log(f"written: {plot}")
    if as_json:
        print(json.dumps(result))
