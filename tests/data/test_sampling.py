"""Sampling: the order is a pure function of seed and index, and every window is as likely as any other."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data.clips import ClipStore, ClipWriter, StoreError
from data.sampling import Windows, batches, first_frames, loader
from data.workers import WorkerError

ROOT = Path(__file__).parents[2]
LENGTHS = (5, 2, 9, 4, 7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """Frames of 4x6 pixels whose first two values are clip and frame."""
    folder = tmp_path_factory.mktemp("sampling") / "train"
    rng = np.random.default_rng(0)
    with ClipWriter(folder, frame_shape=(4, 6, 3), fps=10, source="test", split="train") as writer:
        for clip, length in enumerate(LENGTHS):
            frames = rng.integers(0, 256, (length, 4, 6, 3), np.uint8)
            frames[:, 0, 0, 0], frames[:, 0, 0, 1] = clip, np.arange(length)
            writer.append(frames)
    return ClipStore(folder)


def test_a_window_is_what_the_store_holds(store: ClipStore) -> None:
    windows = Windows(store, 4, seed=3)
    clips, starts = windows.draw(range(50))
    for index, clip, start in zip(range(50), clips.tolist(), starts.tolist(), strict=True):
        item = windows[index]
        assert item["index"] == index and item["frames"].dtype == torch.uint8
        np.testing.assert_array_equal(item["frames"].permute(0, 2, 3, 1), store.frames(clip, start, 4))


def test_a_batch_is_its_items_in_channels_last_memory(store: ClipStore) -> None:
    windows = Windows(store, 3, seed=1)
    batch = windows.__getitems__([7, 0, 12])
    assert batch["index"].tolist() == [7, 0, 12]
    assert batch["frames"].shape == (3, 3, 3, 4, 6) and batch["frames"].permute(0, 1, 3, 4, 2).is_contiguous()
    for frames, index in zip(batch["frames"], (7, 0, 12), strict=True):
        assert torch.equal(frames, windows[index]["frames"])


def test_the_order_is_fixed_for_good(store: ClipStore) -> None:
    """A resumed run under a later version must see the same clips."""
    clips, starts = Windows(store, 3, seed=5).draw([0, 1, 2, 10**6, 10**12])
    assert list(zip(clips.tolist(), starts.tolist(), strict=True)) == [(0, 1), (2, 4), (2, 5), (0, 0), (2, 0)]


def test_seeds_and_indices_differ(store: ClipStore) -> None:
    drawn = [tuple(Windows(store, 2, seed).draw(range(40))[1].tolist()) for seed in range(20)]
    assert len(set(drawn)) == 20


def test_every_window_is_equally_likely(store: ClipStore) -> None:
    """Chi-square over all windows; clips too short for one are never drawn."""
    clips, starts = Windows(store, 4, seed=0).draw(range(14_000))
    windows = [(clip, start) for clip, length in enumerate(LENGTHS) for start in range(length - 4 + 1)]
    drawn = list(zip(clips.tolist(), starts.tolist(), strict=True))
    assert set(drawn) == set(windows) and len(windows) == 13
    assert stats.chisquare([drawn.count(window) for window in windows]).pvalue > 1e-3


def test_no_clip_is_long_enough(store: ClipStore) -> None:
    with pytest.raises(StoreError, match=r"data\.frames is 10, but the longest clip of .* has 9"):
        Windows(store, 10, seed=0)


@given(st.integers(0, 5), st.integers(0, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_the_global_batch_is_the_same_however_it_is_shared(
    start: int, more: int, accumulate: int, processes: int, each: int
) -> None:
    size = accumulate * processes * each
    shares = [list(batches(start, start + more, size, accumulate, rank, processes)) for rank in range(processes)]
    assert all(len(share) == more * accumulate for share in shares)
    together = [index for micro in zip(*shares, strict=True) for part in micro for index in part]
    assert together == list(range(start * size, (start + more) * size))


def test_an_uneven_batch_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"train\.batch_size is 10.*train\.accumulate 2.*multiple of 6"):
        batches(0, 1, 10, accumulate=2, processes=3)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(store: ClipStore, workers: int) -> None:
    windows = Windows(store, 3, seed=2)
    before = torch.get_rng_state()
    loaded = list(loader(windows, batches(4, 9, 6), workers))
    assert torch.equal(before, torch.get_rng_state())
    assert [batch["index"].tolist() for batch in loaded] == list(batches(4, 9, 6))
    for batch in loaded:
        assert torch.equal(batch["frames"], windows.__getitems__(batch["index"].tolist())["frames"])
        assert batch["frames"].permute(0, 1, 3, 4, 2).is_contiguous()


def test_a_worker_loads_little(store: ClipStore) -> None:
    """Neither torch nor the main program; what it has to be told is small."""
    with loader(Windows(store, 3, seed=2), batches(0, 2, 4), workers=1) as loading:
        next(loading)
        (worker,) = loading._workers
        assert psutil.Process(worker.process.pid).memory_info().rss < 150 << 20
        if sys.platform == "linux":
            assert "torch" not in Path(f"/proc/{worker.process.pid}/maps").read_text()


def test_signals_to_the_process_group_reach_only_the_main_process(store: ClipStore) -> None:
    """Ctrl-C and SLURM's SIGTERM go to all processes; the loader must survive so that the run can save."""
    script = f"""
        import os, signal
        from data.clips import ClipStore
        from data.sampling import Windows, batches, loader
        caught = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: caught.append(number))
        loading = loader(Windows(ClipStore({str(store.folder)!r}), 3, 0), batches(0, 40, 2), workers=2)
        next(loading), next(loading)  # from either worker
        os.killpg(0, signal.SIGINT)
        os.killpg(0, signal.SIGTERM)
        assert len(list(loading)) == 38 and set(caught) == {{signal.SIGINT, signal.SIGTERM}}
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=ROOT, start_new_session=True, timeout=120
    )


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_closing_ends_the_workers(store: ClipStore) -> None:
    """By the context manager, whatever happens in it; by the end of the order; when the loader is forgotten."""
    windows, others = Windows(store, 3, 0), set(psutil.Process().children())  # multiprocessing's tracker is one

    def children() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child not in others]

    with pytest.raises(KeyError), loader(windows, batches(0, 1000, 2), 2) as loading:
        next(loading)
        first = children()
        raise KeyError
    assert not list(loading)
    loading.close()
    exhausted = loader(windows, batches(0, 3, 2), 2)
    second = children()
    list(exhausted)
    forgotten = loader(windows, batches(0, 1000, 2), 2)
    third = children()
    next(forgotten)
    del forgotten
    assert len(first) == len(second) == len(third) == 2 and ended(first + second + third)


@pytest.mark.parametrize("busy", [True, False])
def test_a_killed_worker_is_one_error(store: ClipStore, busy: bool) -> None:
    """Soon, whether it was reading or waiting."""
    loading = loader(Windows(store, 3, 0), batches(0, 10**6, 2), 2)
    next(loading)
    if not busy:
        time.sleep(1)
    begun = time.monotonic()
    loading._workers[1].process.kill()
    with pytest.raises(
        WorkerError, match=r"a loader worker was killed: probably the memory is full; lower data\.workers"
    ):
        for _ in loading:
            pass
    assert time.monotonic() - begun < 30
    workers = [psutil.Process(worker.process.pid) for worker in loading._workers[:1]]
    loading.close()
    assert ended(workers)


def test_what_a_worker_cannot_read_is_told(store: ClipStore, tmp_path: Path) -> None:
    shutil.copytree(store.folder, tmp_path / "train")
    windows = Windows(ClipStore(tmp_path / "train"), 3, 0)
    (tmp_path / "train" / "lengths.npy").write_bytes(bytes((tmp_path / "train" / "lengths.npy").stat().st_size))
    with pytest.raises(StoreError, match=r"lengths\.npy differs from its checksum"):
        list(loader(windows, batches(0, 3, 2), 1))


ABANDONED = """
import os, signal, sys
from data.clips import ClipStore
from data.sampling import Windows, batches, loader
loading = loader(Windows(ClipStore(sys.argv[1]), 3, 0), batches(0, 10**6, 2), workers=2)
next(loading)
print(*(worker.process.pid for worker in loading._workers), flush=True)
if sys.argv[2] == "error": raise KeyError("in a step")
if sys.argv[2] == "exit": sys.exit(3)
if sys.argv[2] == "abrupt": os._exit(3)
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.mark.parametrize("how", ["error", "exit", "abrupt", "SIGKILL", "SIGTERM"])
def test_workers_end_with_their_parent(store: ClipStore, how: str) -> None:
    """However it ends, and it does end, without anybody closing the loader."""
    command = [sys.executable, "-c", ABANDONED, str(store.folder), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == {"error": 1, "exit": 3, "abrupt": 3, "SIGKILL": -9, "SIGTERM": -15}[how]
    workers = [psutil.Process(int(pid)) for pid in done.stdout.split() if psutil.pid_exists(int(pid))]
    assert len(done.stdout.split()) == 2 and ended(workers)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_first_frames_gives_each_clip_once(store: ClipStore, processes: int) -> None:
    clips = [4, 0, 3, 2]
    seen = []
    for rank in range(processes):
        for batch in first_frames(store, clips, 4, 2, rank, processes):
            assert 1 <= len(batch["index"]) <= 2
            for clip, frames in zip(batch["index"].tolist(), batch["frames"], strict=True):
                np.testing.assert_array_equal(frames.permute(0, 2, 3, 1), store.frames(clip, 0, 4))
                seen.append(clip)
    assert sorted(seen) == sorted(clips)
    assert processes > 1 or seen == clips


def test_first_frames_of_short_and_missing_clips(store: ClipStore) -> None:
    with pytest.raises(StoreError, match=r"clip 1 of .* has 2 frames, but 4 are needed .*eval\.horizon"):
        first_frames(store, range(len(store)), 4, 2)
    with pytest.raises(StoreError, match="has clips 0 to 4, not 5"):
        first_frames(store, [5], 4, 2)
