"""Rollouts: against the per-frame loop, and that a future depends on its context, seed, clip id and sample number
alone."""

from __future__ import annotations

import pytest
import torch

from benchmarks.naive import NaiveSVG
from svg.models.base import evaluating
from svg.noise import Noise
from tests.helpers.models import frames, make


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backbone", ["vgg", "dcgan"])
@pytest.mark.parametrize("prior", ["learned", "fixed", "none"])
@pytest.mark.parametrize(
    ("skip_frame", "n_past"), [("last_context", 2), ("last_context", 1), ("published", 2), ("previous", 3)]
)
def test_equals_the_per_frame_loop(backbone, prior, skip_frame, n_past):
    model = make(backbone=backbone, prior=prior, skip_frame=skip_frame, n_past=n_past).eval().double()
    context = frames(model, batch=2, length=n_past).double() / 255
    horizon, samples = 4, 3
    ours = model.rollout(context, horizon, samples, seed=5)
    assert ours.shape == (2, samples, horizon, 3, 64, 64)
    assert 0 <= ours.min() and ours.max() <= 1
    for sample in range(samples):
        index = (torch.arange(2)[:, None], torch.tensor(sample), torch.arange(1, context.shape[1] + horizon))
        noise = Noise(5, index).child(0).normal(4).double()
        theirs = NaiveSVG(model).eval().rollout(context, horizon, noise)
        torch.testing.assert_close(ours[:, sample], theirs, rtol=0, atol=1e-9)


def test_depends_on_neither_chunks_nor_neighbours():
    model = make().eval()
    context = frames(model, batch=4, length=3)
    ids = torch.tensor([7, 3, 900_000, 0])
    whole = model.rollout(context, 5, 6, seed=1, clip_ids=ids)
    close(whole, model.rollout(context, 5, 6, seed=1, clip_ids=ids, memory=1e-9))  # one future at a time
    close(whole, model.rollout(context, 5, 6, seed=1, clip_ids=ids, memory=0.02))
    close(whole[2:3], model.rollout(context[2:3], 5, 6, seed=1, clip_ids=ids[2:3]))
    close(whole.flip(0), model.rollout(context.flip(0), 5, 6, seed=1, clip_ids=ids.flip(0)))
    close(whole[:, :2], model.rollout(context, 5, 2, seed=1, clip_ids=ids))
    close(whole[:, :, :3], model.rollout(context, 3, 6, seed=1, clip_ids=ids))


def test_chosen_samples_are_those_of_the_whole():
    model = make().eval()
    context = frames(model, batch=2, length=2)
    whole = model.rollout(context, 3, 6, seed=1)
    close(whole[:, [4, 0, 4]], model.rollout(context, 3, 3, seed=1, sample_ids=torch.tensor([4, 0, 4])))
    with pytest.raises(ValueError, match="sample_ids names 3 futures, but samples is 2"):
        model.rollout(context, 3, 2, sample_ids=torch.arange(3))


@pytest.mark.parametrize("memory", [2.0, 1e-9])
def test_every_distribution_is_watched(memory):
    model = make().eval()
    context = frames(model, batch=2, length=2)
    seen = torch.full((2, 3, 4, *context.shape[2:]), torch.nan)

    def watch(clips, samples, t, distribution):
        seen[clips, samples, t] = distribution.mean[:, 0].unflatten(0, seen[clips, samples, t].shape[:2])

    close(model.rollout(context, 4, 3, memory=memory, watch=watch), seen.clamp(0, 1))


def test_samples_clips_and_seeds_differ():
    model = make().eval()
    context = frames(model, batch=1).expand(2, -1, -1, -1, -1)[:, :2]
    futures = model.rollout(context, 3, 2)
    other = model.rollout(context, 3, 2, seed=1)
    flat = torch.cat((futures, other)).flatten(0, 1).flatten(1)
    distances = torch.cdist(flat, flat) + torch.eye(8) * 1e9
    assert distances.min() > 1e-2


def test_chunks_cover_everything_once():
    model = make().eval()
    context = frames(model, batch=3, length=2)
    seen = torch.zeros(3, 5)
    for chunk in model.iter_rollouts(context, 2, 5, memory=0.005):
        seen[chunk.clips, chunk.samples] += 1
        assert chunk.frames.shape[:3] == (*seen[chunk.clips, chunk.samples].shape, 2)
    assert (seen == 1).all()


def test_float_and_uint8_contexts_agree():
    model = make().eval()
    context = frames(model, length=2)
    assert torch.equal(model.rollout(context, 2), model.rollout(context.float() / 255, 2))


def test_stddev_and_draws():
    model = make("pixel_sigma").eval()
    context = frames(model, length=2)
    mean, stddev = model.rollout(context, 3, 2, stddev=True)
    assert stddev.shape == mean.shape and stddev.min() > 0
    close(mean, model.rollout(context, 3, 2))
    drawn = model.rollout(context, 3, 2, draw=True)
    assert 0 <= drawn.min() and drawn.max() <= 1
    assert (drawn - mean).abs().mean() > 1e-3
    close(drawn[1:], model.rollout(context[1:], 3, 2, draw=True, clip_ids=torch.tensor([1, 2]), memory=1e-9))


def test_reconstruction_uses_the_true_future():
    model = make(n_past=2).eval()
    video = frames(model)
    rebuilt = model.reconstruct(video, samples=2, seed=3)
    assert rebuilt.shape == (3, 2, 5, 3, 64, 64)
    changed = video.clone()
    changed[:, 5] = 255 - changed[:, 5]
    again = model.reconstruct(changed, samples=2, seed=3)
    close(rebuilt[:, :, :3], again[:, :, :3])  # frames 2..4 don't know frame 5
    assert (rebuilt[:, :, 3] - again[:, :, 3]).abs().max() > 1e-3
    # The first predicted frame of a teacher-forced pass with the same noise is the same.
    index = (torch.arange(3)[:, None], torch.tensor(0), torch.arange(1, 7))
    params = model(video, Noise(3, index).child(0).normal(4)).params
    close(rebuilt[:, 0, 0], model.likelihood.distribution(params).mean[:, 1].clamp(0, 1))


def test_mode_is_restored_and_statistics_kept():
    model = make().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    context = frames(model, length=2)
    running = model.rollout(context, 2)
    batch = model.rollout(context, 2, batch_statistics=True)
    assert model.training and model.encoder.stages[0][1].track_running_stats
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    assert (running - batch).abs().max() > 1e-3
    with evaluating(model):
        assert not model.training


def test_misuse_is_refused():
    model = make(n_past=3)
    with pytest.raises(ValueError, match="model.n_past=3"):
        model.rollout(frames(model, length=2), 2)
    with pytest.raises(ValueError, match="horizon"):
        model.rollout(frames(model, length=3), 0)
    with pytest.raises(ValueError, match="too few|leave none"):
        model.reconstruct(frames(model, length=3))
