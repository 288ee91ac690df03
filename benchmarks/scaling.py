"""Whole sequences beside torch.nn.LSTM over batch, time, hidden size and threads: how many times
faster, forward and training.

    python benchmarks/scaling.py --threads 1 --threads 2 [--hidden 64 …] [--json scaling.json]
    [--smoke]

Ratios of medians of alternating calls, after outputs and gradients are compared; over 1 is faster
than PyTorch. `GF` is the billions of operations a second of the forward pass (multiplications and
additions of the products alone), beside the machine's peak on one thread. Work of more than
`--most` billions of operations is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

import memorycell
from memorycell.ops import binding

BATCHES, STEPS, HIDDEN, FEATURES = (
    (1, 8, 32, 128, 256),
    (16, 100, 365),
    (16, 32, 64, 128, 256, 512),
    16,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--hidden", type=int, action="append")
    parser.add_argument(
        "--backend", choices=["native"], help="force ours; by default it may pick PyTorch"
    )
    parser.add_argument(
        "--most", type=float, default=8.0, help="billions of operations in a forward pass"
    )
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument(
        "--smoke", action="store_true", help="two small shapes, to see that it runs"
    )
    args = parser.parse_args()
    rows = []
    peak = peak_of_a_thread()
    print(
        f"peak {peak:.0f} GF on one thread,"
        f" {binding.engine.instruction_set() if binding.engine else 'no engine'}"
    )
    print(
        f"{'threads':>7} {'B':>4} {'T':>4} {'H':>4} {'forward':>8} {'GF':>5} {'training':>9} "
        " backend"
    )
    for threads in args.threads or [1, 2]:
        torch.set_num_threads(threads)
        for hidden in args.hidden or (HIDDEN if not args.smoke else (16,)):
            for batch in BATCHES if not args.smoke else (1, 8):
                for steps in STEPS if not args.smoke else (16,):
                    operations = 8 * batch * steps * hidden * (FEATURES + hidden)
                    if operations > args.most * 1e9:
                        continue
                    row = measure(batch, steps, hidden, args.backend, operations)
                    rows.append({"threads": threads, **row})
                    print(
                        f"{threads:7} {batch:4} {steps:4} {hidden:4} {row['forward']:8.2f}"
                        f" {row['gigaflops']:5.0f} {row['training']:9.2f}  {row['backend']}",
                        flush=True,
                    )
    for threads in args.threads or [1, 2]:
        for what in ("forward", "training"):
            found = [row[what] for row in rows if row["threads"] == threads]
            worst, middle = min(found), statistics.median(found)
            print(f"{what}, {threads} threads: median {middle:.2f}, worst {worst:.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"peak_gigaflops": peak, "rows": rows}, file, indent=1)


def measure(
    batch: int, steps: int, hidden: int, backend: str | None, operations: int
) -> dict[str, float | int | str]:
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(FEATURES, hidden, batch_first=True)
    ours = memorycell.LSTM(FEATURES, hidden, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, steps, FEATURES)
    options = {"backend": backend} if backend else {}
    agree(lambda: training(ours, x, **options), lambda: training(theirs, x))
    forward = ratio(lambda: inference(ours, x, **options), lambda: inference(theirs, x), operations)
    train = ratio(lambda: training(ours, x, **options), lambda: training(theirs, x), 3 * operations)
    return {
        "batch": batch,
        "steps": steps,
        "hidden": hidden,
        "forward": forward[1] / forward[0],
        "training": train[1] / train[0],
        "forward_ms": 1e3 * forward[0],
        "training_ms": 1e3 * train[0],
        "gigaflops": operations / forward[0] / 1e9,
        "backend": backend or memorycell.explain(ours, x).backend,
    }


@torch.no_grad()
def inference(layer: torch.nn.Module, x: torch.Tensor, **options: str) -> list[torch.Tensor]:
    return [layer(x, **options)[0]]


def training(layer: torch.nn.Module, x: torch.Tensor, **options: str) -> list[torch.Tensor]:
    own = x.detach().requires_grad_()
    output = layer(own, **options)[0]
    return [output.detach(), *torch.autograd.grad(output.sum(), [own, *layer.parameters()])]


def agree(ours: Callable[[], list[torch.Tensor]], theirs: Callable[[], list[torch.Tensor]]) -> None:
    for mine, other in zip(ours(), theirs(), strict=True):
        difference = float((mine - other).abs().max() / max(1.0, float(other.abs().max())))
        if not difference < 1e-4:
            raise SystemExit(f"outputs differ by {difference:.2g}: no speed is given")


def ratio(
    ours: Callable[[], object], theirs: Callable[[], object], operations: int
) -> tuple[float, float]:
    """Median seconds of each, taken in turns."""
    rounds = max(5, min(41, int(3e9 / operations)))
    samples: tuple[list[float], list[float]] = ([], [])
    for call in (ours, theirs):
        call()
    for _ in range(rounds):
        for call, found in zip((ours, theirs), samples, strict=True):
            began = time.perf_counter()
            call()
            found.append(time.perf_counter() - began)
    return statistics.median(samples[0]), statistics.median(samples[1])


def peak_of_a_thread() -> float:
    """Billions of float32 operations a second with everything in registers."""
    if binding.engine is None:
        return float("nan")
    best = 0.0
    for _ in range(20):
        began = time.perf_counter()
        operations = binding.engine.multiply_add(binding.PRECISIONS["float32"], 2000)
        best = max(best, operations / (time.perf_counter() - began) / 1e9)
    return best


if __name__ == "__main__":
    main()
