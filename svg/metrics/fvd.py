"""Frechet video distance (Unterthiner et al. 2018): the distance of two Gaussians fitted to I3D's logits of videos.

Numbers are comparable only under one convention, so an `FVD` carries its own: which frames, how many clips and samples,
and the hash of the network's weights. The covariances are those of all clips at once, in float64.

N clips, K samples of each, T frames, C channels, H W pixels, D = 400 features.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svg.metrics import weights
from svg.metrics.i3d import FEATURES, I3D, LEAST_FRAMES, SIZE
from svg.metrics.weights import WeightsError
from svg.runtime.precision import exact

LEAST_CLIPS = 64
"""Below this a distance in 400 dimensions says nothing."""
RESAMPLES = 100
"""Of the bootstrap."""
_FRAMES_AT_ONCE = 512
"""Frames that the network sees at once on a GPU; on a CPU one clip."""


@dataclass(frozen=True)
class Convention:
    """Which videos are compared; None leaves it to the evaluation."""

    name: str
    with_context: bool = True
    """Whether videos begin with the context frames."""
    samples: int | None = 1
    """Predictions of each clip, the first ones drawn; None takes all."""
    context: int | None = None
    """Context frames."""
    horizon: int | None = None
    """Predicted frames."""

    def frames(self, context: int, horizon: int) -> int:
        """Frames T of a video."""
        return horizon + (context if self.with_context else 0)


CONVENTIONS = {
    "srvp": Convention("srvp"),
    "1to15": Convention("1to15", samples=None, context=1, horizon=15),
}
"""SRVP's (Franceschi et al. 2020), and the one of 16-frame clips from one context frame with many samples."""


@dataclass(frozen=True)
class FVD:
    """A distance and all that it depends on."""

    value: float
    half: float
    """Half-width of the 95 % interval: 1.96 standard deviations of a bootstrap over clips."""
    clips: int
    samples: int
    frames: int
    convention: str
    sha256: str
    """Of the network's weights."""

    @property
    def note(self) -> str | None:
        """What must be said of the number."""
        if self.clips > FEATURES:
            return None
        return f"singular covariance: {FEATURES} features need more than {FEATURES} clips"

    def __str__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        return (
            f"FVD {self.value:.1f} ± {self.half:.1f} (convention {self.convention}: N = {self.clips} clips x "
            f"{self.samples} samples, T = {self.frames} frames, I3D weights {self.sha256[:8]}{note})"
        )


def fvd(real: Tensor, fake: Tensor, frames: int, convention: str, sha256: str, seed: int = 0) -> FVD:
    """The distance of predictions from true videos.

    Args:
        real: features (N, D) of the true clips.
        fake: features (N, K, D) of their predictions.
        frames, convention, sha256: T of the videos, what they are, and the network's weights.
        seed: of the bootstrap, which draws clips together with their predictions.

    Raises:
        ValueError: fewer than 64 clips.
    """
    real, fake = real.cpu().double(), fake.cpu().double()
    check_clips(len(real))
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randint(len(real), (len(real),), generator=generator) for _ in range(RESAMPLES))
    spread = torch.tensor([frechet_distance(real[clips], fake[clips].flatten(0, 1)) for clips in drawn])
    value = frechet_distance(real, fake.flatten(0, 1))
    return FVD(value, 1.96 * spread.std().item(), len(real), fake.shape[1], frames, convention, sha256)


def check_clips(clips: int) -> None:
    """Raises ValueError where there are too few clips for a distance."""
    if clips < LEAST_CLIPS:
        raise ValueError(f"FVD needs at least {LEAST_CLIPS} clips, not {clips}: raise eval.clips or leave fvd out")


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^1/2) of two samples (N, D), (M, D) with covariances A and B, in float64.

    Centred samples X, Y have A = X'X / (N-1), so tr (A B)^1/2 is the sum of the singular values of X Y' over
    sqrt((N-1) (M-1)): no square root of a matrix, and no trouble with singular covariances.
    """
    x, y = x.double(), y.double()
    mean = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    a, b = _factor(x), _factor(y)
    shared = torch.linalg.svdvals(a @ b.T).sum()
    return (mean + a.square().sum() + b.square().sum() - 2 * shared).clamp_min(0).item()


def _factor(x: Tensor) -> Tensor:
    """F with F'F the covariance of a sample (N, D); at most D rows."""
    centred = (x - x.mean(dim=0)) / (len(x) - 1) ** 0.5
    return centred if len(x) <= x.shape[1] else torch.linalg.qr(centred, mode="r").R


