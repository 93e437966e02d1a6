"""The kinds of files that the programs of data/ read, for fuzz.py."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import torchvision.datasets  # noqa: F401 (loaded before the forks)
from PIL import Image

from data import bair, clips, images, sawyer_push
from data.clips import ClipStore, ClipWriter
from data.tfrecord import encode_example, write_record
from tests.faults.damage import TEXT
from tests.faults.fuzz import Kind


def make_store(folder: Path) -> None:
    """A clip store `train` with clips of 1 to 3 frames and an array."""
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"frame_shape": (4, 4, 3), "fps": 10, "source": "a test", "split": "train"}
    with ClipWriter(folder / "train", **settings, arrays={"actions": 2}, details={"seed": 3}) as writer:
        for length in (1, 2, 3, 2):
            writer.append(rng.integers(0, 256, (length, 4, 4, 3), np.uint8), actions=rng.normal(size=(length, 2)))


def look(folder: Path) -> int:
    """data.clips info, then every clip, as training reads them."""
    code = clips.main(["info", str(folder / "train")])
    return code or clips.main(["verify", str(folder / "train")])


def store_contents(folder: Path) -> object:
    """What a store holds."""
    store = ClipStore(folder / "train")
    parts = [store.frames(clip).tobytes() + store.array("actions", clip).tobytes() for clip in range(len(store))]
    return store.frame_shape, store.fps, store.split, store.manifest["details"], parts


def record(number: int) -> bytes:
    """A record as BAIR has it, of 3 frames of 4x4 pixels."""
    rng = np.random.default_rng(number)
    features: dict[str, Any] = {}
    for t in range(3):
        for camera in bair.CAMERAS:
            features[f"{t}/{camera}/encoded"] = rng.bytes(48)
        features[f"{t}/action"] = rng.normal(size=4).astype(np.float32)
        features[f"{t}/endeffector_pos"] = rng.normal(size=3).astype(np.float32)
    return encode_example(features)


def record_files() -> dict[str, bytes]:
    """A small data set in BAIR's layout."""
    files, begun = {}, 0
    for name in ("train/traj_0_to_2", "train/traj_256_to_257", "train/traj_512_to_513", "test/traj_0_to_1"):
        first, last = (int(text) for text in name.split("traj_")[1].split("_to_"))
        file = io.BytesIO()
        for number in range(begun, begun + last - first + 1):
            write_record(file, record(number))
        begun = number + 1
        files[f"softmotion30_44k/{name}.tfrecords"] = file.getvalue()
    return files


def make_records(folder: Path) -> None:
    """The data set as a folder `raw`."""
    for name, data in record_files().items():
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def make_tar(folder: Path) -> None:
    """The data set as `raw.tar`."""
    with tarfile.open(folder / "raw.tar", "w") as tar:
        for name, data in record_files().items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 0.5  # a fraction needs a pax header
            tar.addfile(member, io.BytesIO(data))


def make_interrupted(folder: Path) -> None:
    """The data set as a folder, and a conversion that was interrupted after a checkpoint."""
    make_records(folder)
    checkpoint, bair.CHECKPOINT = bair.CHECKPOINT, 1
    finish = ClipWriter._finish

    def interrupt(writer: ClipWriter) -> None:
        raise KeyboardInterrupt

    ClipWriter._finish = interrupt  # type: ignore[method-assign]
    try:
        bair.convert(folder / "raw", folder / "out")
    except KeyboardInterrupt:
        pass
    finally:
        ClipWriter._finish, bair.CHECKPOINT = finish, checkpoint  # type: ignore[method-assign]


def convert(source: str) -> Callable[[Path], int]:
    """data.bair on that source."""
    return lambda folder: bair.main(["--source", str(folder / source), "--out", str(folder / "out"), "--workers", "1"])


def digests(name: str) -> Callable[[Path], object]:
    """SHA-256 of all files of a data set."""

    def result(folder: Path) -> object:
        paths = [path for path in (folder / name).rglob("*") if path.is_file()]
        return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    return result


def make_mnist(folder: Path) -> None:
    """MNIST's four files, with a few images."""
    raw = folder / "files" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "t10k"):
        count = 5 if split == "train" else 3
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8).tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels)
        labels = rng.integers(0, 10, count, np.uint8).tobytes()
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels)


