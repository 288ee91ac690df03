"""Tables of shops and of prices."""

import numpy as np
import polars as pl

SMALL = {"hidden": "8", "horizon": "5", "context": "24", "bptt": "24", "epochs": "2", "window": "6"}


def shops(hours: int = 260, seed: int = 0) -> pl.DataFrame:
    """Two shops of different size and kind; a promotion, known in advance, triples the visitors."""
    rng = np.random.default_rng(seed)
    rows = []
    moments = np.datetime64("2026-01-01T00:00:00", "s") + np.arange(hours) * np.timedelta64(1, "h")
    stamps = [str(moment).replace("T", " ") for moment in moments]
    for shop, kind, level in (("east", "big", 40), ("west", "small", 4)):
        promotion = (rng.random(hours) < 0.2).astype(int)
        mean = (
            level
            * (1 + 0.5 * np.sin(np.arange(hours) / 24 * 2 * np.pi))
            * np.where(promotion, 3, 1)
        )
        rows += [
            (t, shop, kind, int(n), int(p))
            for t, n, p in zip(stamps, rng.poisson(mean), promotion, strict=True)
        ]
    return pl.DataFrame(
        rows, schema=["time", "shop", "kind", "visitors", "promotion"], orient="row"
    )


def prices(days: int = 600, seed: int = 0) -> pl.DataFrame:
    """Two shares with periods of low and high volatility."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("A", "B"):
        wild = np.cumsum(rng.random(days) < 0.02) % 2
        price = 100 * np.exp(np.cumsum(rng.normal(size=days) * np.where(wild, 0.04, 0.005)))
        rows += [(k, name, p) for k, p in enumerate(price)]
    return pl.DataFrame(rows, schema=["day", "share", "close"], orient="row").sort(
        "day", maintain_order=True
    )
