"""`memorycell bench`: the same work by memorycell and by its peers, timed side by side.

Outputs are compared first, then calls are timed alternately; times are medians. A peer whose
outputs differ by more than the tolerance is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from memorycell.bench.peers import PEERS
from memorycell.bench.workloads import (
    measure_forward,
    measure_sessions,
    measure_step,
    measure_train,
)
from memorycell.errors import UserError
from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE


def run(
    work: str,
    hidden: Sequence[int],
    cells: Sequence[str],
    peers: Sequence[str],
    precisions: Sequence[str],
    *,
    batch: int = 64,
    sessions: int = 64,
    steps: int = 100,
    threads: Sequence[int] = (1,),
    zoneout: float = 0.0,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The JSON object of `memorycell bench step|stream|sessions|forward|train`: one row per
    combination of hidden size, cell, precision and number of threads.
    """
    _check(work, hidden, cells, peers, precisions, zoneout)
    threads_before = torch.get_num_threads()
    rows = []
    try:
        for size, cell, precision, count in product(hidden, cells, precisions, threads):
            torch.set_num_threads(count)
            if work in ("step", "stream"):
                row = measure_step(work, cell, size, precision, peers)
            elif work == "sessions":
                row = measure_sessions(cell, size, precision, peers, sessions)
            elif work == "forward":
                row = measure_forward(cell, size, precision, peers, batch, steps)
            else:
                row = measure_train(cell, size, precision, peers, batch, steps, zoneout)
            rows.append({**row, "threads": count})
            log(describe(rows[-1]))
    finally:
        torch.set_num_threads(threads_before)
    return {
        "cpu": binding.cpu_name(),
        "isa": binding.engine.instruction_set(),
        "rows": rows,
    }


def _check(
    work: str,
    hidden: Sequence[int],
    cells: Sequence[str],
    peers: Sequence[str],
    precisions: Sequence[str],
    zoneout: float,
) -> None:
    if binding.engine is None:
        raise UserError(f"bench: {binding.missing}")
    for option, values, known in (
        ("--cell", cells, binding.CELL_NUMBERS),
        ("--precision", precisions, TOLERANCE),
        ("--peers", peers, PEERS),
    ):
        for value in values:
            if value not in known:
                raise UserError(f"{option} {value}: expected one of {', '.join(known)}")
    if zoneout and work != "train":
        raise UserError("--zoneout: only for bench train")
    if min(hidden, default=0) < 1:
        raise UserError("--hidden: expected 1 or more")


def describe(row: dict[str, Any]) -> str:
    """A row as one line of text."""
    text = (
        f"{row['work']} {row['cell']} H={row['hidden']} B={row['batch']} {row['precision']}"
        f" threads={row['threads']}:"
        f" {row['ours_us']:.1f} µs"
    )
    text += f" (floor {row['floor_us']:.1f})"
    if "overhead_us" in row:
        text += f", {row['overhead_us']:.1f} more than the kernel"
    if "p99_us" in row:
        text += (
            f", p99 {row['p99_us']:.1f}, {row['steps_per_s']:,.0f} steps/s,"
            f" {row['bytes_per_session']:,} bytes per session"
        )
    for name, peer in row["peers"].items():
        text += (
            f"; {name} {peer['us']:.1f} µs, {peer['ratio']:.2f}×"
            if "us" in peer
            else f"; {name}: {peer['refused']}"
        )
    return text


def plot(result: dict[str, Any], path: Path, log: Callable[[str], None]) -> None:
    """Write an HTML page with the table, and the speed relative to each peer as bars."""
    from memorycell.files import write_atomically
    from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page

    names = sorted({name for row in result["rows"] for name in row["peers"]})
    fig = figure(420)
    labels = [
        f"{row['cell']} {row['hidden']} {row['precision']}, {row['threads']} thread(s)"
        for row in result["rows"]
    ]
    for name, colour in zip(names, (BLUE, ORANGE, GREEN, PURPLE), strict=False):
        fig.add_bar(
            x=labels,
            y=[row["peers"].get(name, {}).get("ratio") for row in result["rows"]],
            name=name,
            marker_color=colour,
        )
    fig.add_hline(y=1, line={"color": GREY, "dash": "dash"})
    fig.update_yaxes(title="times faster than the peer", type="log", dtick="D1")
    table = [["work", "ours, µs", "floor, µs", *(f"{n}, µs" for n in names)]]
    for row, label in zip(result["rows"], labels, strict=True):
        peers = [row["peers"].get(name, {}) for name in names]
        times = [row["ours_us"], row["floor_us"], *(peer.get("us") for peer in peers)]
        table.append(
            [f"{row['work']} {label}", *("–" if us is None else f"{us:.1f}" for us in times)]
        )
    lead = (
        f"{result['cpu']}, {result['isa']}. Outputs compared first, calls timed alternately,"
        " medians."
    )
    sections = [
        Section("Time per call", table=table),
        Section("Speed relative to each peer (above the dashed line: faster)", figure=fig),
    ]
    write_atomically(path, page("Speed compared with other libraries", lead, sections))
    log(f"written: {path}")
