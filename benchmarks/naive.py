"""SVG as published: one frame at a time, every frame encoded twice, LSTM cells, whole convolutions of concat[up, skip].

A plain implementation of the loop of Denton & Fergus (2018), written for this project: the oracle of the equality
tests and the baseline of the benchmarks. It takes the weights of `svg.SVG` (`NaiveSVG(model)`) and gives the same
`Outputs`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svg.models.backbones import Decoder, Encoder, SkipConv
from svg.models.base import Gaussian, Outputs, to_float
from svg.models.recurrent import GaussianLSTM, PredictorLSTM, Recurrent
from svg.models.svg_lp import SVG


class CellStack(nn.Module):
    """A Recurrent's embedding and LSTM as a stack of cells that keeps its hidden state, as in the published lstm.py."""

    def __init__(self, net: Recurrent) -> None:
        super().__init__()
        self.embed = net.embed
        layers, self.size = net.lstm.num_layers, net.lstm.hidden_size
        self.cells = nn.ModuleList(nn.LSTMCell(self.size, self.size) for _ in range(layers))
        for i, cell in enumerate(self.cells):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                setattr(cell, kind, getattr(net.lstm, f"{kind}_l{i}"))

    def reset(self, batch: int) -> None:
        """Zero states for B sequences."""
        like = self.embed.weight
        self.state = [(like.new_zeros(batch, self.size), like.new_zeros(batch, self.size)) for _ in self.cells]

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        for i, cell in enumerate(self.cells):
            self.state[i] = cell(y, self.state[i])
            y = self.state[i][0]
        return y


class NaivePredictor(nn.Module):
    """`PredictorLSTM`, one frame a call."""

    def __init__(self, net: PredictorLSTM) -> None:
        super().__init__()
        self.cells, self.output = CellStack(net), net.output

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.output(self.cells(x)))


class NaiveGaussian(nn.Module):
    """`GaussianLSTM`, one frame a call."""

    def __init__(self, net: GaussianLSTM) -> None:
        super().__init__()
        self.cells, self.mean, self.logvar = CellStack(net), net.mean, net.logvar

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.cells(x)
        return self.mean(y), self.logvar(y)


def decode(decoder: Decoder, g: Tensor, skips: list[Tensor]) -> Tensor:
    """The published decoder's forward pass: upsample, concatenate, convolve."""
    x = decoder.first(g[:, :, None, None])
    for join, stage, skip in zip(decoder.joins, decoder.stages, reversed(skips), strict=True):
        assert isinstance(join, SkipConv)
        if not join.transposed:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = stage(join.conv(torch.cat((x, skip), dim=1)))
    return x


class NaiveSVG(nn.Module):
    """The published training step's forward pass over the modules (and so the very weights) of an `svg.SVG`."""

    def __init__(self, model: SVG) -> None:
        super().__init__()
        self.config, self.likelihood, self.latent_size = model.config, model.likelihood, model.latent_size
        self.encoder: Encoder = model.encoder
        self.decoder: Decoder = model.decoder
        self.predictor = NaivePredictor(model.predictor)
        self.posterior = NaiveGaussian(model.posterior) if self.latent_size else None
        prior = getattr(model, "prior", None)
        self.prior = NaiveGaussian(prior) if isinstance(prior, GaussianLSTM) else None

    def cells(self) -> list[CellStack]:
        """The stacks of the nets that the model has."""
        return [net.cells for net in (self.predictor, self.posterior, self.prior) if net is not None]

    def forward(self, frames: Tensor, noise: Tensor | None) -> Outputs:
        """As `SVG.forward`, frame by frame."""
        for cells in self.cells():
            cells.reset(frames.shape[0])
        x = to_float(frames).unbind(1)
        freeze = {"previous": len(x), "published": self.config.n_past - 1, "last_context": self.config.n_past}
        last_skip = freeze[self.config.skip_frame]
        params, z, q, p = [], [], [], []
        for i in range(1, len(x)):
            h, new_skips = self.encoder(x[i - 1])
            if i <= last_skip:
                skips = new_skips
            h_target, _ = self.encoder(x[i])
            inputs = h
            if self.posterior is not None and noise is not None:
                mean, logvar = self.posterior(h_target)
                z.append(mean + torch.exp(0.5 * logvar) * noise[:, i - 1])
                q.append((mean, logvar))
                p.append(self.prior(h) if self.prior is not None else (torch.zeros_like(mean), torch.zeros_like(mean)))
                inputs = torch.cat((h, z[-1]), dim=1)
            params.append(decode(self.decoder, self.predictor(inputs), skips))
        target = frames[:, 1:]
        if not z:
            return Outputs(torch.stack(params, 1), target)
        posterior, prior = (Gaussian(*(torch.stack(parts, 1) for parts in zip(*g, strict=True))) for g in (q, p))
        return Outputs(torch.stack(params, 1), target, torch.stack(z, 1), posterior, prior)

    @torch.no_grad()
    def rollout(self, context: Tensor, horizon: int, noise: Tensor) -> Tensor:
        """One future of each context, frame by frame: (B, horizon, C, H, W). `noise` is (B, T-1, Z)."""
        for cells in self.cells():
            cells.reset(context.shape[0])
        x = list(to_float(context).unbind(1))
        n_past = len(x)
        freeze = {"previous": n_past + horizon, "published": n_past - 1, "last_context": n_past}
        for i in range(1, n_past + horizon):
            h, new_skips = self.encoder(x[i - 1])
            if i <= freeze[self.config.skip_frame]:
                skips = new_skips
            inputs = h
            if self.posterior is not None:
                if i < n_past:
                    mean, logvar = self.posterior(self.encoder(x[i])[0])
                    if self.prior is not None:
                        self.prior(h)
                elif self.prior is not None:
                    mean, logvar = self.prior(h)
                else:
                    mean = logvar = torch.zeros_like(noise[:, 0])
                inputs = torch.cat((h, mean + torch.exp(0.5 * logvar) * noise[:, i - 1]), dim=1)
            g = self.predictor(inputs)
            if i >= n_past:
                params = decode(self.decoder, g, skips)[:, None]
                x.append(self.likelihood.distribution(params).mean.clamp(0, 1)[:, 0])
        return torch.stack(x[n_past:], 1)
