"""Images as clip stores: scikit-learn's digits, torchvision's files, and what can't be had."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from data.clips import ClipStore, StoreError
from data.images import SOURCES, main, make, prepare
from data.staging import locked


def test_digits(tmp_path):
    command = [sys.executable, "-m", "data.images", "--name", "digits", "--out", str(tmp_path / "digits")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stores = {split: ClipStore(tmp_path / "digits" / split) for split in ("train", "val", "test")}
    assert {split: len(store) for split, store in stores.items()} == {"train": 1297, "val": 200, "test": 300}
    seen = np.concatenate([store.gather(range(len(store)), [0] * len(store), 1) for store in stores.values()])
    assert seen.shape == (1797, 1, 32, 32, 1) and seen.min() == 0 and seen.max() == 255
    labels = [stores["train"].array("label", clip)[0, 0] for clip in range(1297)]
    assert set(labels) == set(range(10)) and min(np.bincount(np.array(labels, int))) > 100
    for store in stores.values():
        store.verify()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert again.stderr.startswith("error: ") and "--overwrite" in again.stderr
    make("digits", tmp_path / "digits", size=28, overwrite=True)
    assert ClipStore(tmp_path / "digits" / "test").frame_shape == (28, 28, 1)


def write_mnist(folder, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
    (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels.tobytes())


@pytest.mark.parametrize("size", [None, 32])
def test_mnist_from_its_files(tmp_path, size):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5040, 28, 28), np.uint8), rng.integers(0, 10, 5040, np.uint8)
    for split, part in (("train", slice(5010)), ("t10k", slice(5010, None))):
        write_mnist(tmp_path / "MNIST" / "raw", split, images[part], labels[part])
    out = make("mnist", tmp_path / "mnist", size, tmp_path)
    for split, part in (("train", slice(10)), ("val", slice(10, 5010)), ("test", slice(5010, None))):
        store = ClipStore(out / split)
        assert len(store) == len(images[part]) and store.frame_shape == (size or 28, size or 28, 1)
        if size is None:
            assert np.array_equal(store.frames(3)[0, :, :, 0], images[part][3])
        assert store.array("label", 3) == labels[part][3]


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "digits"])
def test_what_cannot_be_downloaded_is_one_line(tmp_path, name, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(StoreError) as error:
        make(name, tmp_path / name, source=tmp_path / "files")
    assert "can't be downloaded" in str(error.value) and "--source" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / name).exists() and not list(tmp_path.glob(".*"))


def test_a_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="exists"):
        make("digits", tmp_path / "mine", overwrite=True)
    with pytest.raises(StoreError, match="--name digit is unknown: choose from digits, mnist"):
        make("digit", tmp_path / "new")


def test_celeba_is_cropped_to_its_centre():
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[39:179, 19:159] = 255
    assert prepare(Image.fromarray(pixels), 64, 3, crop=140).min() == 255
    assert prepare(Image.fromarray(pixels), 64, 1).shape == (64, 64, 1)


def mnist(folder, count: int = 5040) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
    for split in ("train", "t10k"):
        write_mnist(folder / "MNIST" / "raw", split, images, labels)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-1], "is damaged or truncated"),
        (lambda data: data[:6], "is damaged or truncated"),
        (lambda data: b"", "begins with another number"),
        (lambda data: b"\0\0\x0b" + data[3:], "begins with another number"),
        (lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], "is damaged or truncated"),
        (lambda data: data + b"\0", "is damaged or truncated"),
    ],
)
def test_damaged_mnist_is_named(tmp_path, capsys, name, damage, reason):
    mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    assert main(["--name", "mnist", "--out", str(tmp_path / "mnist"), "--source", str(tmp_path)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"error: {path} ") and reason in told
    assert not (tmp_path / "mnist").exists()


def test_labels_that_are_no_digits(tmp_path):
    mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x83")
    with pytest.raises(StoreError, match="t10k-labels-idx1-ubyte is damaged: it has labels above 9"):
        make("mnist", tmp_path / "mnist", source=tmp_path)


@pytest.mark.parametrize(
    "error", [EOFError("ended"), AssertionError(), KeyError("data"), zlib.error("bad"), MemoryError()]
)
def test_whatever_a_reader_raises_is_one_line(tmp_path, monkeypatch, error):
    def broken():
        raise error

    monkeypatch.setattr("sklearn.datasets.load_digits", broken)
    with pytest.raises(
        StoreError, match="scikit-learn's file of the digits cannot be read .*install scikit-learn again"
    ):
        make("digits", tmp_path / "digits")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_not_decoded(tmp_path):
    """Its header says how large it is."""
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    with Image.open(tmp_path / "bomb.png") as bomb:
        with pytest.raises(ValueError, match="12000x12000 pixels are more than"):
            prepare(bomb, 64, 3)


def test_two_makers_of_one_folder(tmp_path):
    """The second is refused, and the first goes on undisturbed."""
    command = [sys.executable, "-m", "data.images", "--name", "digits", "--out", str(tmp_path / "digits")]
    with locked(tmp_path / "digits"):
        second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2 and "is being written by another process: wait" in second.stderr
    pair = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 2], told
    for split in ("train", "val", "test"):
        ClipStore(tmp_path / "digits" / split).verify()
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
