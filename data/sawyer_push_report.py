"""What happens in the clips of a simulated Sawyer store, by the arrays that it keeps."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from data.clips import ClipStore, StoreError, stores
from data.sawyer_push_rules import ABSENT, ARRAYS, FASTEST, MOVED, SLOTS, flies, in_view, leaves, moves


def shares(store: ClipStore) -> dict[str, float]:
    """Shares, 0 to 1, over the clips of a store: `moved`, a toy moves by more than MOVED; `out`, a toy leaves the bin;
    `flying`, a toy is faster than FASTEST; and over its frames: `view`, the finger tips are in the picture. Also
    `toys`, the mean number of toys; `path`, the mean length of the hand's path in a clip (m); and `travel`, how far the
    toy that moves most moves, in the median clip (m).

    Raises:
        StoreError: the store lacks an array that this program keeps.
    """
    if missing := [name for name in ARRAYS if store.arrays.get(name) != ARRAYS[name]]:
        raise StoreError(
            f"{store.folder} has no {', '.join(missing)} of data.sawyer_push: only stores that it made are reported on"
        )
    rows = []
    for clip in range(len(store)):
        toys = store.array("toy_pos", clip).reshape(-1, SLOTS, 3)
        hand, pixels = store.array("endeffector_pos", clip), store.array("gripper_pixel", clip)
        rows.append(
            {
                "moved": moves(toys),
                "out": leaves(toys),
                "flying": flies(toys),
                "view": int(in_view(pixels).sum()),
                "toys": int((toys[0, :, 2] > ABSENT[2] / 2).sum()),
                "path": float(np.linalg.norm(np.diff(hand, axis=0), axis=-1).sum()),
                "travel": float(np.linalg.norm(toys - toys[:1], axis=-1).max()),
            }
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    means["view"] = sum(row["view"] for row in rows) / float(store.lengths.sum())
    means["travel"] = float(np.median([row["travel"] for row in rows]))
    return means


def report(folder: str | os.PathLike[str]) -> str:
    """The shares of a store, or of each store of a data set, and what made it, as text.

    Raises:
        StoreError: there is none, it is damaged, or it lacks the arrays.
    """
    lines = []
    for store in stores(folder):
        share, details = shares(store), dict(store.manifest["details"])
        lines += [
            f"{store.folder}: {len(store):,} clips, {share['toys']:.1f} toys a clip",
            f"  a toy moves more than {100 * MOVED:.0f} cm      {share['moved']:7.2%} of clips "
            f"(median of the farthest: {100 * share['travel']:.1f} cm)",
            f"  the gripper is in view         {share['view']:7.2%} of frames (its path: {share['path']:.2f} m a clip)",
            f"  a toy leaves the bin           {share['out']:7.2%} of clips",
            f"  a toy is faster than {FASTEST} m/s   {share['flying']:7.2%} of clips",
        ]
        if isinstance(details.get("takes"), int):
            lines.append(f"  takes drawn a clip             {details['takes'] / len(store):7.2f}")
        lines += dict.fromkeys(f"  {_made_by(origin)}" for origin in _origins(details))
    return "\n".join(lines)


def _origins(details: Any) -> list[dict[str, Any]]:
    """The details of the stores that a store was merged or split from, or its own."""
    parts = details.get("merged") or [details.get("split_of")]
    found = [part.get("details") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [origin for origin in found if isinstance(origin, dict)] or [details]


def _made_by(details: dict[str, Any]) -> str:
    """Engine, renderer and assets, as a manifest's details name them."""
    assets = str(details.get("assets", "unknown assets")).partition(",")[0]
    return f"{details.get('engine', 'unknown engine')}; {details.get('renderer', 'unknown renderer')}; {assets}"
