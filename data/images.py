"""Images as clips of length 1, for the image VAE: digits of scikit-learn (no download), and torchvision's data sets.

    python -m data.images --name digits --out datasets/digits
    python -m data.images --name mnist --out datasets/mnist [--size 32] [--source datasets/torchvision]

Writes the clip stores train, val and test: the last `VALIDATION` training images become val, except for CelebA, which
has its own. Labels, where there are any, are the per-frame array `label`.

N images, H W pixels, C channels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from data.clips import ClipWriter, StoreError
from data.files import naming
from data.program import Parser, folder, program
from data.ranges import refuse_outside
from data.staging import check_disk, staged

VALIDATION = 5000
"""Training images that become val."""
SPLITS = ("train", "val", "test")
MOST_PIXELS = 1 << 25
"""Largest image that is decoded (pixels); CelebA's have 38,804."""

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
        for path in (root / name / "raw").glob("*-ubyte"):
            check_idx(path)
        try:
            with _readable(f"the files of {name} below {root}", (RuntimeError, OSError, ImportError)):
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

        with _readable("scikit-learn's file of the digits", remedy="install scikit-learn again"):
            bunch = load_digits()
            if bunch.images.shape != (1797, 8, 8) or bunch.images.min() != 0 or bunch.images.max() != 16:
                raise ValueError(f"it has {bunch.images.shape} numbers")
        order = np.random.RandomState(0).permutation(len(bunch.images))
        part = order[:-300] if split == "train" else order[-300:]
        self.images = (bunch.images[part] * (255 / 16)).round().astype(np.uint8)
        self.labels = bunch.target[part]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Labelled:
        return Image.fromarray(self.images[position]), int(self.labels[position])


def check_idx(path: Path) -> None:
    """Looks at a file of MNIST's, which have no checksum: magic number, sides, size, and labels up to 9.

    Raises:
        StoreError: it is damaged.
    """
    with naming(path, "delete it, so that it is downloaded anew, or get it again"):
        data = path.read_bytes()
        kind = {(2051).to_bytes(4): 3, (2049).to_bytes(4): 1}.get(data[:4])
        if kind is None:
            raise ValueError("is damaged: it begins with another number than 2049 or 2051")
        start = 4 + 4 * kind
        sides = [int.from_bytes(data[at : at + 4]) for at in range(4, start, 4)]
        if len(data) != start + math.prod(sides) or sides[1:] not in ([], [28, 28]):
            raise ValueError(f"is damaged or truncated: {len(data):,} bytes are no array of {sides}")
        if kind == 1 and max(data[start:], default=0) > 9:
            raise ValueError("is damaged: it has labels above 9")


@contextmanager
def _readable(what: str, let: tuple[type[Exception], ...] = (), remedy: str = "get them again") -> Iterator[None]:
    """Makes a failure of somebody else's reader, which may be any exception, a `StoreError`; those in `let` pass."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, let):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise StoreError(f"{what} cannot be read ({reason}): {remedy}") from None


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
        ValueError: the folder exists or is being made, the name is unknown, the size is out of range, or the data
            can't be downloaded or read.
    """
    if name not in SOURCES:
        raise StoreError(f"--name {name} is unknown: choose from {', '.join(SOURCES)}")
    if size is not None:
        refuse_outside(size=size)
    out, side = Path(out), size or SOURCES[name].size
    with staged(out, SPLITS, 0, overwrite=overwrite, what="an image data set") as stage:
        for split in SPLITS:
            _write(name, Path(source or "datasets/torchvision"), split, stage / split, side)
    return out


def _write(name: str, root: Path, split: str, store: Path, side: int) -> None:
    of = SOURCES[name]
    images = of.open(root, "train" if split == "val" and of.validation else split)
    positions = range(len(images))
    if of.validation and split != "test":
        positions = positions[-of.validation :] if split == "val" else positions[: -of.validation]
    check_disk(store, len(positions) * side**2 * of.channels)
    with ClipWriter(
        store,
        frame_shape=(side, side, of.channels),
        fps=1,
        source=f"images: {name}",
        split=split,
        arrays={"label": 1} if of.labelled else {},
    ) as writer:
        for position in tqdm(positions, unit="image", desc=split):
            with _readable(f"image {position} of {name} ({split}) below {root}"):
                image, label = images[position]
                pixels = prepare(image, side, of.channels, of.crop)
            writer.append(pixels[None], **({"label": np.array([[label]])} if of.labelled else {}))


def prepare(image: Image.Image, size: int, channels: int, crop: int | None = None) -> NDArray[np.uint8]:
    """The central crop, resized (bilinear, with antialiasing where it shrinks): uint8 (size, size, C).

    Raises:
        ValueError: the image is too large, which is told from its header, before it is decoded.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS:,}")
    image = image.convert("L" if channels == 1 else "RGB")
    if crop is not None:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size, size, channels)


@program("data.images", interrupted="nothing was written")
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m data.images",
        description="Write a set of images as a data set of clips of length 1: train, val and test.",
    )
    add = parser.add_argument
    add("--name", required=True, metavar="NAME", help=", ".join(SOURCES))
    add("--out", type=folder, help="folder to make (datasets/NAME)")
    add("--size", type=int, help="height and width in pixels (the data set's own; digits 32, celeba 64)")
    add(
        "--source",
        type=folder,
        default="datasets/torchvision",
        help="where torchvision's files are, or are downloaded to",
    )
    add("--overwrite", action="store_true", help="replace a data set that is there")
    options = vars(parser.parse_args(arguments))
    options["out"] = options["out"] or f"datasets/{options['name']}"
    out = make(**options)
    print(f"{out}: clip stores {', '.join(SPLITS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
