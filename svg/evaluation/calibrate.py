"""Fits what makes a model's rollouts as uncertain as the truth (svg/models/calibrated.py); the weights stay.

In this order, each with what is before it in place:

1. a sigma map, for heads of one sigma: to the errors that posterior rollouts of training clips leave, by likelihood;
2. tau and rho of the prior's noise: by the fair energy score of the futures' means on validation clips (Gneiting &
   Raftery 2007), one number each for all frames;
3. the noise's power and, frame by frame, its factor: so that with the futures' spread it adds up to the error of
   their mean (Fortin et al. 2014), the power being the most likely one, on the same clips. Noise fills what the futures
   leave; it replaces none;
4. the radii of intervals: by conformal risk control, on the *other* half of the validation clips, which 1 to 3 haven't
   seen (svg/conformal.py).

B clips, S samples, T predicted frames, C channels, H W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from svg.conformal import LEVELS, Misses, clips_needed
from svg.evaluation.bounds import why_undefined
from svg.evaluation.scores import Futures
from svg.likelihoods.normal import Normal
from svg.models.base import to_float
from svg.models.calibrated import Calibration, SigmaMap, Tempering, total_stddev
from svg.models.svg_lp import SVG
from svg.runtime.parallel import double
from svg.runtime.precision import exact

Batches = Iterable[Mapping[str, Any]]
Read = Callable[[Sequence[int]], Batches]
"""Some clips by number to batches of `frames`, uint8 (B, context + T, C, H, W), and `index`."""

TAUS = (1.25, 1.5, 2.0, 2.5, 3.0)
"""Temperatures that are tried, besides 1."""
RHOS = (0.3, 0.6, 0.9)
"""Correlations from frame to frame that are tried, besides 0, at the best temperature."""
TEMPERING_CLIPS, TEMPERING_SAMPLES = 32, 6
"""Clips, at most, and futures of each, that tempering is chosen by."""
MAP_CLIPS, MAP_STEPS, MAP_BATCH, MAP_LR = 64, 400, 32, 5e-3
"""Training of the sigma map: clips, at most, and steps on frames of them."""
FIT_SAMPLES = 10
"""Futures, at most, that power and factors are fitted by."""
POWERS = (1.0, 1.125, 1.25, 1.375, 1.5)
"""Of the predicted standard deviation, that are tried."""
LEAST_SCALE = 0.1
"""Of the factors: what is left where the futures alone are as uncertain as the truth."""


@dataclass(frozen=True)
class Fit:
    """What a calibration is made from.

    Args:
        validation: reads validation clips.
        clips: their numbers; every other one fits, the others make the intervals.
        training: reads training clips.
        training_clips: how many there are.
        levels: of the intervals.
    """

    validation: Read
    clips: Sequence[int]
    training: Read
    training_clips: int
    levels: Sequence[float] = LEVELS

    def check(self) -> None:
        """Raises ValueError where the clips are too few for a level."""
        clips = len(self.clips[1::2])
        for level in self.levels:
            if clips < (needed := clips_needed(level)):
                raise ValueError(
                    f"an interval of level {level:g} needs {2 * needed} validation clips, half of them to fit by, but "
                    f"there are {len(self.clips)}: leave the level out of --levels, or give more clips"
                )


def calibrate(model: SVG, futures: Futures, fit: Fit) -> tuple[Calibration, dict[str, Any]]:
    """A model's calibration for such futures. The model's own, if it has one, is left alone.

    Returns:
        The calibration, and what was found on the way, for JSON: the energy `scores` by tau and rho, and the `ratio` of
        predicted uncertainty to error frame by frame on the clips that were fitted to.

    Raises:
        ValueError: the clips are too few for a level, futures are fewer than two, or the model has no likelihood of
            grey frames.
    """
    fit.check()
    if futures.samples < 2:
        raise ValueError("a calibration needs at least 2 futures of each clip: raise eval.samples")
    if reason := why_undefined(model):
        raise ValueError(f"the model can't be calibrated: {reason}")
    fitted, held = fit.clips[0::2], fit.clips[1::2]
    device = next(model.parameters()).device
    own, horizon = model.calibration, futures.horizon
    try:
        with exact(device):
            found = Calibration(futures.context, futures.samples, torch.ones(horizon, device=device))
            if model.likelihood.sigma is not None:
                found = dataclasses.replace(found, sigma_map=_sigma_map(model, futures, fit))
            model.calibration = found
            scores: dict[str, float] = {}
            if model.latent_size:
                tempering, scores = _tempering(model, futures, fit, fitted[:TEMPERING_CLIPS])
                model.calibration = dataclasses.replace(found, tempering=tempering)
            scale, power, ratio = _noise(model, futures, fit, fitted)
            model.calibration = dataclasses.replace(model.calibration, scale=scale, power=power)
            misses = Misses()
            for truth, frames, stddev in _futures(model, futures, fit.validation, held, "intervals"):
                variance, mean = torch.var_mean(frames, dim=1)
                misses.update(truth, mean, total_stddev(variance, stddev.square().mean(1), futures.samples))
            radii = {level: misses.radius(level) for level in fit.levels}
            return dataclasses.replace(model.calibration, radii=radii), {"scores": scores, "ratio": ratio.tolist()}
    finally:
        model.calibration = own


def _futures(
    model: SVG, futures: Futures, read: Read, clips: Sequence[int], title: str
) -> Iterable[tuple[Tensor, ...]]:
    """The truth (B, T, C, H, W), uint8, and the calibrated futures and their standard deviations (B, S, T, C, H, W)."""
    device = next(model.parameters()).device
    with tqdm(total=len(clips), desc=title, unit="clip", disable=None) as bar:
        for batch in read(clips):
            frames = batch["frames"].to(device)
            drawn, stddev = model.rollout(
                frames[:, : futures.context],
                futures.horizon,
                futures.samples,
                futures.seed,
                stddev=True,
                clip_ids=batch["index"],
                memory=futures.memory,
                calibrated=True,
            )
            yield frames[:, futures.context :], drawn, stddev
            bar.update(len(frames))


def _sigma_map(model: SVG, futures: Futures, fit: Fit) -> SigmaMap:
    """A sigma map for the errors of posterior rollouts of training clips: what is left when the latents are right."""
    clips = range(min(MAP_CLIPS, fit.training_clips))
    device = next(model.parameters()).device
    parts = []
    with tqdm(total=len(clips), desc="sigma map: rollouts", unit="clip", disable=None) as bar:
        for batch in fit.training(clips):
            frames = batch["frames"].to(device)
            mean = model.reconstruct(frames, futures.context, seed=futures.seed, clip_ids=batch["index"])[:, 0]
            last = to_float(frames[:, futures.context - 1 : futures.context])
            before = torch.cat((last, mean[:, :-1]), dim=1)
            truth = to_float(frames[:, futures.context :])
            parts.append([x.flatten(0, 1).half().cpu() for x in (mean, before, truth)])
            bar.update(len(frames))
    mean, before, truth = (torch.cat(part) for part in zip(*parts, strict=True))
    sigma = model.likelihood.sigma
    assert sigma is not None
    return fit_sigma_map(mean, before, truth, sigma, futures.seed)


def fit_sigma_map(mean: Tensor, before: Tensor, truth: Tensor, sigma: Tensor, seed: int) -> SigmaMap:
    """The most likely sigma map, by steps on random frames.

    Args:
        mean, before, truth: frames that were predicted, those before them, and the true ones (N, C, H, W), in [0, 1];
            on any device.
        sigma: the head's one, a scalar, on the device to work on.
        seed: of the map's first weights and of the frames' order.
    """
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = SigmaMap(mean.shape[1]).to(sigma.device)
    optimizer = torch.optim.Adam(made.parameters(), MAP_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, MAP_STEPS)
    for _ in tqdm(range(MAP_STEPS), desc="sigma map", unit="step", disable=None):
        rows = torch.randint(len(mean), (MAP_BATCH,), generator=order)
        some, previous, target = (x[rows].to(sigma.device, torch.float32) for x in (mean, before, truth))
        loss = -Normal(some, made(some, previous, sigma)).log_density(target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return made.eval().requires_grad_(False)


def _tempering(model: SVG, futures: Futures, fit: Fit, clips: Sequence[int]) -> tuple[Tempering, dict[str, float]]:
    """The tempering of the lowest energy score, and the scores of all that were tried."""
    some = dataclasses.replace(futures, samples=min(TEMPERING_SAMPLES, futures.samples))
    start = model.calibration
    assert start is not None
    tried: dict[Tempering, float] = {}

    def score(tempering: Tempering) -> float:
        model.calibration = dataclasses.replace(start, tempering=tempering)
        title = f"tau {tempering.tau:g}, rho {tempering.rho:g}"
        parts = [
            fair_energy_score(frames, truth) for truth, frames, _ in _futures(model, some, fit.validation, clips, title)
        ]
        tried[tempering] = torch.cat(parts).mean().item()
        return tried[tempering]

    best = min(map(Tempering, (1.0, *TAUS)), key=score)
    best = min([best, *(Tempering(best.tau, rho) for rho in RHOS)], key=lambda each: tried.get(each) or score(each))
    return best, {f"tau {each.tau:g}, rho {each.rho:g}": value for each, value in tried.items()}


def _noise(model: SVG, futures: Futures, fit: Fit, clips: Sequence[int]) -> tuple[Tensor, float, Tensor]:
    """Factors of the noise, float32 (T,), its power, and the ratio of uncertainty to error with them (T,)."""
    some = dataclasses.replace(futures, samples=min(FIT_SAMPLES, futures.samples))
    sums: Tensor | float = 0.0
    kept = []  # of every second row and column: squared error, spread, and noise of each power
    for truth, frames, stddev in _futures(model, some, fit.validation, clips, "noise"):
        variance, mean = torch.var_mean(double(frames), dim=1)
        error = (mean - double(truth) / 255).square()
        noises = [double(stddev).pow(2 * power).mean(1) for power in POWERS]
        parts = torch.stack([error, (1 + 1 / some.samples) * variance, *noises]).cpu()  # parts B T C H W
        sums = sums + parts.mean((-3, -2, -1)).sum(1)
        kept.append(parts[..., ::2, ::2].float())
    assert isinstance(sums, Tensor), "no clip was read"
    (error, spread), noise = sums[:2], sums[2:]
    scales = ((error - spread) / noise).clamp_min(LEAST_SCALE**2 * noise[0] / noise).sqrt()  # powers T
    values = torch.cat(kept, dim=1)
    totals = (
        values[1] + scale.square().view(-1, 1, 1, 1) * each for scale, each in zip(scales, values[2:], strict=True)
    )
    surprise = [(values[0] / total + total.log()).mean().item() for total in totals]
    best = min(range(len(POWERS)), key=surprise.__getitem__)
    ratio = ((spread + scales[best].square() * noise[best]) / error).sqrt()
    return scales[best].float().to(next(model.parameters()).device), POWERS[best], ratio


def fair_energy_score(futures: Tensor, truth: Tensor) -> Tensor:
    """The fair energy score of futures (B, S, T, C, H, W) frame by frame, divided by sqrt(C H W): (B, T).

    E ||m - x|| - E ||m - m'||/2, the second over all pairs of different futures (Ferro 2014). Lower is better; its mean
    is least where the futures are draws of the truth's distribution.
    """
    samples = futures.shape[1]
    points = double(futures).movedim(1, 2).flatten(3)  # B T S D
    target = double(to_float(truth)).flatten(2)[:, :, None]
    near = torch.linalg.vector_norm(points - target, dim=-1).mean(-1)
    apart = torch.cdist(points, points).sum((-2, -1)) / (samples * (samples - 1))
    return (near - 0.5 * apart) / points.shape[-1] ** 0.5
