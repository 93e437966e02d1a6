"""FID against torch-fidelity's own distance; Inception comes from local files alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from svg.metrics import WeightsError
from svg.metrics.fid import ImageFeatures, fid

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception's smallest input, for speed."""
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Inception's state dict."""
    return random_inception(tmp_path_factory.mktemp("inception") / "inception.pth")


def random_inception(path: Path) -> Path:
    """Writes weights under which the features keep their scale."""

    class Random(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__) -> None:  # type: ignore[override]
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)

    empty = path.with_name("empty.pth")
    torch.save({}, empty)
    torch.manual_seed(0)
    torch.save(Random("random", ["2048"], feature_extractor_weights_path=str(empty)).state_dict(), path)
    return path


def noise(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 32, 32), generator=generator).to(torch.uint8)


def test_features_are_the_librarys(weights: Path) -> None:
    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    extract = ImageFeatures(weights, CPU)
    assert torch.equal(torch.rand(2), drawn)  # loading leaves the caller's random numbers alone
    assert extract.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest() and not extract.published
    library = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    images = noise(3)
    found, (wanted,) = extract(images), library(images)
    assert found.shape == (3, 2048) and found.std(0).max() > 1e-3
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(extract((images.float() + 0.4) / 255), wanted)  # rounded to bytes
    grey = noise(2, channels=1)
    torch.testing.assert_close(extract(grey), extract(grey.expand(-1, 3, -1, -1)))
    videos = noise(4).unflatten(0, (2, 2))
    torch.testing.assert_close(extract.of_videos(videos).view(4, 2048), extract(videos.flatten(0, 1)))
    with pytest.raises(ValueError, match="1 or 3 channels, not 4"):
        extract(noise(1, channels=4))


def test_distance_is_the_librarys(weights: Path) -> None:
    extract = ImageFeatures(weights, CPU)
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    real = torch.randn(300, 40, generator=generator, dtype=torch.float64)
    fake = torch.randn(400, 40, generator=generator, dtype=torch.float64) @ mix + 0.3
    result = fid(real, fake, extract)
    statistics = (fid_features_to_statistics(features) for features in (real, fake))
    wanted = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert result.value == pytest.approx(wanted, rel=1e-8)
    assert fid(real, real, extract).value == pytest.approx(0, abs=1e-8)
    for part in ("N = 300 true and 400 predicted", extract.sha256[:8], "not the published weights", "singular"):
        assert part in str(result)
    with pytest.raises(ValueError, match="at least 256 images, not 255: raise eval.clips"):
        fid(real[:255], fake, extract)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file .*nowhere\.pth; get them once with: .* --eval.fid_weights PATH"):
        ImageFeatures(tmp_path / "nowhere.pth", CPU)
    (tmp_path / "text.pth").write_text("not weights")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")  # a pickled class is never executed
    for name in ("text.pth", "other.pth", "module.pth"):
        with pytest.raises(WeightsError, match=name) as error:
            ImageFeatures(tmp_path / name, CPU)
        assert "\n" not in str(error.value)
