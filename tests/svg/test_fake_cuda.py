"""Whatever runs on a GPU finds all its tensors there: training, rollouts, metrics and evaluation on one that isn't.

Of eight mistakes put into the code by hand it sees seven: zeros without a device and a scalar index on the CPU in a
head (logistic_mixture, scheduled_sigma), `.cpu()` forgotten before a histogram whose edges are on the CPU (conformal)
and one too many (a future's noise), a noise index without a device (Objective), a buffer of the average on the CPU, a
calibration left there. The eighth, training noise that goes over the CPU and back, is slow, but right: it is for
tests/svg/training/test_device_reads.py.

What a fake GPU (tests/helpers/fake_cuda.py) cannot show: numbers, memory, streams, cuDNN, mixed precision, processes.
"""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from svg import conformal, likelihoods
from svg.config import Config, EvalConfig, ModelConfig, ObjectiveConfig, TrainConfig
from svg.evaluation import calibrate, images, scores
from svg.evaluation.bounds import Bounds, clip_bounds, refit
from svg.evaluation.scores import Futures, clip_features, score_clips
from svg.likelihoods import dequantized_log_prob, discrete, logistic_mixture
from svg.likelihoods.pit import integral_transform
from svg.metrics import LPIPS, METRICS
from svg.metrics.fvd import VideoFeatures
from svg.metrics.i3d import I3D
from svg.models import samplers
from svg.models.calibrated import Calibration, SigmaMap, Tempering
from svg.models.svg_lp import SVG
from svg.noise import Noise
from svg.objective import REGISTRY, Objective, why_undefined
from svg.training import preview
from svg.training.learner import Learner
from svg.training.optim import Average, adam
from tests.helpers.fake_cuda import fake_cuda
from tests.helpers.models import frames as clips
from tests.helpers.models import images as pictures
from tests.helpers.models import make, vae

SCORES = {name: metric.score for name, metric in METRICS.items() if metric.score}
CUDA = torch.device("cuda", 0)
POSTERIORS = ("diagonal", "constant", "deterministic")
FUTURES = Futures(context=2, horizon=3, samples=2, seed=0)


@pytest.fixture
def cuda():
    with fake_cuda():
        yield


def on_cuda(*tensors: Tensor | None) -> bool:
    return all(tensor is None or tensor.device == CUDA for tensor in tensors)


def train(objective: Objective, x: Tensor) -> None:
    """A step of training: all terms and gradients are on the GPU."""
    loss, terms = objective(x.to(CUDA), torch.arange(len(x), device=CUDA), 3)
    assert on_cuda(loss, *terms.values())
    loss.backward()
    gradients = [parameter.grad for parameter in objective.parameters() if parameter.requires_grad]
    assert on_cuda(*gradients) and any(gradient is not None for gradient in gradients)


def calibration(horizon: int = 3, sigma_map: bool = True) -> Calibration:
    radii = {0.5: torch.ones(horizon)}
    made = SigmaMap(3).eval().requires_grad_(False) if sigma_map else None
    return Calibration(2, 2, torch.ones(horizon), tempering=Tempering(1.5, 0.3), sigma_map=made, radii=radii)


# --- the fake itself ---


def test_what_a_gpu_can_do_passes(cuda):
    x = torch.rand(3, 4, device=CUDA)
    assert on_cuda(x * torch.tensor(2.0), x[torch.arange(2)], x.to("cpu").to(CUDA), x.clone().copy_(torch.rand(3, 4)))
    assert x.cpu().numpy().shape == (3, 4) and isinstance(x.sum().item(), float) and bool(x.any())


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x, y: x + y,
        lambda x, y: torch.where(x > 0, x, y),
        lambda x, y: y[torch.arange(2, device=CUDA)],
        lambda x, y: x.gather(0, y.long()),
        lambda x, y: x.take(torch.tensor(0)),
        lambda x, y: torch.rand(2, device=CUDA, generator=torch.Generator()),
        lambda x, y: torch.cat((x, y)),
        lambda x, y: torch.stack((x.sum(), y.sum())),
        lambda x, y: torch._foreach_lerp_([y], [x], 0.5),
        lambda x, y: torch.bucketize(x, y[0]),
        lambda x, y: x.numpy(),
        lambda x, y: torch.nn.Linear(4, 2)(x),
    ],
)
def test_a_mistake_is_seen(cuda, mistake):
    with pytest.raises((RuntimeError, TypeError), match=r"device|indices"):
        mistake(torch.rand(3, 4, device=CUDA), torch.rand(3, 4))


# --- training ---


