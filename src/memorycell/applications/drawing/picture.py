"""The main picture of a model that draws: signs of the test split, and the same drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.picture import Panel, Picture
from memorycell.applications.drawing.dataset import DrawingDataset
from memorycell.applications.drawing.model import Writer
from memorycell.applications.drawing.predict import PredictOptions, predict
from memorycell.signals.strokes import Drawing

NUM_TEXTS, NUM_DRAWN = 4, 4
MAX_CHARS = 8
"""Of a text; its beginning is drawn."""


def drawing_picture(
    dataset: DrawingDataset, model: Writer, result: dict[str, Any]
) -> Picture | None:
    """Each row has a drawing of the test split and drawings by the model, as `predict` makes them:
    of signs that are evenly spaced in the alphabet, or of the beginnings of texts.
    """
    codec = dataset.codec
    examples: dict[str, Drawing] = {}
    for example in dataset.examples["test"]:
        text = example.label[:MAX_CHARS].strip() if codec.height else example.label
        examples.setdefault(text, example.raw)
    examples.pop("", None)
    if not examples:
        return None
    known = sorted(examples)
    spaced = np.linspace(0, len(known) - 1, NUM_TEXTS).round().astype(int)
    texts = [known[k] for k in sorted(set(spaced.tolist()))]
    options = PredictOptions(count=NUM_DRAWN, candidates=1 if codec.height else 8)
    file = ModelFile(model, codec, {})
    panels: list[Panel] = []
    for text in texts:
        panels.append(Panel(caption="test", strokes=_points(examples[text])))
        drawings: Any = predict(file, text, options)["drawings"]
        panels += [Panel(caption="drawn", strokes=_points(one["strokes"])) for one in drawings]
    kind = "Texts" if codec.height else "Characters"
    title = f"{kind}: one of the test split, and {NUM_DRAWN} that the model drew"
    return Picture(title=title, panels=panels, rows=texts)


def _points(strokes: Any) -> list[list[tuple[float, float]]]:
    return [[(round(float(x), 3), round(float(y), 3)) for x, y, *_ in one] for one in strokes]
