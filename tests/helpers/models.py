"""Small models, objectives and frames that many tests share."""

from __future__ import annotations

import torch

from svg import likelihoods
from svg.config import ModelConfig, ObjectiveConfig
from svg.models.svg_lp import SVG
from svg.models.vae import VAE
from svg.objective import Objective


def make(likelihood: str = "fixed_gaussian", seed: int = 0, **config) -> SVG:
    """A small model in which every part matters: lively weights, and BatchNorm statistics that fit them."""
    c = ModelConfig(**{"width": 4, "g_dim": 16, "z_dim": 4, "rnn_size": 16, "backbone": "dcgan", **config})
    torch.manual_seed(seed)
    model = SVG(c, likelihoods.build(likelihood, channels=c.channels, size=(c.size, c.size)))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.0 if "lstm" in name else parameter[0].numel() ** -0.5)
    for norm in norms:
        norm.momentum = 1.0
    model.double()  # so that the statistics don't depend on the number of threads
    model(frames(model, 4, c.n_past + 3).double() / 255, torch.randn(4, c.n_past + 2, c.z_dim).double())
    model.float()
    for norm in norms:
        norm.momentum = 0.1
    return model


def frames(model: SVG, batch: int = 3, length: int = 7, seed: int = 0) -> torch.Tensor:
    c = model.config
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, length, c.channels, c.size, c.size), dtype=torch.uint8, generator=generator)


def vae(likelihood: str = "fixed_gaussian", seed: int = 0, options: dict | None = None, **config) -> VAE:
    torch.manual_seed(seed)
    sizes = {"backbone": "mlp", "size": 28, "channels": 1, "width": 8, "z_dim": 3, "prior": "fixed"}
    c = ModelConfig(name="vae", **{**sizes, **config})
    head = likelihoods.build(likelihood, channels=c.channels, size=(c.size, c.size), **(options or {}))
    return VAE(c, head).double()


def images(count: int = 6, seed: int = 0, channels: int = 1, size: int = 28) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, channels, size, size), dtype=torch.uint8, generator=generator)


def objective(model, name: str = "elbo", seed: int = 0, **config) -> Objective:
    return Objective(model, ObjectiveConfig(name=name, **config), seed)


def pca_model(posterior: str = "diagonal", **options) -> VAE:
    model = vae(backbone="linear", posterior=posterior, options={"sigma": 0.5, "mean": "identity", **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
        model.decoder[0].weight.mul_(4)
    return model


def evidence(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """log N(x; b, W W' + sigma^2 I)."""
    decoder = model.decoder[0]
    covariance = decoder.weight @ decoder.weight.T + 0.25 * torch.eye(784).double()
    law = torch.distributions.MultivariateNormal(decoder.bias, covariance)
    return law.log_prob(x.double().flatten(1) / 255)
