"""A curve whose noise varies, under a learned and a fixed sigma (L-VAE, Figure 3 and Table 1).

The paper shows the data but gives no formula, so that this is a surrogate: u ~ U(-1, 1), x = (2.6 u, 0.95 cos 5.2 u) +
s eps in the plane, s = .04, .015, .06 by thirds of u. Encoder and decoder are residual nets of four blocks of 200
units; every batch is drawn anew. All models (variant x seed) train side by side in one batched pass; their observation
models are svg.likelihoods on frames of 2 channels and 1 x 1 pixels.

Two stages: first sigma is learned, or fixed, or a map; then it is fixed at the value that each seed learned, and
replayed as it was learned (appendix A.2). Models of one seed start from the same weights and see the same points.

M models, N points, Z latent.
"""

from __future__ import annotations

import math
import statistics
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from tqdm import tqdm

from experiments.common import AMBER, BLUE, GREEN, GREY, RED, VIOLET, Row, Rows, panels, parse, parser, publish, spread
from svg import likelihoods
from svg.likelihoods import Likelihood
from svg.models.base import Gaussian
from svg.runtime.program import run as run_program

PUBLISHED = {
    "learned": "1.26 ± 0.09",
    "fixed .1": "0.773 ± 0.09",
    "map": "1.62 ± 0.08",
    "fixed at the learned": "0.335 ± 0.08",
    "learned, replayed": '"the same results"',
}
"""ELBO, less its constant -ln 2 pi; the paper's own curve, 10 runs."""
TITLES = {
    "learned": "learned scalar (LS-VAE)",
    "fixed .1": "fixed at 0.1 (F-VAE)",
    "map": "predicted per coordinate (LV-VAE)",
    "fixed at the learned": "fixed at the learned value (F*-VAE)",
    "learned, replayed": "schedule of the learned one, replayed",
}
COLOURS = dict(zip(TITLES, (RED, AMBER, GREEN, BLUE, VIOLET), strict=True))
BATCH, TEST, CLIP = 100, 10_000, 10.0


def curve(n: int, generator: torch.Generator) -> Tensor:
    """Points of the noisy curve, (N, 2)."""
    u = 2 * torch.rand(n, generator=generator) - 1
    scale = torch.tensor([0.04, 0.015, 0.06])[((u + 1) * 1.5).long().clamp(max=2)]
    noise = torch.randn(n, 2, generator=generator)
    return torch.stack((2.6 * u, 0.95 * torch.cos(5.2 * u)), dim=1) + scale[:, None] * noise


