"""What is measured of images, against closed forms: the rows of the table have one sign and one unit."""

from __future__ import annotations

import math

import pytest
import torch

from svg.evaluation.images import Report, measure_evidence, measure_images
from svg.report.tables import image_table
from tests.helpers.models import evidence, images, pca_model


@pytest.fixture(scope="module")
def exact():
    """PPCA whose encoder is the true posterior: its bounds are the log-likelihood."""
    model = pca_model()
    decoder = model.decoder[0]
    with torch.no_grad():  # orthogonal columns: the posterior is diagonal
        decoder.weight.copy_(torch.linalg.qr(decoder.weight)[0] * torch.tensor([3.0, 2.0, 1.0]).double())
        precision = (decoder.weight.T @ decoder.weight + 0.25 * torch.eye(3).double()) / 0.25
        model.mean.weight.copy_(torch.linalg.solve(precision, decoder.weight.T / 0.25))
        model.mean.bias.copy_(-model.mean.weight @ decoder.bias)
        model.logvar.weight.zero_()
        model.logvar.bias.copy_(-precision.diagonal().log())
    return model


def batches(frames: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    return [{"frames": frames, "index": torch.arange(len(frames))}]


def test_elbo_iwae_and_evidence_have_one_sign(exact):
    x = images(4)
    wanted = -evidence(exact, x).detach()
    found = measure_images(exact, batches(x), k=3, seed=0) | measure_evidence(exact, batches(x))
    torch.testing.assert_close(found["neg_iwae"], wanted, rtol=1e-8, atol=0)
    torch.testing.assert_close(found["neg_evidence"], wanted, rtol=1e-8, atol=0)
    torch.testing.assert_close(found["neg_elbo"], wanted, rtol=0.02, atol=0)
    bits = (wanted / 784 + math.log(255)) / math.log(2)  # sigma = .5 hardly varies within a level
    torch.testing.assert_close(found["iwae_bits_per_dim"], bits, rtol=0, atol=2e-3)
    torch.testing.assert_close(found["bits_per_dim"], bits, rtol=0, atol=0.02)


def test_the_labels_say_the_sign():
    entry = {"mean": 12.0, "half": 1.0}
    text = image_table(
        Report({"neg_elbo": entry, "neg_iwae": entry, "neg_evidence": entry}, {"active_units": 2.0}), k=20
    )
    assert [line.split("  ")[0] for line in text.splitlines()[:3]] == [
        "-ELBO (nats)",
        "-IWAE-20 (nats)",
        "-log p(x), linearised, of 64 images",
    ]
