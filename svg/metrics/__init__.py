"""Measures of predicted frames; they see tensors alone.

scores = svg.metrics.psnr(prediction, truth)    # (B, S, T, C, H, W), (B, T, C, H, W) -> (B, S, T)

A metric that eval.py takes is one entry of `METRICS`: whatever says what it is stands in its own file.
"""

from svg.metrics import lpips
from svg.metrics.best import BestOfN, Interval
from svg.metrics.frames import MSE_FLOOR, PSNR, SSIM, SSIM_SVG, psnr, ssim, ssim_svg
from svg.metrics.lpips import LPIPS, find_weights
from svg.metrics.metric import Metric, Score
from svg.metrics.weights import WeightsError

__all__ = [
    "LPIPS",
    "METRICS",
    "MSE_FLOOR",
    "BestOfN",
    "Interval",
    "Metric",
    "Score",
    "WeightsError",
    "find_weights",
    "psnr",
    "ssim",
    "ssim_svg",
]

METRICS: dict[str, Metric] = {
    "psnr": PSNR,
    "ssim": SSIM,
    "lpips": lpips.METRIC,
    "ssim_svg": SSIM_SVG,
}
"""By the names that eval.py's --metrics takes, in the order of its tables."""
