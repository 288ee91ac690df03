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
    """See `Application`: the composed pieces beside those of the test split."""
    composed = result.get("composed")
    if not composed:
        return []
    width = max(map(len, COLUMNS.values()))
    count = composed["model"]["pieces"]
    lines = [f"{f'{count} pieces composed without limits':{width + 16}}  test split"]
    for name, title in COLUMNS.items():
        model, corpus = composed["model"][name], composed["corpus"][name]
        lines.append(f"{title:{width}}  {model:14.1%}  {corpus:10.1%}")
    return ["\n".join(lines)]