@pytest.mark.parametrize("name", likelihoods.REGISTRY)
def test_a_likelihood(name, monkeypatch):
    for module in (discrete, logistic_mixture):
        monkeypatch.setattr(module, "LEVELS", 3)  # turns of loops that are 256 times the same
    constant = "variance" in likelihoods.REGISTRY[name].needs
    choices = {"posterior": "constant", "prior": "learned_mean"} if constant else {}
    model = make(name, n_past=1, **choices).train()
    x = clips(model, 2, 3)
    with fake_cuda():
        train(Objective(model.to(CUDA), ObjectiveConfig()), x)
        model.eval()
        target = x[:, 1:].to(CUDA)
        noise = Noise(0, torch.meshgrid(*[torch.arange(2, device=CUDA)] * 2, indexing="ij"))
        law = model.likelihood.distribution(torch.rand(2, 2, model.likelihood.param_channels, 64, 64, device=CUDA))
        assert on_cuda(law.mean, law.mode, law.stddev, law.sample(noise), law.sample(), law.log_prob(target))
        assert on_cuda(dequantized_log_prob(law, target, noise), model.likelihood.sigma)
        if law.support != "binary":
            assert on_cuda(integral_transform(law, target, torch.rand(target.shape, device=CUDA)))


@pytest.mark.parametrize("name", REGISTRY)
def test_an_objective(name):
    posterior = next(
        p
        for p in POSTERIORS
        if why_undefined(ModelConfig(name="vae", backbone="conv", prior="fixed", posterior=p), name, "iso_d") is None
    )
    model = vae("iso_d", posterior=posterior).float().train()
    with fake_cuda():
        train(Objective(model.to(CUDA), ObjectiveConfig(name=name)), pictures(4))


@pytest.mark.parametrize(
    "choices",
    [
        {"prior": "mixture"},
        {"prior": "none"},
        {"prior": "fixed", "skip_frame": "previous"},
        {"prior": "learned_mean", "posterior": "constant", "objective": "bilbo"},
    ],
    ids=lambda choices: choices["prior"],
)
def test_a_prior_trains_and_predicts(choices):
    objective = choices.pop("objective", "elbo")
    model = make("optimal_sigma", **choices).train()
    x = clips(model, 2, 4)
    with fake_cuda():
        model.to(CUDA)
        train(Objective(model, ObjectiveConfig(name=objective)), x)
        assert on_cuda(model.rollout(x[:, :2], 2, samples=2))


def test_a_learner_goes_on():
    """Fused Adam, the average, and a checkpoint, which comes from a file: on the CPU."""
    model = make("two_stage_sigma").train()
    x = clips(model, 2, 3)
    with fake_cuda():
        objective = Objective(model.to(CUDA), ObjectiveConfig())
        learner = Learner(objective, adam(objective, TrainConfig()), Average(model, 0.9))
        assert learner.optimizer.param_groups[0]["fused"]
        for step in range(2):
            train(objective, x)
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            learner.optimizer.step()
            learner.average.update(step)
            learner.check(x.to(CUDA), torch.arange(2, device=CUDA), step + 1)
            saved = learner.checkpoint(step + 1, Config(), {"seconds": 0.0})
            assert on_cuda(*saved.weights.values(), *saved.training.values())
            for part in (saved.weights, saved.training):
                part.update({name: tensor.cpu() for name, tensor in part.items()})
            learner.restore(saved)
        model.likelihood.on_validation(10**6, 0.0)
        assert on_cuda(*learner.model.state_dict().values(), *objective.state_dict().values())


def test_scales_are_refitted():
    model = make("iso_d")
    x = clips(model, 2, 4)
    with fake_cuda(truth=False):  # "no frame was counted" is false
        model.to(CUDA)
        refit(model, Config(), [{"frames": x.to(CUDA), "index": torch.arange(2, device=CUDA)}])
        assert on_cuda(*model.state_dict().values())


# --- rollouts ---


@pytest.mark.parametrize(
    "options",
    [
        {"draw": True},
        {"stddev": True, "clip_ids": torch.tensor([3, 5]), "sample_ids": torch.tensor([1, 4])},
        {"batch_statistics": True},
        {"memory": 1e-6},
        {"calibrated": True, "stddev": True},
        {"calibrated": True, "interval": 0.5},
    ],
    ids="+".join,
)
def test_rollouts(options):
    model = make("optimal_sigma").eval()
    model.calibration = calibration()
    x = clips(model, 2, 2)
    with fake_cuda():
        found = model.to(CUDA).rollout(x, 3, samples=2, **options)
        parts = (found,) if isinstance(found, Tensor) else (*found[:2], *(found[2] if len(found) > 2 else ()))
        assert on_cuda(*parts)
        assert on_cuda(model.reconstruct(clips(model, 2, 4)))


# --- metrics ---


@pytest.mark.parametrize("name", METRICS)
def test_a_metric(name, tmp_path):
    if name == "lpips":
        state = torchvision.models.alexnet().features.state_dict()
        torch.save({f"features.{key}": value for key, value in state.items()}, tmp_path / "alexnet.pth")
    score = LPIPS(tmp_path / "alexnet.pth") if name == "lpips" else METRICS[name].score
    with fake_cuda():
        if name == "lpips":
            score.to(CUDA)
        prediction, truth = torch.rand(2, 3, 2, 3, 64, 64, device=CUDA), torch.rand(2, 2, 3, 64, 64, device=CUDA)
        assert on_cuda(score(prediction, truth), score(prediction[:, 0], truth), score(prediction, truth.cpu()))


