"""What a model of scores composes and what the corpus has, as a table for people."""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "tonic_endings": "end on tonic",
    "phrase_cadences": "phrases on I or V",
    "out_of_range": "out of range",
    "out_of_scale": "out of scale",
    "crossings": "crossings",
    "parallels": "parallel 5ths, 8ves",
    "length_distance": "lengths from training",
}


def render_details(result: dict[str, Any]) -> list[str]:
    """See `Application`: the composed pieces compared with those of the test split."""
    composed = result.get("composed")
    if not composed:
        return []
    width = max(map(len, COLUMNS.values()))
    lines = [f"{'':{width}}  {'model':>8}  {'predict':>8}  {'test split':>10}"]
    for name, title in COLUMNS.items():
        own, limited, corpus = (composed[g][name] for g in ("model", "predict", "corpus"))
        lines.append(f"{title:{width}}  {own:8.1%}  {limited:8.1%}  {corpus:10.1%}")
    count = composed["model"]["pieces"]
    lines.append(f"{count} pieces; model: without limits; predict: with ranges and an ending")
    return ["\n".join(lines)]
