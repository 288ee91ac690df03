"""`memorycell serve` measured on two cores: the server on one, the load on the other.

    python benchmarks/serve.py [--peer] [--row NAME ...] [--smoke] [--json]

--peer also measures the same service written the usual way (benchmarks/peer_server.py), where a row
compares. Outputs are compared first. Figures are medians of alternating slices; `us` are
microseconds of the server's processor time per step, on which a busy machine has little effect;
rates by the clock and latencies need an idle one. --smoke: small sizes, in under two minutes.

Rows: messages, busy64, busy1000, latency, overhead, open, durable, kills, reloads, flat, relayed.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serve_relay as relay
import serve_rows as rows
import serve_survival as survival
import torch


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="store_true", help="measure the peer, too")
    parser.add_argument("--row", action="append", help="only these rows")
    parser.add_argument("--smoke", action="store_true", help="small sizes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice of load")
    parser.add_argument("--rounds", type=int, default=5, help="alternating slices")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10_000_000, help="of the row flat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    server = {cores[0]}
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory() as folder:
        plan = rows.Plan(
            folder=Path(folder),
            seconds=0.2 if options.smoke else options.seconds,
            rounds=1 if options.smoke else options.rounds,
            server=server,
            many=50 if options.smoke else 1000,
            frames=16 if options.smoke else 64,
            open_sessions=1000 if options.smoke else 10_000,
            kills=1 if options.smoke else options.kills,
            reloads=3 if options.smoke else 20,
            total_steps=20_000 if options.smoke else options.steps,
            peer=options.peer,
        )
        measurements: dict[str, Callable[[], Any]] = {
            "messages": lambda: rows.messages(plan),
            "busy64": lambda: rows.busy(plan, 64),
            "busy1000": lambda: rows.busy(plan, plan.many),
            "latency": lambda: rows.latency(plan),
            "overhead": lambda: rows.overhead(plan),
            "open": lambda: survival.open_sessions(plan),
            "durable": lambda: survival.durable(plan),
            "kills": lambda: survival.kills(plan),
            "reloads": lambda: survival.reloads(plan),
            "flat": lambda: survival.flat(plan),
            "relayed": lambda: relay.relayed(plan),
        }
        unknown = set(options.row or ()) - set(measurements)
        if unknown:
            sys.exit(f"--row {', '.join(unknown)}: expected one of {', '.join(measurements)}")
        result = {}
        for name, measure in measurements.items():
            if name in (options.row or measurements):
                result[name] = measure()
                if not options.json:
                    print(f"{name}\n{_lines(result[name])}", flush=True)
    if options.json:
        print(json.dumps(result))


def _lines(row: dict[str, Any]) -> str:
    width = max(len(key) for key in row)
    return "\n".join(f"    {key:{width}}  {_text(value)}" for key, value in row.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