def write_mnist(folder: Path) -> int:
    """data.images on them."""
    images.SOURCES["mnist"] = replace(images.SOURCES["mnist"], validation=2)
    return images.main(["--name", "mnist", "--source", str(folder / "files"), "--out", str(folder / "out")])


class Pictures:
    """Image files of the current folder, read as torchvision reads CelebA's."""

    def __init__(self, root: Path, split: str) -> None:
        self.paths = sorted(Path("files").glob(f"{split}-*"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Image.Image, None]:
        return Image.open(self.paths[position]), None


def make_pictures(suffix: str) -> Callable[[Path], None]:
    """Two images a split."""

    def make(folder: Path) -> None:
        (folder / "files").mkdir()
        rng = np.random.default_rng(0)
        for split in images.SPLITS:
            for number in range(2):
                pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "files" / f"{split}-{number}.{suffix}")

    return make


def write_pictures(folder: Path) -> int:
    """data.images on a data set of those files."""
    images.SOURCES["pictures"] = images.Source(Pictures, 16, 3, validation=0, labelled=False)  # type: ignore[arg-type]
    return images.main(["--name", "pictures", "--out", str(folder / "out")])


def make_digits(folder: Path) -> None:
    """scikit-learn's file of the digits."""
    source = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    (folder / "digits.csv.gz").write_bytes(source.read_bytes())


def write_digits(folder: Path) -> int:
    """data.images on that file."""

    def load(*_: object, **__: object) -> tuple[np.ndarray, str]:
        with gzip.open(folder / "digits.csv.gz", "rt", encoding="utf-8") as file:
            return np.loadtxt(file, delimiter=","), ""

    sklearn.datasets._base.load_gzip_compressed_csv_data = load
    return images.main(["--name", "digits", "--out", str(folder / "out")])


def sawyer(folder: Path) -> int:
    """data.sawyer_push in BAIR's layout; once its files are there, it reads the note beside them."""
    sizes = ["--clips", "2", "--test-clips", "1", "--frames", "2", "--workers", "1"]
    return sawyer_push.main(["--out", str(folder / "out"), "--tfrecords", *sizes])


_PICTURE = r"image 1 of .*\(train\)"

KINDS = {
    "manifest": Kind(make_store, "train/manifest.json", look, store_contents, checked=False, damages=TEXT),
    "frames.npy": Kind(make_store, "train/frames.npy", look, store_contents, checked=True),
    "starts.npy": Kind(make_store, "train/starts.npy", look, store_contents, checked=True),
    "lengths.npy": Kind(make_store, "train/lengths.npy", look, store_contents, checked=True),
    "array.npy": Kind(make_store, "train/actions.npy", look, store_contents, checked=True),
    "tar": Kind(make_tar, "raw.tar", convert("raw.tar"), digests("out"), True, names=r"raw\.tar|traj_\d+_to_\d+"),
    "tfrecord": Kind(
        make_records, "raw/softmotion30_44k/train/traj_0_to_2.tfrecords", convert("raw"), digests("out"), True
    ),
    "journal": Kind(
        make_interrupted, "out/.train.partial/journal.jsonl", convert("raw"), digests("out"), True, damages=TEXT
    ),
    "interrupted-frames": Kind(
        make_interrupted, "out/.train.partial/frames.npy", convert("raw"), digests("out"), checked=True
    ),
    "sawyer-note": Kind(
        sawyer,
        "out/sawyer_push.json",
        sawyer,
        digests("out"),
        checked=False,
        damages=TEXT,
        names=r"sawyer_push\.json|/out is there, with another",
    ),
    "mnist-images": Kind(
        make_mnist, "files/MNIST/raw/train-images-idx3-ubyte", write_mnist, digests("out"), False, names="MNIST/raw/"
    ),
    "mnist-labels": Kind(
        make_mnist, "files/MNIST/raw/t10k-labels-idx1-ubyte", write_mnist, digests("out"), False, names="MNIST/raw/"
    ),
    "png": Kind(make_pictures("png"), "files/train-1.png", write_pictures, digests("out"), False, names=_PICTURE),
    "jpeg": Kind(make_pictures("jpg"), "files/train-1.jpg", write_pictures, digests("out"), False, names=_PICTURE),
    "digits": Kind(make_digits, "digits.csv.gz", write_digits, digests("out"), True, names="file of the digits"),
}
