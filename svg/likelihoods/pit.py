"""The probability integral transform of integer frames: uniform on (0, 1) exactly if they are draws of the prediction.

B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from svg.likelihoods.distribution import FrameDistribution, place


def integral_transform(distribution: FrameDistribution, levels: Tensor, u: Tensor) -> Tensor:
    """F(x) of each value, spread over the bin of its level: float (B, T, C, H, W) in [0, 1].

    A density's F is taken at (k + u - 1/2)/255, or (k + u)/256 in the unit interval; masses give F(k - 1) + u P(k)
    (Czado, Gneiting & Held 2009, "Predictive model assessment for count data").

    Args:
        distribution: of frames (B, T, C, H, W).
        levels: uint8 (B, T, C, H, W).
        u: uniforms in (0, 1), of that shape.

    Raises:
        ValueError: a Bernoulli, which gives grey levels no probability.
    """
    if distribution.support == "binary":
        raise ValueError("bernoulli has no calibration on grey frames: continuous_bernoulli or another likelihood has")
    if distribution.support == "levels":
        x = levels / 255
        return (distribution.cdf(x) - (1 - u) * distribution.log_density(x).exp()).clamp(0, 1)
    return distribution.cdf(place(levels.float(), u, distribution.support)).to(torch.float32)
