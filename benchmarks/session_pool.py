"""Many live sessions of a trained model: a pool compared with sessions that are fed one by one.

    python benchmarks/session_pool.py [--sessions 64] [--hidden 64 256] [--rounds 20] [--smoke]

A forecaster is trained for one epoch on generated readings of one column, 12 steps ahead; how well
it forecasts does not change the work. In every round each session reads one row, a dict with a
time, in one call of `Trained.pool`, and one by one; the answers are compared first. Times are those
of one thread, per row: the median and the fastest of the rounds, in processor time. The last column
is what the engine alone takes: `Trained.encoded_pool`, on arrays.
"""

import argparse
import time

import numpy as np
import polars as pl
import torch

import memorycell

WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="8 sessions of 16 units, 3 rounds")
    options = parser.parse_args()
    if options.smoke:
        options.sessions, options.hidden, options.rounds = 8, [16], 3
    torch.set_num_threads(1)
    print(f"{options.sessions} sessions, µs per row    pool   one by one   encoded")
    for hidden in options.hidden:
        times = measured(hidden, options.sessions, options.rounds)
        cells = [f"{np.median(t):7.1f} ({min(t):.1f})" for t in times]
        print(f"hidden {hidden:4d}   {'   '.join(cells)}")


def measured(hidden: int, sessions: int, rounds: int) -> list[list[float]]:
    """µs per row of every round: in the pool, one by one, encoded."""
    frame = readings(300)
    model = memorycell.train(
        "forecast",
        frame,
        target="load",
        horizon=12,
        hidden=hidden,
        epochs=1,
        baselines=False,
        progress=False,
    )
    rows = frame.rows(named=True)
    pool, alone = model.pool(sessions), [model.session() for _ in range(sessions)]
    encoded = model.encoded_pool(sessions)
    x = np.zeros((sessions, encoded.stepper.input_size), np.float32)
    times: list[list[float]] = [[], [], []]
    for k in range(rounds + WARM_UP):
        row = rows[k]
        took = []
        began = time.process_time()
        answers = pool.feed(pool.slots, [row] * sessions)
        took.append(time.process_time() - began)
        began = time.process_time()
        expected = [session.feed(row) for session in alone]
        took.append(time.process_time() - began)
        began = time.process_time()
        encoded.step(encoded.slots, x)
        took.append(time.process_time() - began)
        if answers != expected:
            raise SystemExit("the answers of the pool differ: not timed")
        for own, seconds in zip(times, took, strict=True):
            own += [1e6 * seconds / sessions] if k >= WARM_UP else []
    return times


def readings(count: int) -> pl.DataFrame:
    hours = np.arange(count)
    return pl.DataFrame(
        {
            "time": np.datetime64("2024-01-01", "us") + hours.astype("timedelta64[h]"),
            "load": 50 + 10 * np.sin(2 * np.pi * hours / 24) + np.sin(hours),
        }
    )


if __name__ == "__main__":
    main()