class ResNet(nn.Module):
    """Residual blocks h + W relu(h) between two affine maps: (N, inputs) to (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(torch.relu(h))
        return self.last(torch.relu(h))


class PointVAE(nn.Module):
    """Points (N, 2) and standard normals (N, Z) to decoder output (N, 4) and KL terms (N,)."""

    def __init__(self, width: int, z_dim: int = 2) -> None:
        super().__init__()
        self.encoder, self.decoder = ResNet(2, 2 * z_dim, width), ResNet(z_dim, 4, width)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        posterior = Gaussian(*self.encoder(x).chunk(2, dim=-1))
        return self.decoder(posterior.sample(noise)), posterior.kl(Gaussian.standard(posterior.mean))


class Bench:
    """Models of several variants and seeds that train as one.

    Args:
        heads: name of a variant to its likelihoods, one a seed.
        options: seeds, width, steps.
    """

    def __init__(self, heads: dict[str, list[Likelihood]], options: Namespace) -> None:
        self.options, self.variants = options, list(heads)
        self.all_heads = [head for variant in heads.values() for head in variant]
        nets = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            nets.append(PointVAE(options.width))
        self.net = nets[0]
        self.weights, _ = stack_module_state(nets * len(heads))

    def points(self, generators: list[torch.Generator], n: int) -> tuple[Tensor, Tensor]:
        """The same points and noise for all variants of a seed: (M, N, 2) each."""
        drawn = [(curve(n, g), torch.randn(n, 2, generator=g)) for g in generators]
        x, noise = (torch.stack(parts).repeat(len(self.variants), 1, 1) for parts in zip(*drawn, strict=True))
        return x, noise

    def terms(self, x: Tensor, noise: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        """NLL, less its constant ln 2 pi, and KL of points (M, N, 2): both (M,)."""
        forward = torch.vmap(lambda weights, *points: functional_call(self.net, weights, points))
        params, kl = forward(self.weights, x, noise)
        losses = []
        for head, output, target in zip(self.all_heads, params, x, strict=True):
            maps = output[:, None, : head.param_channels, None, None]
            losses.append(head.loss(maps, target[:, None, :, None, None], step=step).mean())
        return torch.stack(losses) - math.log(2 * math.pi), kl.mean(1)

    def train(self) -> Row:
        """Trains all models; their ELBO, KL and sigma, over training and at the end, and what they generate."""
        steps, generators = self.options.steps, [torch.Generator().manual_seed(s) for s in range(self.options.seeds)]
        test = self.points([torch.Generator().manual_seed(1000 + s) for s in range(self.options.seeds)], TEST)
        watched = [part[:, :1000] for part in test]
        every = max(1, steps // 40)
        history: list[tuple[int, list[float]]] = []
        sigmas: list[tuple[int, list[float | None]]] = []
        weights = list(self.weights.values())
        scales = [parameter for head in self.all_heads for parameter in head.parameters()]
        optimizer = torch.optim.Adam([*weights, *scales], lr=1e-3, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in tqdm(range(steps + 1), unit="step", leave=False, dynamic_ncols=True):
            if step % every == 0:
                history.append((step, [-sum(pair) for pair in zip(*self.evaluate(*watched), strict=True)]))
            if step % max(1, every // 10) == 0:
                sigmas.append((step, [None if h.sigma is None else h.sigma.item() for h in self.all_heads]))
            if step == steps:
                break
            nll, kl = self.terms(*self.points(generators, BATCH), step=step)
            optimizer.zero_grad()
            (nll + kl).sum().backward()
            clip_each(weights)
            optimizer.step()
            schedule.step()
        final_nll, final_kl = self.evaluate(*test)
        return {
            name: {
                "elbo": [-final_nll[m] - final_kl[m] for m in models],
                "kl": [final_kl[m] for m in models],
                "sigma": [sigmas[-1][1][m] for m in models],
                "elbos": [[step, [values[m] for m in models]] for step, values in history],
                "sigmas": [[step, [values[m] for m in models]] for step, values in sigmas],
                "samples": self.samples(models[0]),
            }
            for name, models in self.models().items()
        }

    def models(self) -> dict[str, range]:
        """Which models are a variant's, seed by seed."""
        seeds = self.options.seeds
        return {name: range(i * seeds, (i + 1) * seeds) for i, name in enumerate(self.variants)}

    @torch.no_grad()
    def evaluate(self, x: Tensor, noise: Tensor) -> tuple[list[float], list[float]]:
        """NLL and KL of each model."""
        for head in self.all_heads:
            head.eval()
        parts = zip(x.split(1000, 1), noise.split(1000, 1), strict=True)
        terms = torch.stack([torch.stack(self.terms(*part)) for part in parts]).mean(0)
        for head in self.all_heads:
            head.train()
        return terms[0].tolist(), terms[1].tolist()

    @torch.no_grad()
    def samples(self, model: int, n: int = 600) -> list[list[float]]:
        """Points drawn from a model."""
        z = torch.randn(n, 2, generator=torch.Generator().manual_seed(7))
        decoder = {name.removeprefix("decoder."): w[model] for name, w in self.weights.items() if "decoder" in name}
        head = self.all_heads[model]
        torch.manual_seed(7)
        params = functional_call(self.net.decoder, decoder, (z,))[:, None, : head.param_channels, None, None]
        return np.round(head.distribution(params).sample().flatten(1).numpy(), 3).tolist()


