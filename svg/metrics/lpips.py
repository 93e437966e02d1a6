"""LPIPS v0.1 with AlexNet (Zhang et al. 2018), by the authors' `lpips` package.

The package brings the linear heads; AlexNet's ImageNet weights come from a file, which is never downloaded here.
Frames are scaled to [-1, 1] and scored at their own size, grey repeated to three channels; shapes as in
`svg.metrics.frames`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from svg.metrics.frames import ClipScore, per_frame
from svg.metrics.metric import Metric
from svg.metrics.weights import WeightsError, read_state, sha256

PUBLISHED_SHA256 = "7be5be79"
"""First digits of the SHA-256 of torchvision's AlexNet weights, which the published numbers use."""

_FILE = f"alexnet-owt-{PUBLISHED_SHA256}.pth"
REMEDY = (
    "get them once with: python -c \"import torchvision as t; t.models.alexnet(weights='IMAGENET1K_V1')\" (233 MB), "
    f"or name a copy of {_FILE} by --eval.lpips_weights PATH"
)


def find_weights(path: str | Path | None = None) -> Path:
    """The file of AlexNet's weights: the one given, or torchvision's in torch's cache.

    Raises:
        WeightsError: there is none.
    """
    if path is not None:
        if not Path(path).is_file():
            raise WeightsError(f"eval.lpips_weights: there is no file {path}; {REMEDY}")
        return Path(path)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not cached.is_file():
        raise WeightsError(f"LPIPS needs AlexNet's weights, which are not in torch's cache; {REMEDY}")
    return cached


class LPIPS(nn.Module):
    """Perceptual distance, float32 (or the module's dtype), lower is better.

    Args:
        path: AlexNet's weights, a state dict as torchvision's (keys `features.N.weight`, `features.N.bias`).

    Attributes:
        source: {"file": name, "sha256": of the file, "published": whether it is the published file}.

    Raises:
        WeightsError: the file is not such a state dict.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        import lpips  # late, as it imports much

        path = Path(path)
        state = read_state(path)
        features = {name.split(".", 1)[1]: value for name, value in state.items() if name.startswith("features.")}
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # torchvision's, about the package's way of calling it
            self.net = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        self.normalize = lpips.normalize_tensor
        slices = {name.split(".", 1)[1]: name for name in self.net.net.state_dict()}  # "0.weight": "slice1.0.weight"
        try:
            self.net.net.load_state_dict({slices[name]: value for name, value in features.items()})
        except (KeyError, RuntimeError):
            raise WeightsError(f"{path} holds no AlexNet of torchvision's shape; {REMEDY}") from None
        self.requires_grad_(False).eval()
        digest = sha256(path)
        self.source = {"file": path.name, "sha256": digest, "published": digest.startswith(PUBLISHED_SHA256)}

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Predictions (B, S, T, C, H, W) or (B, T, C, H, W) and truth (B, T, C, H, W) to (B, S, T) or (B, T)."""
        return per_frame(prediction, truth, self._against)

    def _against(self, true: Tensor) -> ClipScore:
        true_features = self._features(true)

        def score(x: Tensor) -> Tensor:
            parts = []
            features = self._features(x.flatten(0, 1))
            for head, found, wanted in zip(self.net.lins, features, true_features, strict=True):
                squares = (found.unflatten(0, x.shape[:2]) - wanted).square().flatten(0, 1)
                parts.append(head(squares).mean(dim=(1, 2, 3)))
            return torch.stack(parts).sum(dim=0).unflatten(0, x.shape[:2])

        return score

    def _features(self, frames: Tensor) -> list[Tensor]:
        """The five normalised feature maps (N, c, h, w) of frames (N, C, H, W) in [0, 1]."""
        weight = next(self.net.parameters())
        rgb = 2 * frames.to(weight).expand(-1, 3, -1, -1) - 1
        return [self.normalize(features) for features in self.net.net(self.net.scaling_layer(rgb))]


METRIC = Metric(None, "LPIPS", "v0.1, AlexNet, inputs in [-1, 1] at the frames' size", higher_is_better=False)
