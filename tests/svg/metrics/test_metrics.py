"""PSNR, SSIM and LPIPS against independent implementations; best of N against doing it all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from svg import metrics
from svg.metrics import LPIPS, BestOfN, Interval, WeightsError
from svg.metrics import frames as frame_metrics
from svg.runtime.precision import exact


def clips(channels: int = 3, size: tuple[int, int] = (24, 20), samples: int = 3) -> tuple[Tensor, Tensor]:
    """Predictions (2, S, 4, C, H, W) around a truth (2, 4, C, H, W), float64."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 4, channels, *size, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, samples, 4, channels, *size, generator=generator, dtype=torch.float64)
    return (truth[:, None] + 0.2 * noise).clamp(0, 1), truth


def one_by_one(score: Callable[[np.ndarray, np.ndarray], float], prediction: Tensor, truth: Tensor) -> Tensor:
    """A score of single channels (H, W), averaged over channels: (B, S, T)."""
    x, y = (prediction.numpy(), truth[:, None].expand_as(prediction).numpy())
    scores = [score(a, b) for a, b in zip(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]), strict=True)]
    return torch.tensor(scores, dtype=torch.float64).reshape(x.shape[:4]).mean(dim=-1)


def ssim_by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, from full-size correlations cut to the positions where the window fits."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()

    def mean(z: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(z, weights, axis=0), weights, axis=1)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean((x - 0.5) ** 2) - (mx - 0.5) ** 2, mean(y * y) - my**2, mean(x * y) - mx * my
    values = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return float(values.mean())


def ssim_by_skimage(x: np.ndarray, y: np.ndarray) -> float:
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    return structural_similarity(x, y, **options)


def ssim_of_the_svg_script(x: np.ndarray, y: np.ndarray) -> float:
    return structural_similarity(x, y, data_range=2.0)


def psnr_by_skimage(x: np.ndarray, y: np.ndarray) -> float:
    return peak_signal_noise_ratio(y, x, data_range=1.0)


REFERENCES = [
    (metrics.psnr, psnr_by_skimage),
    (metrics.ssim, ssim_by_skimage),
    (metrics.ssim, ssim_by_scipy),
    (metrics.ssim_svg, ssim_of_the_svg_script),
]