class VideoFeatures:
    """Videos (N, T, C, H, W), uint8 or float in [0, 1], to I3D's features (N, 400), float32.

    Frames are resized to 224x224 (bilinear, half-pixel centres), scaled to [-1, 1]; grey is repeated.

    Args:
        network: (N, 3, T, 224, 224) to (N, 400).
        sha256: of its weights' file.
        device: where it computes.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], sha256: str, device: torch.device) -> None:
        self.network, self.sha256, self.device = network, sha256, device

    def __call__(self, videos: Tensor) -> Tensor:
        if videos.shape[1] < LEAST_FRAMES:
            raise ValueError(f"FVD needs videos of at least {LEAST_FRAMES} frames, not {videos.shape[1]}")
        at_once = 1 if self.device.type == "cpu" else max(1, _FRAMES_AT_ONCE // videos.shape[1])
        with torch.no_grad(), exact(self.device):
            return torch.cat([self.network(self._prepare(part.to(self.device))) for part in videos.split(at_once)])

    @staticmethod
    def _prepare(videos: Tensor) -> Tensor:
        clips = videos.shape[0]
        frames = videos.flatten(0, 1).float() / (255 if videos.dtype == torch.uint8 else 1)
        large = F.interpolate(frames, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        rgb = 2 * large.expand(-1, 3, -1, -1) - 1
        return rgb.unflatten(0, (clips, -1)).transpose(1, 2)


def load_features(source: str | Path, device: torch.device, sha256: str | None = None) -> VideoFeatures:
    """I3D with weights of a file.

    Args:
        source: a path, or a URL, whose file is kept in torch's cache; a URL needs `sha256`. The file holds a state
            dict (`i3d_pretrained_400.pt`) or TorchScript (`i3d_torchscript.pt`).
        sha256: of the file, in hexadecimal. TorchScript runs the code in the file, so it is loaded only with this.

    Raises:
        WeightsError: the file is missing, another one, or not I3D; or its hash is needed.
    """
    path = _download(str(source), sha256) if weights.is_url(source) else Path(source)
    if not path.is_file():
        raise WeightsError(
            f"eval.fvd_weights: there is no file {path}; FVD needs I3D of Kinetics-400: i3d_torchscript.pt or "
            "i3d_pretrained_400.pt"
        )
    digest = weights.sha256(path)
    if sha256 is not None and sha256.lower() != digest:
        raise WeightsError(f"{path} has SHA-256 {digest}, not that of eval.fvd_sha256: it is another file")
    if _is_torchscript(path):
        if sha256 is None:
            raise WeightsError(
                f"{path} is TorchScript, and loading it runs the code in it; if you trust it: "
                f"--eval.fvd_sha256 {digest}"
            )
        return VideoFeatures(_load_torchscript(path, device), digest, device)
    return VideoFeatures(_load_state(path).to(device), digest, device)


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # no zip, or a damaged one, over which it raises anything: read_state says what is the matter
        return False


def _load_torchscript(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, but it is what people have
            module = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be read as TorchScript ({str(error).splitlines()[0]})") from None
    return lambda clips: module(clips, rescale=False, resize=False, return_features=True)


def _load_state(path: Path) -> nn.Module:
    network = I3D()
    try:
        network.load(weights.read_state(path))
    except (KeyError, RuntimeError) as error:
        problem = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{path} holds no state dict of I3D for Kinetics-400: {problem}") from None
    return network.eval().requires_grad_(False)


def _download(url: str, sha256: str | None) -> Path:
    if sha256 is None:
        raise WeightsError(f"eval.fvd_weights {url} needs the file's SHA-256: --eval.fvd_sha256")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"i3d-{sha256[:16].lower()}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256.lower())
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"eval.fvd_weights {url} could not be fetched: {error}") from None
    return path
