"""The Frechet distance against closed forms and scipy's matrix square root; I3D from the files that people have."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.nn import functional as F

from svg.metrics import WeightsError
from svg.metrics.fvd import VideoFeatures, frechet_distance, fvd, load_features
from svg.metrics.i3d import I3D, _same

CPU = torch.device("cpu")


def sample(count: int, mean: Tensor, factor: Tensor, seed: int = 0) -> Tensor:
    """`count` points whose sample mean and covariance are exactly `mean` and factor' factor."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
    centred = points - points.mean(dim=0)
    white = torch.linalg.qr(centred).Q * (count - 1) ** 0.5
    return white @ factor + mean


def by_scipy(x: Tensor, y: Tensor) -> float:
    a, b = (np.cov(z.double().numpy(), rowvar=False) for z in (x, y))
    mean = (x - y.mean(dim=0)).mean(dim=0).double().square().sum().item()
    return mean + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


def test_gaussians_in_closed_form() -> None:
    mean, deviations = torch.arange(5.0, dtype=torch.float64), torch.tensor([1.0, 2, 0.5, 3, 0.1], dtype=torch.float64)
    x = sample(50, mean, torch.diag(deviations))
    y = sample(80, mean + 2, torch.diag(deviations.flip(0)), seed=1)
    wanted = 5 * 4 + (deviations - deviations.flip(0)).square().sum().item()
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-10)
    assert frechet_distance(x, x + 3) == pytest.approx(5 * 9, rel=1e-10)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, 2 * (x - mean) + mean) == pytest.approx(deviations.square().sum().item(), rel=1e-10)


@pytest.mark.parametrize("counts", [(60, 90), (12, 200)])
def test_equal_to_the_matrix_square_root(counts: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    mix = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    x = torch.randn(counts[0], 10, generator=generator, dtype=torch.float64)
    y = torch.randn(counts[1], 10, generator=generator, dtype=torch.float64) @ mix + 0.3
    assert frechet_distance(x, y) == pytest.approx(by_scipy(x, y), rel=1e-8)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-10)
    assert frechet_distance(x.float(), y.float()) == pytest.approx(by_scipy(x.float(), y.float()), rel=1e-6)


def test_singular_covariances() -> None:
    """Fewer clips than features: the spectrum beyond the clips is exactly zero."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.randn(20, 50, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = (np.cov(z.numpy(), rowvar=False) for z in (x, y))
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    wanted = (x - y).mean(dim=0).square().sum().item() + np.trace(a + b) - 2 * shared
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6)


def test_fvd_states_what_it_is() -> None:
    generator = torch.Generator().manual_seed(4)
    real, fake = torch.randn(70, 400, generator=generator), torch.randn(70, 2, 400, generator=generator)
    result = fvd(real, fake, 30, "srvp", "0123456789ab")
    assert result.value == pytest.approx(frechet_distance(real, fake.flatten(0, 1)))
    assert result == fvd(real, fake, 30, "srvp", "0123456789ab") and 0 < result.half < result.value
    for part in ("N = 70 clips x 2 samples", "T = 30", "srvp", "01234567", "singular covariance"):
        assert part in str(result)
    with pytest.raises(ValueError, match="at least 64 clips, not 63"):
        fvd(real[:63], fake[:63], 30, "srvp", "")


def test_the_interval_is_that_of_other_clips() -> None:
    """The bootstrap's half-width against 1.96 standard deviations over data sets, predictions near their clips."""
    generator = torch.Generator().manual_seed(0)
    values, halves = [], []
    for repeat in range(300):
        real = torch.randn(100, 2, generator=generator, dtype=torch.float64)
        fake = (1.5 * real + 0.5)[:, None] + 0.1 * torch.randn(100, 2, 2, generator=generator, dtype=torch.float64)
        values.append(frechet_distance(real, fake.flatten(0, 1)))
        if repeat % 50 == 0:
            halves.append(fvd(real, fake, 16, "srvp", "", seed=repeat).half)
    assert np.mean(halves) == pytest.approx(1.96 * np.std(values), rel=0.15)