@pytest.mark.parametrize("metric, reference", REFERENCES)
@pytest.mark.parametrize("channels, size", [(3, (24, 20)), (1, (64, 64)), (3, (11, 30))])
def test_equal_to_independent_implementations(metric, reference, channels: int, size: tuple[int, int]) -> None:
    prediction, truth = clips(channels, size)
    wanted = one_by_one(reference, prediction, truth)
    torch.testing.assert_close(metric(prediction, truth), wanted, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(metric(prediction.float(), truth.float()).double(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.ssim_svg])
def test_forms_of_input_agree(metric) -> None:
    prediction, truth = clips()
    scores = metric(prediction, truth)
    assert scores.shape == (2, 3, 4) and scores.dtype == torch.float64
    torch.testing.assert_close(metric(prediction[:, 1], truth), scores[:, 1])
    as_bytes = (truth * 255).round().to(torch.uint8)
    scored = metric(prediction.float(), as_bytes)
    assert scored.dtype == torch.float32
    torch.testing.assert_close(scored, metric(prediction.float(), as_bytes.float() / 255))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_neither_blocks_nor_autocast_change_a_score(metric, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = (x.float() for x in clips(samples=7))
    wanted = metric(prediction, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(metric(prediction, truth), wanted)
    monkeypatch.setattr(frame_metrics, "CPU_BLOCK", 1)
    torch.testing.assert_close(metric(prediction, truth), wanted, atol=1e-6, rtol=1e-6)


def test_extremes() -> None:
    truth = torch.rand(1, 2, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(metrics.psnr(truth, truth), torch.full((1, 2), 100.0, dtype=torch.float64))
    torch.testing.assert_close(metrics.ssim(truth, truth), torch.ones(1, 2, dtype=torch.float64))
    black, white = torch.zeros(1, 1, 1, 16, 16), torch.ones(1, 1, 1, 16, 16)
    assert metrics.psnr(black, white).item() == 0
    assert metrics.ssim(black, white).item() == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-4)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_shapes_that_do_not_fit_are_refused(metric) -> None:
    prediction, truth = clips()
    for wrong in (prediction[:, :, :2], prediction[:1], prediction[..., :12], prediction[0, 0]):
        with pytest.raises(ValueError, match="don't fit together"):
            metric(wrong, truth)
    with pytest.raises(ValueError, match="11x11"):
        metrics.ssim(prediction[..., :10, :], truth[..., :10, :])


def test_precision_settings_come_back() -> None:
    cuda = torch.backends.cuda.matmul
    before = cuda.allow_tf32
    try:
        cuda.allow_tf32 = True
        with exact(torch.device("cpu")):
            assert getattr(cuda, "fp32_precision", None) == "ieee" or not cuda.allow_tf32
        assert cuda.allow_tf32
    finally:
        cuda.allow_tf32 = before


@pytest.fixture(scope="session")
def alexnet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random AlexNet's state dict, as torchvision saves it (its unused classifier left out)."""
    torch.manual_seed(0)
    state = torchvision.models.alexnet().state_dict()
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save({name: value for name, value in state.items() if name.startswith("features.")}, path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_the_package_on_inputs_from_minus_one_to_one(alexnet_weights: Path, channels: int) -> None:
    metric = LPIPS(alexnet_weights)
    prediction, truth = (x.float() for x in clips(channels, (64, 64), samples=2))
    scores = metric(prediction, truth)
    repeated = truth[:, None].expand_as(prediction)
    x, y = (2 * z.flatten(0, 2).expand(-1, 3, -1, -1) - 1 for z in (prediction, repeated))
    torch.testing.assert_close(scores, metric.net(x, y).reshape(scores.shape), atol=1e-6, rtol=1e-5)
    assert (scores > 0).all() and (metric(truth, truth) == 0).all()
    assert not metric.source["published"] and len(str(metric.source["sha256"])) == 64


def test_lpips_uses_the_file_and_leaves_the_caller_alone(
    alexnet_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    state = torch.load(alexnet_weights, weights_only=True)
    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    metric = LPIPS(alexnet_weights)
    assert torch.equal(torch.rand(2), drawn)
    assert torch.equal(metric.net.net.slice3[-2].weight, state["features.6.weight"])
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_lpips_without_weights_says_how_to_get_them(
    alexnet_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="lpips_weights PATH") as missing:
        metrics.find_weights()
    assert "\n" not in str(missing.value)
    with pytest.raises(WeightsError, match=r"no file .*nowhere\.pth"):
        metrics.find_weights(tmp_path / "nowhere.pth")
    cached = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    cached.parent.mkdir()
    cached.write_bytes(alexnet_weights.read_bytes())
    assert metrics.find_weights() == cached


def test_lpips_refuses_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")  # a pickled class is never executed
    for name in ("text.pth", "other.pth", "module.pth"):
        with pytest.raises(WeightsError, match=name) as error:
            LPIPS(tmp_path / name)
        assert "\n" not in str(error.value)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans(), st.integers(0, 2**31))
def test_best_of_n_does_not_depend_on_the_chunks(sizes: list[int], higher: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 3, (3, sum(sizes), 5), generator=generator).double()  # with ties
    best = BestOfN(higher)
    first = True
    for chunk in scores.split(sizes, dim=1):
        improved = best.update(chunk)
        assert improved.all() or not first
        first = False
    means = scores.mean(dim=-1).numpy() * (1 if higher else -1)
    wanted = means.argmax(axis=1)  # numpy: the first of equals
    np.testing.assert_array_equal(best.index.numpy(), wanted)
    np.testing.assert_array_equal(best.best.numpy(), scores.numpy()[range(3), wanted])
    torch.testing.assert_close(best.mean, scores.mean(dim=1))
    assert best.samples == sum(sizes)


def test_interval_over_clips() -> None:
    values = torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    mean, half = Interval.over_clips(values)
    assert mean.tolist() == [2.0, 4.0]
    assert half.tolist() == pytest.approx([1.96 * 2**0.5 / 2**0.5, 0.0])
    assert Interval.over_clips(values[:1]).half.isnan().all()
