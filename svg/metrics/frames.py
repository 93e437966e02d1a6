"""PSNR and SSIM of predicted frames, one number a frame, under the protocol of SRVP (Franceschi et al. 2020).

Predictions are (B, S, T, C, H, W), S samples for each clip, or (B, T, C, H, W); the truth is (B, T, C, H, W); the
result is (B, S, T) or (B, T). Values are floats in [0, 1] or uint8; arithmetic is float32 without autocast and TF32, or
float64 where a float64 came in. What depends on the truth alone is computed once per clip and serves all its samples.

B clips, S samples, T frames, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from svg.metrics.metric import Metric
from svg.runtime.precision import exact

MSE_FLOOR = 1e-10
"""Least MSE of a channel in PSNR: identical frames have 100 dB."""

CPU_BLOCK, GPU_BLOCK = 2**19, 2**26
"""Values of the predictions that are worked on at once: on a CPU what its caches hold."""

ClipScore = Callable[[Tensor], Tensor]
"""Predicted frames (s, T, C, H, W) of one clip to (s, T)."""


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, range 1, from each channel's MSE (floor `MSE_FLOOR`), averaged over them."""

    def against(true: Tensor) -> ClipScore:
        def score(x: Tensor) -> Tensor:
            mse = (x - true).square().mean(dim=(-2, -1))
            return -10 * mse.clamp_min(MSE_FLOOR).log10().mean(dim=-1)

        return score

    return per_frame(prediction, truth, against)


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11 of sigma 1.5, valid positions only, range 1.

    Raises:
        ValueError: frames smaller than the window.
    """
    distance = torch.arange(-5, 6, dtype=torch.float64) / 1.5
    window = torch.exp(-0.5 * distance.square())
    return _ssim(prediction, truth, window, data_range=1.0, unbiased=False)


def ssim_svg(prediction: Tensor, truth: Tensor) -> Tensor:
    """The SSIM of the original SVG script, not comparable with `ssim`: uniform window 7x7, sample covariance, range 2.

    Those were scikit-image's defaults for floats; the range, twice what the frames span, inflates the result.

    Raises:
        ValueError: frames smaller than the window.
    """
    return _ssim(prediction, truth, torch.ones(7, dtype=torch.float64), data_range=2.0, unbiased=True)


def _ssim(prediction: Tensor, truth: Tensor, window: Tensor, data_range: float, unbiased: bool) -> Tensor:
    """SSIM under a separable window (w,), with K1 .01 and K2 .03; averaged over the map and the channels."""
    size = len(window)
    height, width = truth.shape[-2:]
    if min(height, width) < size:
        raise ValueError(f"SSIM needs frames of at least {size}x{size} pixels, not {height}x{width}")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    correction = size**2 / (size**2 - 1) if unbiased else 1.0
    window = window / window.sum()

    def against(true: Tensor) -> ClipScore:
        rows, columns = _band(window, height).to(true), _band(window, width).to(true).T

        def local_mean(x: Tensor) -> Tensor:
            return rows @ (x @ columns)  # two matrix products beat convolutions at these sizes

        true_mean, true_square = local_mean(torch.stack((true, true * true)))

        def score(x: Tensor) -> Tensor:
            mean, square, product = local_mean(torch.stack((x, x * x, x * true)))
            means = mean * true_mean
            squares = mean.square_().add_(true_mean.square())
            covariance = product.sub_(means).mul_(correction)
            variances = square.add_(true_square).sub_(squares).mul_(correction)
            numerator = means.mul_(2).add_(c1).mul_(covariance.mul_(2).add_(c2))
            denominator = squares.add_(c1).mul_(variances.add_(c2))
            return numerator.div_(denominator).mean(dim=(-3, -2, -1))

        return score

    return per_frame(prediction, truth, against)


def _band(window: Tensor, length: int) -> Tensor:
    """The matrix (length - w + 1, length) that convolves with the window (w,) at valid positions."""
    band = torch.zeros(length - len(window) + 1, length, dtype=window.dtype)
    for row, values in enumerate(band):
        values[row : row + len(window)] = window
    return band


def per_frame(prediction: Tensor, truth: Tensor, against: Callable[[Tensor], ClipScore]) -> Tensor:
    """Scores every frame, clip by clip and a block of samples at a time.

    Args:
        prediction: (B, S, T, C, H, W) or (B, T, C, H, W).
        truth: (B, T, C, H, W).
        against: the true frames (T, C, H, W) of a clip to what scores predictions (s, T, C, H, W) of it.

    Returns:
        (B, S, T) or (B, T), on the prediction's device.

    Raises:
        ValueError: shapes that don't fit together.
    """
    single = prediction.ndim == truth.ndim
    samples = prediction.unsqueeze(1) if single else prediction
    if truth.ndim != 5 or samples.ndim != 6 or samples.shape[:1] + samples.shape[2:] != truth.shape:
        shapes = f"{tuple(prediction.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"predictions (B, S, T, C, H, W) and truth (B, T, C, H, W) don't fit together: {shapes}")
    dtype = torch.float64 if torch.float64 in (prediction.dtype, truth.dtype) else torch.float32
    limit = CPU_BLOCK if prediction.device.type == "cpu" else GPU_BLOCK
    block = max(1, limit // math.prod(truth.shape[1:]))
    with torch.no_grad(), exact(prediction.device):
        clips = []
        for some, true in zip(samples, truth, strict=True):
            score = against(_unit(true.to(prediction.device), dtype))
            clips.append(torch.cat([score(_unit(x, dtype)) for x in some.split(block)]))
    scores = torch.stack(clips)
    return scores.squeeze(1) if single else scores


def _unit(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames in [0, 1] of a dtype; uint8 is k/255."""
    return frames.to(dtype) / 255 if frames.dtype == torch.uint8 else frames.to(dtype)


PSNR = Metric(
    psnr,
    "PSNR",
    f"per channel from its MSE (at least {MSE_FLOOR:g}), range 1; mean over channels",
    higher_is_better=True,
    unit="dB",
    digits=2,
)
SSIM = Metric(
    ssim,
    "SSIM",
    "per channel, Gaussian window 11x11, sigma 1.5, valid, K1 .01, K2 .03, range 1; mean over map and channels",
    higher_is_better=True,
)
SSIM_SVG = Metric(
    ssim_svg,
    "SSIM of the SVG script",
    "per channel, uniform window 7x7, sample covariance, valid, range 2; mean over map and channels",
    higher_is_better=True,
    by_default=False,
)
