"""Bits per dimension: every likelihood's score of the integers 0..255, on one scale (likelihoods.md, section B).

B batch, T frames, C channels, H W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svg.likelihoods.discrete import require_integers
from svg.likelihoods.distribution import FrameDistribution, place, uniform_like
from svg.noise import Noise

_BINS_PER_UNIT = {"reals": 255, "unit interval": 256}


def bits_per_dim(nats: Tensor | float, dims: int) -> Tensor | float:
    """A negative log-probability of `dims` values in nats, as bits for each of them."""
    return nats / (dims * math.log(2))


def dequantized_log_prob(distribution: FrameDistribution, target: Tensor, noise: Noise | None = None) -> Tensor:
    """The log-probability of integer frames, or a lower bound that is it on average over the noise: nats per frame (B,
    T).

    A density is scored at y = (k + u - 1/2)/255, u uniform, and log 255 is subtracted for each dimension: by Jensen's
    inequality the mean over u bounds the log of the mass of the bin around k/255. In the unit interval y = (k + u)/256,
    log 256.

    Args:
        distribution: of frames (B, T, C, H, W).
        target: uint8 (B, T, C, H, W).
        noise: its index has the shape (B, T); None draws u from torch's global generator.

    Raises:
        ValueError: the target is not uint8, or grey under a Bernoulli, which has no density there.
    """
    levels = require_integers(target)
    if distribution.support == "levels":
        return distribution.log_prob(target)
    if distribution.support == "binary":
        if not torch.all((levels == 0) | (levels == 255)):
            raise ValueError("bernoulli has no bits/dim on grey frames: continuous_bernoulli or another likelihood has")
        return distribution.log_prob(target)
    y = place(levels, uniform_like(noise, target.float()), distribution.support)
    bins = math.prod(target.shape[-3:]) * math.log(_BINS_PER_UNIT[distribution.support])
    return distribution.log_density(y).sum((-3, -2, -1)) - bins