def test_features_of_videos(cuda):
    extract = VideoFeatures(I3D().eval().requires_grad_(False).to(CUDA), "0" * 64, CUDA)
    assert on_cuda(extract(torch.zeros(2, 9, 3, 64, 64, dtype=torch.uint8)))


# --- evaluation ---


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("likelihood", ["optimal_sigma", "student_t"])
def test_clips_are_scored(likelihood, calibrated):
    model = make(likelihood).eval()
    model.calibration = calibration(sigma_map=likelihood == "optimal_sigma")
    x = clips(model, 2, 5)
    with fake_cuda():
        futures = Futures(2, 3, 2, seed=0, calibrated=calibrated)
        records = score_clips(model.to(CUDA), x.to(CUDA), torch.arange(2), futures, SCORES, calibrate=True)
        assert all({"psnr", "ensemble", "rollout"} <= record.keys() for record in records)
        assert all(("intervals" in record) == calibrated for record in records)


def test_clips_are_described_and_drawn():
    model = make().eval()
    x = clips(model, 2, 5)
    with fake_cuda():
        model.to(CUDA)
        found = clip_features(model, x.to(CUDA), torch.arange(2), FUTURES, lambda v: v.float().mean((1, 3, 4)), True)
        assert found[0]["shape"] == (3, 3)
        assert scores.drawn_arrays(model, x[0, :2].to(CUDA), 1, FUTURES)["futures"].shape == (2, 3, 64, 64, 3)


@pytest.mark.parametrize("prior", ["learned", "mixture", "none"])
def test_bounds_of_clips(prior):
    model = make("laplace" if prior == "none" else "optimal_sigma", prior=prior).eval()
    x = clips(model, 2, 4)
    with fake_cuda():
        found = clip_bounds(model.to(CUDA), x.to(CUDA), torch.arange(2), Bounds((3, 4), seed=0, importance=2))
        assert set(found[0]["iwae"]) == {"3", "4"} and len(found[0]["nll"]) == 3


@pytest.mark.parametrize("likelihood", ["optimal_sigma", "pixel_sigma"])
def test_a_calibration_is_fitted(likelihood, monkeypatch):
    for name, value in {"TAUS": (2.0,), "RHOS": (0.5,), "MAP_CLIPS": 2, "MAP_STEPS": 2, "MAP_BATCH": 2}.items():
        monkeypatch.setattr(calibrate, name, value)
    model = make(likelihood).eval()
    x = clips(model, 4, 5)

    def read(numbers):
        some = torch.tensor(list(numbers))
        yield {"frames": x[: len(some)], "index": some}

    with fake_cuda():
        fit = calibrate.Fit(read, range(4), read, 2, levels=(0.5,))
        model.calibration, _ = calibrate.calibrate(model.to(CUDA), FUTURES, fit)
        assert on_cuda(model.calibration.scale)
        assert len(model.calibration.digest) == 64
        assert on_cuda(model.rollout(x[:, :2], 3, samples=2, calibrated=True, interval=0.5)[0])


def test_intervals_around_anybodys_predictions(cuda):
    truth, mean, stddev = torch.rand(3, 5, 2, 3, 8, 8, device=CUDA)
    radii = conformal.fit(truth, mean, stddev, levels=[0.5])
    assert on_cuda(*conformal.interval(mean, stddev, radii[0.5]))
    assert on_cuda(conformal.covered(truth, mean, stddev, radii[0.5].to(CUDA)))


# --- images ---


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_the_image_vae():
    model = vae("optimal_sigma").float().eval()
    x = pictures(3)
    with fake_cuda():
        model.to(CUDA)
        assert on_cuda(model.sample(2), model.sample(2, draw=True), model.reconstruct(x.to(CUDA)))
        batches = [{"frames": x.to(CUDA), "index": torch.arange(3, device=CUDA)}]
        report, _ = images.evaluate(model, batches, batches, k=2, seed=0, wanted={"prior": {}})
        assert {"bits_per_dim", "neg_iwae", "neg_evidence"} <= report.images.keys() and "els" in report.latents


def test_previews(tmp_path):
    video, image = make().eval(), vae().float().eval()
    x, y = clips(video, 1, 4), pictures(2)
    with fake_cuda():
        preview.write_futures(tmp_path / "a.gif", video.to(CUDA), x.to(CUDA), torch.arange(1), EvalConfig(), 10)
        preview.write_images(tmp_path / "a.png", image.to(CUDA), y.to(CUDA), 0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("name", samplers.REGISTRY)
def test_a_sampler(name, kind):
    model = vae().float().eval() if kind == "image" else make(prior="fixed").eval()
    x = pictures(6) if kind == "image" else clips(model, 2, 4)
    options = {"gmm": {"components": 1, "draws": 8}, "second_stage": {"epochs": 1, "width": 8}}.get(name, {})
    with fake_cuda():
        latents = samplers.collect(model.to(CUDA), [x])
        sampler = samplers.build(name, model, latents, **options)
        assert sampler.sample(2).device.type == "cpu"
        if isinstance(model, SVG):
            assert on_cuda(model.rollout(x[:, :2], 2, samples=2, latents=sampler.draw))