def clip_each(weights: Sequence[Tensor]) -> None:
    """Clips each model's own gradient, of stacked weights (M, ...), to norm `CLIP`."""
    gradients = [w.grad for w in weights if w.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (CLIP / norm).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *[1] * (g.ndim - 1)))


def head(name: str, **options) -> Likelihood:
    """A likelihood of points, which lie where they like."""
    made = likelihoods.build(name, channels=2, size=(1, 1), mean="identity", **options)
    made.in_unit = False
    return made


def first_stage(options: Namespace) -> Row:
    """Learned, fixed at 0.1, and a map."""
    seeds = range(options.seeds)
    heads = {
        "learned": [head("shared_sigma") for _ in seeds],
        "fixed .1": [head("fixed_gaussian", sigma=0.1) for _ in seeds],
        "map": [head("pixel_sigma") for _ in seeds],
    }
    return Bench(heads, options).train()


def second_stage(options: Namespace, learned: Row) -> Row:
    """Fixed at what each seed learned, and its whole schedule replayed."""
    schedules = [[[step, values[seed]] for step, values in learned["sigmas"]] for seed in range(options.seeds)]
    heads = {
        "fixed at the learned": [head("fixed_gaussian", sigma=sigma) for sigma in learned["sigma"]],
        "learned, replayed": [head("scheduled_sigma", schedule=schedule) for schedule in schedules],
    }
    return Bench(heads, options).train()


def main(argv: Sequence[str] | None = None) -> None:
    """The two stages, as rows; the table and the figure of both."""
    made = parser("heteroscedastic", __doc__)
    made.add_argument("--steps", type=int, default=10_000, help="of training, for each stage [%(default)s]")
    made.add_argument("--seeds", type=int, default=3, help="models of each variant [%(default)s]")
    made.add_argument("--width", type=int, default=200, help="units of a residual block [%(default)s]")
    options = parse(made, argv, quick={"steps": 20, "seeds": 2, "width": 16})
    rows = Rows(options, 2)
    results = rows.get("learned", partial(first_stage, options))
    results |= rows.get("fixed", partial(second_stage, options, results["learned"]))
    table = [
        {
            "sigma": TITLES[name],
            "its value": "a map" if name == "map" else f"{statistics.fmean(results[name]['sigma']):.4f}",
            "ELBO": spread(results[name]["elbo"]),
            "published": PUBLISHED[name],
            "KL": spread(results[name]["kl"], 2),
        }
        for name in TITLES
    ]
    publish(options, rows, {f"ELBO, less -ln 2π (nats; {options.seeds} seeds)": table}, draw(results))


def draw(results: Row) -> Figure:
    """ELBO and sigma over training; the data, and what three models generate."""
    figure, (bound, scale, *clouds) = panels(3, 2, 4.2, 3.2)
    for name, title in TITLES.items():
        steps, values = zip(*results[name]["elbos"], strict=True)
        for seed, line in enumerate(np.array(values).T):
            bound.plot(steps, line, color=COLOURS[name], linewidth=1.2, label=title if seed == 0 else None)
        if name in ("learned", "fixed .1", "fixed at the learned"):
            steps, values = zip(*results[name]["sigmas"], strict=True)
            scale.plot(steps, values, color=COLOURS[name], linewidth=1.2)
    bound.set(xlabel="step", ylabel="ELBO (nats)", ylim=(-2.5, 1.9))
    bound.legend(frameon=False, fontsize=7)
    scale.set(xlabel="step", ylabel="σ", yscale="log")
    data = curve(600, torch.Generator().manual_seed(7)).tolist()
    shown = {"data": data} | {name: results[name]["samples"] for name in ("learned", "fixed at the learned", "map")}
    for axis, (name, cloud) in zip(clouds, shown.items(), strict=True):
        x, y = zip(*cloud, strict=True)
        axis.scatter(x, y, s=2, color=COLOURS.get(name, GREY))
        axis.set(xlim=(-3.2, 3.2), ylim=(-1.6, 1.6), title=TITLES.get(name, name))
        axis.title.set_fontsize(9)
    return figure


if __name__ == "__main__":
    run_program(main)
