"""Frechet inception distance (Heusel et al. 2017): the distance of two Gaussians fitted to Inception's features of
images.

Network, resizing and scaling are torch-fidelity's, which are those of the published TensorFlow graph; the weights come
from a file, which is never downloaded here. Numbers are comparable only for equal counts of images, as the distance is
biased upwards where there are few: an `FID` carries its own.

N images, C channels, H W pixels, D = 2048 features.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svg.metrics.fvd import frechet_distance
from svg.metrics.weights import WeightsError, check_channels, read_state, sha256
from svg.runtime.precision import exact

FEATURES = 2048
"""Of Inception's last pooling."""
LEAST_IMAGES = 256
"""Below this a distance in 2048 dimensions says nothing."""
PUBLISHED_SHA256 = "6726825d"
"""First digits of the SHA-256 of the weights that the published numbers use."""
REMEDY = (
    "get them once with: curl -LO https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    f"weights-inception-2015-12-05-{PUBLISHED_SHA256}.pth (96 MB), and name the file by --eval.fid_weights PATH"
)
MISSING = f"not measured: FID needs the weights of its InceptionV3; {REMEDY}"


@dataclass(frozen=True)
class FID:
    """A distance and all that it depends on."""

    value: float
    real: int
    """True images."""
    fake: int
    """Images of the model."""
    sha256: str
    """Of the network's weights."""
    published: bool
    """Whether they are those of the published numbers."""

    @property
    def note(self) -> str | None:
        """What must be said of the number."""
        notes = [] if self.published else ["not the published weights"]
        if min(self.real, self.fake) <= FEATURES:
            notes.append(f"singular covariance: {FEATURES} features need more than {FEATURES} images")
        return "; ".join(notes) or None

    @property
    def basis(self) -> str:
        """What the number depends on, in words."""
        note = f"; {self.note}" if self.note else ""
        return f"N = {self.real} true and {self.fake} predicted images, Inception weights {self.sha256[:8]}{note}"

    def __str__(self) -> str:
        return f"FID {self.value:.2f} ({self.basis})"


class ImageFeatures:
    """Images (N, C, H, W), uint8 or float in [0, 1], to Inception's features (N, 2048), float32.

    Floats are rounded to bytes, as published numbers are of image files; grey is repeated.

    Args:
        path: the weights, a state dict as torch-fidelity's and pytorch-fid's (keys
            `Mixed_5b.branch1x1.conv.weight`, ...).
        device: where it computes.

    Attributes:
        sha256: of the file.
        published: whether it is the published one.

    Raises:
        WeightsError: the file is missing, or not such a state dict.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"eval.fid_weights: there is no file {path}; {REMEDY}")
        self.network, self.device = _load(path).to(device), device
        self.sha256 = sha256(path)
        self.published = self.sha256.startswith(PUBLISHED_SHA256)
        self.at_once = 16 if device.type == "cpu" else 256

    def __call__(self, images: Tensor) -> Tensor:
        check_channels("FID", images.shape[1])
        with torch.no_grad(), exact(self.device):
            return torch.cat([self.network(self._prepare(part))[0] for part in images.split(self.at_once)])

    def of_videos(self, videos: Tensor) -> Tensor:
        """Videos (N, T, C, H, W) to the features of their frames one after another, (N, T * 2048)."""
        return self(videos.flatten(0, 1)).unflatten(0, videos.shape[:2]).flatten(1)

    def _prepare(self, images: Tensor) -> Tensor:
        images = images.to(self.device)
        in_bytes = images if images.dtype == torch.uint8 else (255 * images.float()).round().to(torch.uint8)
        return in_bytes.expand(-1, 3, -1, -1)


def _load(path: Path) -> nn.Module:
    """torch-fidelity's network with weights of a file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # late, as it imports much

    safe = io.BytesIO()  # the library would unpickle the file, and with it run what is in it: it gets bare tensors
    torch.save(dict(read_state(path)), safe)
    safe.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            options: dict[str, Any] = {"feature_extractor_weights_path": safe}
            return FeatureExtractorInceptionV3("inception", [str(FEATURES)], **options)
    except RuntimeError:
        raise WeightsError(f"{path} holds no InceptionV3 of FID's shape; {REMEDY}") from None


def fid(real: Tensor, fake: Tensor, extract: ImageFeatures) -> FID:
    """The distance of features (N, D) of true images and (M, D) of a model's, which `extract` computed.

    Raises:
        ValueError: fewer than 256 of either.
    """
    check_images(min(len(real), len(fake)))
    value = frechet_distance(real.cpu(), fake.cpu())
    return FID(value, len(real), len(fake), extract.sha256, extract.published)


def check_images(count: int) -> None:
    """Raises ValueError where there are too few images for a distance."""
    if count < LEAST_IMAGES:
        raise ValueError(
            f"FID needs at least {LEAST_IMAGES} images, not {count}: raise eval.clips or leave eval.fid_weights out"
        )
