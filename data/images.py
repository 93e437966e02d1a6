"""Images as clips of length 1, for the image VAE: digits of scikit-learn (no download), and torchvision's data sets.

    python -m data.images --name digits --out datasets/digits
    python -m data.images --name mnist --out datasets/mnist [--size 32] [--source datasets/torchvision]

Writes the clip stores train, val and test: the last `VALIDATION` training images become val, except for CelebA, which
has its own. Labels, where there are any, are the per-frame array `label`.

N images, H W pixels, C channels.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data.clips import ClipWriter, StoreError

VALIDATION = 5000
"""Training images that become val."""
SPLITS = ("train", "val", "test")

Labelled = tuple[Image.Image, int | None]


class Torchvision:
    """A data set of torchvision, downloaded into `root` unless its files are there.

    Args:
        name: its class in torchvision.datasets.
        split: train or test (or val, for CelebA).
    """

    def __init__(self, name: str, root: Path, split: str) -> None:
        from torchvision import datasets

        arguments: dict[str, Any] = {"split": split} if name == "SVHN" else {"train": split == "train"}
        if name == "CelebA":
            arguments = {"split": "valid" if split == "val" else split, "target_type": []}
        try:
            self.images = getattr(datasets, name)(root, download=True, **arguments)
        except (RuntimeError, OSError, ImportError) as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise StoreError(
                f"{name} can't be downloaded ({reason}): put its files below {root} as torchvision names them "
                f"(class {name}), or name the folder that has them by --source"
            ) from None
        self.labelled = name != "CelebA"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Labelled:
        image, label = self.images[position]
        return image, int(label) if self.labelled else None


class Digits:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels of 17 grey levels, in an order that mixes the writers."""

    def __init__(self, split: str) -> None:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        order = np.random.RandomState(0).permutation(len(bunch.images))
        part = order[:-300] if split == "train" else order[-300:]
        self.images = (bunch.images[part] * (255 / 16)).round().astype(np.uint8)
        self.labels = bunch.target[part]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Labelled:
        return Image.fromarray(self.images[position]), int(self.labels[position])


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    open: Callable[[Path, str], Torchvision | Digits]
    """Its images, of (source folder, split)."""
    size: int
    """Height and width to which images are resized by default."""
    channels: int
    crop: int | None = None
    """Height and width of the central part that is kept."""
    validation: int = VALIDATION
    """Last images of train that become val; 0 where the data set has a val of its own."""
    labelled: bool = True


def _torchvision(name: str) -> Callable[[Path, str], Torchvision]:
    return lambda root, split: Torchvision(name, root, split)


SOURCES = {
    "digits": Source(lambda root, split: Digits(split), 32, 1, validation=200),
    "mnist": Source(_torchvision("MNIST"), 28, 1),
    "fashion_mnist": Source(_torchvision("FashionMNIST"), 28, 1),
    "svhn": Source(_torchvision("SVHN"), 32, 3),
    "cifar10": Source(_torchvision("CIFAR10"), 32, 3),
    # AR-ELBO, appendix J.2: the central 140x140 pixels, resized to 64x64.
    "celeba": Source(_torchvision("CelebA"), 64, 3, crop=140, validation=0, labelled=False),
}


def make(name: str, out: Path | str, size: int | None = None, source: Path | str = "", overwrite: bool = False) -> Path:
    """Writes a data set's stores; the folder appears when all of them are whole.

    Args:
        name: a key of `SOURCES`.
        out: the folder to make.
        size: height and width (pixels), by default the data set's own.
        source: where torchvision's files are, or are downloaded to.
        overwrite: replace a data set that is there.

    Raises:
        StoreError: the folder exists, the name is unknown, or the data can't be downloaded.
    """
    if name not in SOURCES:
        raise StoreError(f"--name {name} is unknown: choose from {', '.join(SOURCES)}")
    if size is not None and size < 1:
        raise StoreError(f"--size is {size}, but must be at least 1")
    out = Path(out)
    if out.exists() and (not overwrite or not out.is_dir() or {path.name for path in out.iterdir()} - {*SPLITS}):
        raise StoreError(f"{out} exists: choose another folder, or --overwrite to replace an image data set")
    stage = out.with_name(f".{out.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        for split in SPLITS:
            _write(name, Path(source or "datasets/torchvision"), split, stage / split, size)
        if out.exists():
            shutil.rmtree(out)
        stage.rename(out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return out


def _write(name: str, root: Path, split: str, folder: Path, size: int | None) -> None:
    of = SOURCES[name]
    images = of.open(root, "train" if split == "val" and of.validation else split)
    positions = range(len(images))
    if of.validation and split != "test":
        positions = positions[-of.validation :] if split == "val" else positions[: -of.validation]
    side = size or of.size
    with ClipWriter(
        folder,
        frame_shape=(side, side, of.channels),
        fps=1,
        source=f"images: {name}",
        split=split,
        arrays={"label": 1} if of.labelled else {},
    ) as writer:
        for image, label in tqdm(_select(images, positions), total=len(positions), unit="image", desc=split):
            arrays = {"label": np.array([[label]])} if of.labelled else {}
            writer.append(prepare(image, side, of.channels, of.crop)[None], **arrays)


def _select(images: Torchvision | Digits, positions: range) -> Iterator[Labelled]:
    return (images[position] for position in positions)


def prepare(image: Image.Image, size: int, channels: int, crop: int | None = None) -> NDArray[np.uint8]:
    """The central crop, resized (bilinear, with antialiasing where it shrinks): uint8 (size, size, C)."""
    image = image.convert("L" if channels == 1 else "RGB")
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.images",
        description="Write a set of images as a data set of clips of length 1: train, val and test.",
    )
    add = parser.add_argument
    add("--name", required=True, metavar="NAME", help=", ".join(SOURCES))
    add("--out", help="folder to make (datasets/NAME)")
    add("--size", type=int, help="height and width in pixels (the data set's own; digits 32, celeba 64)")
    add("--source", default="datasets/torchvision", help="where torchvision's files are, or are downloaded to")
    add("--overwrite", action="store_true", help="replace a data set that is there")
    options = vars(parser.parse_args(arguments))
    options["out"] = options["out"] or f"datasets/{options['name']}"
    try:
        out = make(**options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130
    print(f"{out}: clip stores {', '.join(SPLITS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
