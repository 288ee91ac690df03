"""From the grey of a page to its ink: polarity, uneven light, and contrast."""

from __future__ import annotations

import numpy as np

MIN_INK = 0.25
"""Of a pixel that counts for the bounding box of a line."""
MIN_CONTRAST = 0.06
"""Of ink with its paper; below it a page is empty."""
MIN_SIGNAL_TO_NOISE = 8.0
"""Of ink, in standard deviations of the paper."""
MIN_DETAIL = 0.45
"""Of ink, the share that a blurred page lacks; shading has less."""
WINDOW_SHARE, MIN_WINDOW = 0.8, 9
"""Side of the window in which the paper is looked for: as a share of the page, and in pixels.
Strokes are narrower, shadows wider.
"""
FULL_INK_QUANTILE = 0.6
"""Of the pixels with ink: what counts as full ink."""
MIN_PAPER = 0.25
"""Brightness that ink is compared with in the deepest shadow."""
EVEN_PAPER = 0.02
"""Deviation from the median of evenly lit paper."""
TREND_POINTS, TREND_ITERATIONS = 64, 12
"""Sampled per axis, and fits, for the trend of the paper over the page."""
MAX_HEIGHT = 1024
"""In pixels; higher pages are reduced."""


def find_ink(grey: np.ndarray) -> np.ndarray | None:
    """Grey [H, W] in 0 … 1 -> ink [H, W] float32 in 0 … 1; None for a page without ink.

    The brightness of the paper is its trend over the page and the morphological closing of the
    rest, so that a shadow is not ink (Gonzalez & Woods, Digital image processing, section 9.6). Ink
    is the share of it that a pixel lacks, scaled so that the line's own ink is 1.
    """
    grey = _reduced(grey)
    if _is_light_on_dark(grey):
        grey = 1 - grey
    trend = np.maximum(_trend(grey), 0.05)
    even = grey / trend
    size = max(MIN_WINDOW, int(WINDOW_SHARE * min(grey.shape))) | 1
    # Each closing is too bright somewhere: without the trend at the edges of the page, with it
    # near hard shadows, of pixels where they are noisy, and of smoothed pixels near edges.
    smooth = _closing(_box_mean(even), size)
    paper = np.minimum(_closing(grey, size), trend * np.minimum(_closing(even, size), smooth))
    lack = paper - grey
    blank = float(np.median(lack))
    noise = 1.4826 * float(np.median(np.abs(lack - blank)))
    lack = lack - blank
    relative = lack / np.maximum(paper, MIN_PAPER)
    strongest = _mean_of_highest(relative)
    if (
        strongest < MIN_CONTRAST
        or _mean_of_highest(lack) < MIN_SIGNAL_TO_NOISE * noise
        or _mean_of_highest(relative - _box_mean(relative, size // 4)) < MIN_DETAIL * strongest
    ):
        return None
    ink = np.clip((lack - 3 * noise) / np.maximum(paper, MIN_PAPER), 0, 1)
    full = float(np.quantile(ink[ink >= 0.4 * float(ink.max())], FULL_INK_QUANTILE))
    return np.asarray(np.clip(ink / max(full, 1e-6), 0, 1), np.float32)


def crop_to_ink(ink: np.ndarray) -> np.ndarray:
    """The bounding box of the pixels above `MIN_INK`."""
    rows, columns = (np.flatnonzero((ink > MIN_INK).any(axis)) for axis in (1, 0))
    return np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _mean_of_highest(values: np.ndarray) -> float:
    """Of the highest twentieth of a percent."""
    return float(np.sort(values, axis=None)[-max(4, values.size // 2000) :].mean())


def _reduced(grey: np.ndarray) -> np.ndarray:
    """The mean of squares of pixels, so that the height is at most `MAX_HEIGHT`."""
    factor = -(-len(grey) // MAX_HEIGHT)
    if factor == 1:
        return grey
    height, width = (n // factor for n in grey.shape)
    squares = grey[: height * factor, : max(1, width) * factor]
    return np.asarray(squares.reshape(height, factor, max(1, width), -1).mean((1, 3)), np.float32)


def _is_light_on_dark(grey: np.ndarray) -> bool:
    """Whether most pixels near ink are closer to the darkest than to the brightest around them."""
    size = max(MIN_WINDOW, min(grey.shape)) | 1
    darkest, brightest = -_window_maximum(-grey, size), _window_maximum(grey, size)
    contrast = brightest - darkest
    near = contrast >= 0.5 * float(contrast.max())
    return float(np.mean((grey - darkest)[near] >= contrast[near] / 2)) < 0.5


def _trend(grey: np.ndarray) -> np.ndarray:
    """The polynomial [H, W], of degree 4 along the line and 2 across, with the least absolute
    deviations, which ink hardly changes (iteratively reweighted least squares); the median, where
    most pixels are close to it.
    """
    median = float(np.median(grey))
    if float(np.mean(np.abs(grey - median) < EVEN_PAPER)) > 0.5:
        return np.full(grey.shape, median, np.float32)
    y, x = (np.linspace(-1, 1, n) for n in grey.shape)
    rows, columns = (max(1, n // TREND_POINTS) for n in grey.shape)
    sample = grey[::rows, ::columns].astype(np.float64)
    terms = _polynomial(y[::rows, None], x[None, ::columns])
    design = np.stack([np.broadcast_to(term, sample.shape).ravel() for term in terms], 1)
    weight = np.ones(sample.size)
    for _ in range(TREND_ITERATIONS):
        scaled = design * weight[:, None]
        solution = np.linalg.lstsq(scaled.T @ design, scaled.T @ sample.ravel(), rcond=1e-9)[0]
        weight = 1 / np.maximum(np.abs(sample.ravel() - design @ solution), 0.01)
    surface = sum(c * term for c, term in zip(solution, _polynomial(y[:, None], x), strict=True))
    return np.asarray(np.broadcast_to(surface, grey.shape), np.float32)


def _polynomial(y: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    return [x**i * y**j for i in range(5) for j in range(3)]


def _box_mean(grey: np.ndarray, radius: int = 1) -> np.ndarray:
    """The mean of every pixel and its neighbours up to a radius."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(grey, pad, mode="edge"), axis, dtype=np.float64)
        size, width = grey.shape[axis], 2 * radius + 1
        upper = sums.take(range(width, width + size), axis)
        grey = (upper - sums.take(range(size), axis)) / width
    return np.asarray(grey, np.float32)


def _closing(grey: np.ndarray, size: int) -> np.ndarray:
    """The maximum, then the minimum in windows of an odd size: narrower dark parts vanish."""
    margin = size // 2
    padded = np.pad(grey, size, constant_values=-np.inf)
    highest = _window_maximum(padded, size)[margin:-margin, margin:-margin]
    closed = -_window_maximum(-highest, size)
    height, width = grey.shape
    top = size - margin
    return closed[top : top + height, top : top + width]


def _window_maximum(values: np.ndarray, size: int) -> np.ndarray:
    """The maximum in a centred window, along both axes, from windows of doubled size."""
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (size // 2, size - 1 - size // 2)
        padded = np.pad(values, pad, mode="edge")
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            count = padded.shape[axis] - step
            first = padded.take(range(count), axis)
            padded = np.maximum(first, padded.take(range(step, step + count), axis))
            covered += step
        values = padded
    return values
