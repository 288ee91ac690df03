"""Augmentation of pen strokes for training."""

from __future__ import annotations

import numpy as np

from memorycell.signals.strokes import Drawing


def augment_strokes(
    drawing: Drawing, rng: np.random.Generator, *, warp: float, order: float
) -> Drawing:
    """Rotate, shear and scale the drawing; shift, scale and smoothly bend every stroke.

    warp    strength; 1: rotation up to 17 degrees, shear up to 0.3
    order   probability that two strokes are swapped; with half of it one stroke is reversed
    """
    points = np.concatenate(drawing)
    centre, size = points.mean(0), max(float(np.ptp(points, axis=0).max()), 1e-9)
    angle, shear = rng.uniform(-0.3, 0.3, 2) * warp
    scale = np.exp(rng.uniform(-0.2, 0.2, 2) * warp)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]]) @ np.diag(scale)
    augmented = []
    for stroke in drawing:
        own = stroke.mean(0)
        moved = (stroke - own) * np.exp(rng.uniform(-0.1, 0.1, 2) * warp) + own
        moved = moved + rng.normal(0, 0.03 * warp, 2) * size
        phase = np.linspace(0, np.pi * rng.uniform(0.5, 2), len(stroke))[:, None] + rng.uniform(
            0, 2 * np.pi, 2
        )
        moved = moved + np.sin(phase) * rng.normal(0, 0.02 * warp, 2) * size
        augmented.append((moved - centre) @ matrix.T + centre)
    if len(augmented) > 1 and rng.random() < order:
        a, b = rng.choice(len(augmented), 2, replace=False)
        augmented[a], augmented[b] = augmented[b], augmented[a]
    if rng.random() < order / 2:
        k = int(rng.integers(len(augmented)))
        augmented[k] = augmented[k][::-1]
    return augmented
