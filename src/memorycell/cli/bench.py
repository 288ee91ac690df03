"""bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memorycell.cli.app import app
from memorycell.cli.console import log, put_json
from memorycell.cli.options import AsJson, number, whole
from memorycell.cli.outputs import PAGE, check_file
from memorycell.errors import UserError

KINDS = ("step", "stream", "sessions", "forward", "train", "calibrate")


@app.command()
def bench(
    work: Annotated[
        str,
        typer.Argument(
            metavar="|".join(KINDS),
            help="A live step, raw or by Stream; many sessions; a forward pass; a training step; or"
            " calibrate: measure for this processor when PyTorch's own LSTM is faster.",
        ),
    ],
    hidden: Annotated[
        list[int] | None,
        typer.Option(
            "--hidden", help="Hidden sizes [default: 64 128 256 512].", **whole(1, 16_384)
        ),
    ] = None,
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Cells [default: lstm].")] = None,
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="float32, bfloat16, int8 (step).")
    ] = None,
    peers: Annotated[
        str,
        typer.Option(
            "--peers", help="torch, compiled, onnxruntime, openvino, reference; with commas."
        ),
    ] = "torch",
    batch: Annotated[
        int, typer.Option("--batch", help="Batch size of forward and train.", **whole(1, 65_536))
    ] = 64,
    sessions: Annotated[
        int, typer.Option("--sessions", help="Live sessions stepped together.", **whole(1, 65_536))
    ] = 64,
    steps: Annotated[
        int,
        typer.Option("--steps", help="Sequence length of forward and train.", **whole(1, 65_536)),
    ] = 100,
    zoneout: Annotated[
        float, typer.Option("--zoneout", help="In a training step.", **number(0, 0.99))
    ] = 0.0,
    threads: Annotated[
        list[int] | None,
        typer.Option("--threads", help="PyTorch's threads [default: 1].", **whole(1, 1024)),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a page with the table and a chart.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed against peers: outputs compared first, then timed alternately, medians."""
    if work not in KINDS:
        raise UserError(f"bench {work}: expected {', '.join(KINDS)}")
    check_file("--plot", plot, PAGE)
    from memorycell.bench import calibrate, measure

    if work == "calibrate":
        calibrate.run(threads or [1, 2], log=log)
        return
    result = measure.run(
        work,
        hidden or [64, 128, 256, 512],
        cell or ["lstm"],
        [p.strip() for p in peers.split(",") if p.strip()],
        precision or ["float32"],
        batch=batch,
        sessions=sessions,
        steps=steps,
        threads=threads or [1],
        zoneout=zoneout,
        log=log,
    )
    if plot is not None:
        measure.plot(result, plot, log)
    if as_json:
        put_json(result)
