"""Work on one clip after another, shared by processes, that goes on where it was interrupted.

B clips, T frames, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from svg.journal import Journal, Record

Work = Callable[[Tensor, Tensor, Callable[[int], object]], list[Record]]
"""uint8 frames (B, T, C, H, W) on the device, clip numbers (B,), and what to tell of futures that are done, to
records."""

GPU_FUTURES = 1024
"""Futures that a GPU has at once, as far as the memory budget allows."""


def each_clip(
    state: PartialState,
    clips: Sequence[int],
    read: Callable[[Sequence[int], int], Iterable[Mapping[str, Any]]],
    journal: Journal,
    title: str,
    work: Work,
    samples: int = 1,
) -> list[Record]:
    """A record of every clip: those that an interrupted evaluation left, and the others, which the processes share.

    Args:
        read: some clips and a batch size to batches of `frames` and `index`.
        title: what the progress bar says.
        samples: futures that `work` draws of a clip.
    """
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    if state.is_main_process and (kept := sum(clip in done for clip in clips)):
        tqdm.write(f"{title}: kept {kept} of {len(clips)} clips from before")
    size = 1 if state.device.type == "cpu" else max(1, GPU_FUTURES // samples)
    groups = [clips[first : first + size] for first in range(0, len(clips), size)]
    share = [clip for group in groups[state.process_index :: state.num_processes] for clip in group if clip not in done]
    hidden = None if state.is_main_process else True  # None: where nobody watches
    unit = "future" if samples > 1 else "clip"
    with tqdm(total=len(share) * samples, desc=title, unit=unit, disable=hidden) as bar:
        for batch in read(share, size):
            journal.append(work(batch["frames"].to(state.device), batch["index"], bar.update), state.process_index)
    state.wait_for_everyone()
    if state.is_main_process:
        journal.merge()
    state.wait_for_everyone()
    done = journal.records()
    return [done[clip] for clip in clips]
