"""Measures of predicted frames; they see tensors alone.

scores = svg.metrics.psnr(prediction, truth)    # (B, S, T, C, H, W), (B, T, C, H, W) -> (B, S, T)
"""

from svg.metrics.best import BestOfN, Interval
from svg.metrics.frames import MSE_FLOOR, psnr, ssim, ssim_svg
from svg.metrics.lpips import LPIPS, find_weights
from svg.metrics.weights import WeightsError

__all__ = ["LPIPS", "MSE_FLOOR", "BestOfN", "Interval", "WeightsError", "find_weights", "psnr", "ssim", "ssim_svg"]
