"""Speed of full sequences relative to torch.nn.LSTM, forward and in training, over batch size,
sequence length, hidden size and threads.

    python benchmarks/scaling.py --threads 1 --threads 2 [--hidden 64 …] [--json scaling.json]
    [--smoke]

Outputs and gradients are compared first. Then calls are timed alternately; the ratios are of
medians, and above 1 memorycell is faster. GFLOP/s counts the multiplications and additions of the
products in a forward pass; compare it with the peak of one thread. Shapes with a forward pass of
more than `--max-gflop` are skipped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable

import torch

import memorycell
from memorycell.ops import binding

BATCH_SIZES = (1, 8, 32, 128, 256)
SEQ_LENS = (16, 100, 365)
HIDDEN_SIZES = (16, 32, 64, 128, 256, 512)
INPUT_SIZE = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--hidden", type=int, action="append")
    parser.add_argument(
        "--backend", choices=["native"], help="by default the dispatcher may choose PyTorch"
    )
    parser.add_argument("--max-gflop", type=float, default=8.0)
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--smoke", action="store_true", help="two small shapes")
    args = parser.parse_args()
    batch_sizes, seq_lens, hidden_sizes = BATCH_SIZES, SEQ_LENS, args.hidden or HIDDEN_SIZES
    if args.smoke:
        batch_sizes, seq_lens, hidden_sizes = (1, 8), (16,), (16,)
    peak = peak_gflops()
    isa = binding.engine.instruction_set() if binding.engine else "no engine"
    print(f"peak {peak:.0f} GFLOP/s on one thread, {isa}")
    print("threads    B    T    H  forward  GFLOP/s  training  backend")
    rows = []
    for threads in args.threads or [1, 2]:
        torch.set_num_threads(threads)
        for hidden, batch, steps in itertools.product(hidden_sizes, batch_sizes, seq_lens):
            operations = 8 * batch * steps * hidden * (INPUT_SIZE + hidden)
            if operations > args.max_gflop * 1e9:
                continue
            row = {"threads": threads} | measure(batch, steps, hidden, args.backend, operations)
            rows.append(row)
            print(
                f"{threads:7} {batch:4} {steps:4} {hidden:4} {row['forward']:8.2f}"
                f" {row['gigaflops']:8.0f} {row['training']:9.2f}  {row['backend']}",
                flush=True,
            )
    for threads in args.threads or [1, 2]:
        for what in ("forward", "training"):
            ratios = [row[what] for row in rows if row["threads"] == threads]
            median, worst = statistics.median(ratios), min(ratios)
            print(f"{what}, {threads} threads: median {median:.2f}, worst {worst:.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"peak_gigaflops": peak, "rows": rows}, file, indent=1)


def measure(
    batch: int, steps: int, hidden: int, backend: str | None, operations: int
) -> dict[str, float | int | str]:
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(INPUT_SIZE, hidden, batch_first=True)
    ours = memorycell.LSTM(INPUT_SIZE, hidden, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, steps, INPUT_SIZE)
    options = {"backend": backend} if backend else {}
    compare(training(ours, x, **options), training(theirs, x))
    forward_s = median_seconds(
        lambda: inference(ours, x, **options), lambda: inference(theirs, x), operations
    )
    training_s = median_seconds(
        lambda: training(ours, x, **options), lambda: training(theirs, x), 3 * operations
    )
    return {
        "batch": batch,
        "steps": steps,
        "hidden": hidden,
        "forward": forward_s[1] / forward_s[0],
        "training": training_s[1] / training_s[0],
        "forward_ms": 1e3 * forward_s[0],
        "training_ms": 1e3 * training_s[0],
        "gigaflops": operations / forward_s[0] / 1e9,
        "backend": backend or memorycell.explain(ours, x).backend,
    }


@torch.no_grad()
def inference(layer: torch.nn.Module, x: torch.Tensor, **options: str) -> list[torch.Tensor]:
    return [layer(x, **options)[0]]


def training(layer: torch.nn.Module, x: torch.Tensor, **options: str) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    output = layer(x, **options)[0]
    return [output.detach(), *torch.autograd.grad(output.sum(), [x, *layer.parameters()])]


def compare(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        difference = float((mine - other).abs().max() / max(1.0, float(other.abs().max())))
        if not difference < 1e-4:
            raise SystemExit(f"outputs differ by {difference:.2g}: not timed")


def median_seconds(
    ours: Callable[[], object], theirs: Callable[[], object], operations: int
) -> tuple[float, float]:
    """Of both, called alternately."""
    rounds = max(5, min(41, int(3e9 / operations)))
    samples: tuple[list[float], list[float]] = ([], [])
    for call in (ours, theirs):
        call()
    for _ in range(rounds):
        for call, seconds in zip((ours, theirs), samples, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return statistics.median(samples[0]), statistics.median(samples[1])


def peak_gflops() -> float:
    """Billions of float32 operations per second of one thread, on values in registers."""
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
