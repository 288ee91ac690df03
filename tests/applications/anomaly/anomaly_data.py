"""Synthetic tables with anomalies that single rows do not show."""

import numpy as np
import polars as pl


def sensors(rows: int = 1500, seed: int = 0) -> pl.DataFrame:
    """Two sensors on a circle, and noise; in rows 1200 to 1260 the points of the circle come in
    random order.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    broken = (t >= 1200) & (t < 1260)
    phase = np.where(broken, rng.permutation(rows), t) / 9
    swing, follow = (f(phase) + 0.05 * rng.normal(size=rows) for f in (np.sin, np.cos))
    stamps = [f"2026-01-{1 + k // 1440:02d} {k // 60 % 24:02d}:{k % 60:02d}:00" for k in t]
    return pl.DataFrame(
        {
            "time": stamps,
            "swing": swing,
            "follow": follow,
            "noise": rng.normal(size=rows),
            "fault": broken.astype(int),
        }
    )


def cards(rows: int = 6000, seed: int = 0) -> pl.DataFrame:
    """Twenty cards, each of which buys bread, fuel and books in this order; a fraud breaks the
    order.
    """
    rng = np.random.default_rng(seed)
    order = ["bread", "fuel", "books"]
    price = {"bread": 3.0, "fuel": 50.0, "books": 20.0}
    at, table = rng.integers(0, 3, 20), []
    moment = 1_700_000_000
    for k in range(rows):
        card = int(rng.integers(20))
        moment += int(rng.integers(60, 600))
        fraud = k > 0.75 * rows and rng.random() < 0.04
        what = order[(at[card] + 1) % 3 if fraud else at[card]]
        at[card] = at[card] if fraud else (at[card] + 1) % 3
        table.append(
            (moment, f"card {card}", what, price[what] * np.exp(0.1 * rng.normal()), int(fraud))
        )
    return pl.DataFrame(
        table, schema=["when", "card", "what", "price", "fraud"], orient="row"
    ).with_columns(when=pl.from_epoch("when").dt.strftime("%Y-%m-%d %H:%M:%S"))
