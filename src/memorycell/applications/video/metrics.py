"""Metrics of predicted frames, each with its equation and source. Frames are [..., height, width]
in 0 … 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

MIN_P = 1e-3
"""Of a pixel's probability, in the cross-entropy."""
SSIM_SIDE, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def frame_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """mse: mean squared error per pixel; se: squared error per frame, the sum over its pixels;
    ssim; bce: binary cross-entropy per frame in nats, where brightness is a probability (Srivastava
    et al. 2015, arXiv:1502.04681), with predictions limited to 0.001 … 0.999.
    """
    predicted = predicted.clip(0, 1)
    mse = float(((truth - predicted) ** 2).mean(dtype=np.float64))
    pixels = truth.shape[-1] * truth.shape[-2]
    p = predicted.clip(MIN_P, 1 - MIN_P)
    nats = -(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean(dtype=np.float64)
    return {
        "mse": mse,
        "se": mse * pixels,
        "ssim": ssim(truth, predicted),
        "bce": float(nats) * pixels,
    }


def ssim(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Structural similarity, the mean over all pixels whose window is inside the frame; 1 for equal
    frames. Wang et al. (2004), IEEE Transactions on Image Processing 13(4), with the paper's
    Gaussian window of 11 × 11 pixels, σ = 1.5 (smaller for smaller frames), K = (0.01, 0.03):

        SSIM = (2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))
    """
    x, y = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32)).reshape(-1, 1, *a.shape[-2:])
        for a in (truth, predicted)
    )
    total, count = 0.0, 0
    for a, b in zip(x.split(256), y.split(256), strict=True):
        values = _ssim_map(a.double(), b.double())
        total, count = total + float(values.sum()), count + values.numel()
    return total / count


def _ssim_map(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """Weighted means over windows that are inside x [N, 1, height, width]."""
    for axis in (2, 3):
        side = min(SSIM_SIDE, x.shape[axis])
        at = torch.arange(side, dtype=x.dtype) - (side - 1) / 2
        weights = torch.exp(-(at**2) / (2 * SSIM_SIGMA**2))
        x = F.conv2d(
            x, (weights / weights.sum()).reshape((1, 1, side, 1) if axis == 2 else (1, 1, 1, side))
        )
    return x


def auc_pr(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the precision-recall curve (average precision): Σ (R_k - R_{k-1}) P_k over
    decreasing scores; equal scores are one threshold.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.append(np.diff(scores[order]) != 0, True)
    precision = (hits / np.arange(1, len(hits) + 1))[last]
    recall = hits[last] / max(int(labels.sum()), 1)
    return float((np.diff(recall, prepend=0) * precision).sum())