def test_the_bootstrap_draws_clips_with_their_predictions() -> None:
    """Predictions that differ from their clips by a constant: any draw of clips has the same distance."""
    real = torch.randn(80, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = fvd(real, (real + 2)[:, None], 16, "srvp", "")
    assert found.value == pytest.approx(12) and found.half == pytest.approx(0, abs=1e-6)
    other = fvd(real, (2 * real)[:, None], 16, "srvp", "")
    assert other.half > 0 and other.half != fvd(real, (2 * real)[:, None], 16, "srvp", "", seed=1).half


def test_padding_is_tensorflows_same() -> None:
    """Output size is size / stride rounded up; of an odd padding the larger half is at the end."""
    for size in range(7, 16):
        for kernel in (1, 2, 3, 7):
            for stride in (1, 2):
                x = torch.ones(1, 1, size, 5, 5)
                padded = _same(x, (kernel, 1, 1), (stride, 1, 1))
                out = F.max_pool3d(padded, (kernel, 1, 1), (stride, 1, 1))
                before, after = (padded[0, 0, :, 0, 0] == 0).nonzero().flatten(), padded.shape[2] - size
                assert kernel < stride or out.shape[2] == -(-size // stride)
                assert len(before) == after and (before < size // 2).sum() == after // 2


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A random I3D under the names of i3d_pretrained_400.pt."""
    torch.manual_seed(0)
    return {name.removeprefix("stages."): value for name, value in I3D().state_dict().items()}


def test_i3d_has_the_published_size_and_names(state: dict[str, Tensor]) -> None:
    learned = [value for name, value in state.items() if "running" not in name and "num_batches" not in name]
    assert sum(value.numel() for value in learned) == 12_697_264
    for name in ("Conv3d_1a_7x7.conv3d.weight", "Mixed_3b.b1a.bn.running_var", "Mixed_5c.b3b.conv3d.weight"):
        assert name in state
    assert state["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1) and "logits.conv3d.bias" in state


def test_features_of_a_state_dict(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "i3d.pt")
    features = load_features(tmp_path / "i3d.pt", CPU)
    assert features.sha256 == hashlib.sha256((tmp_path / "i3d.pt").read_bytes()).hexdigest()
    videos = torch.randint(0, 256, (2, 9, 1, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = features(videos)
    assert found.shape == (2, 400)
    network = I3D().eval()
    network.load(state)
    frames = F.interpolate(videos[1].float() / 255, size=(224, 224), mode="bilinear").expand(-1, 3, -1, -1)
    with torch.no_grad():
        wanted = network((2 * frames - 1).transpose(0, 1)[None])
    torch.testing.assert_close(found[1:], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features(videos[1:].float() / 255), wanted, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="at least 9 frames"):
        features(videos[:, :8])


class Scripted(nn.Module):
    """Stands in for i3d_torchscript.pt: the same call, a trivial network."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1200.0).reshape(3, 400) / 1200)

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        assert not rescale and not resize and return_features
        assert x.shape[1] == 3 and x.shape[3] == 224 and x.shape[4] == 224
        return x.mean(dim=(2, 3, 4)) @ self.weight


def test_torchscript_needs_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated; the file that people have is of its time
        torch.jit.script(Scripted()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError, match=f"runs the code in it.* --eval.fvd_sha256 {digest}"):
        load_features(path, CPU)
    with pytest.raises(WeightsError, match="another file"):
        load_features(path, CPU, "0" * 64)
    videos = torch.rand(3, 9, 3, 224, 224)
    wanted = (2 * videos - 1).mean(dim=(1, 3, 4)) @ Scripted().weight
    torch.testing.assert_close(load_features(path, CPU, digest.upper())(videos), wanted.detach(), atol=1e-5, rtol=1e-5)


def test_wrong_files_are_refused_in_a_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not weights")
    torch.save({name: value for name, value in state.items() if "b1a" not in name}, tmp_path / "part.pt")
    torch.save({**state, "logits.conv3d.bias": torch.zeros(600)}, tmp_path / "k600.pt")
    torch.save({"model": state}, tmp_path / "nested.pt")
    whole = (tmp_path / "k600.pt").read_bytes()
    (tmp_path / "zip.pt").write_bytes(whole[:100] + whole[-22:])  # the end of a zip, whose list of files is gone
    for name in ("text.pt", "part.pt", "k600.pt", "nested.pt", "zip.pt", "none.pt"):
        with pytest.raises(WeightsError, match=name) as error:
            load_features(tmp_path / name, CPU)
        assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="needs the file's SHA-256"):
        load_features("https://example.org/i3d.pt", CPU)


def test_a_url_is_fetched_once(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state, tmp_path / "i3d.pt")
    content = (tmp_path / "i3d.pt").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    fetched = []

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        fetched.append((url, hash_prefix))
        Path(path).write_bytes(content)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for _ in range(2):
        assert isinstance(load_features("https://example.org/i3d.pt", CPU, digest), VideoFeatures)
    assert fetched == [("https://example.org/i3d.pt", digest)]

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(WeightsError, match=r"example.org/i3d.pt could not be fetched: no route"):
        load_features("https://example.org/i3d.pt", CPU, "1" * 64)
