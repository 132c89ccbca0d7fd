"""Sets of torchvision, from files as their makers publish them."""

import struct
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from ptft import resolve
from ptft.choices import config_dir
from ptft.data.torchvision_sets import SOURCES
from ptft.errors import DataError, MachineError, UserError
from ptft.locate import read_yaml

CHANCE = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
CONFIGS = config_dir() / "dataset"


def dataset(option, root, **changes):
    node = read_yaml(CONFIGS / "mnist.yaml") | read_yaml(CONFIGS / f"{option}.yaml") | {"root": root and str(root), **changes}
    node.pop("defaults")
    return resolve.resolve("dataset", node, {"inputs": None})


def prepared(name, root, target="class", **changes):
    found = dataset(name, root, **changes)
    found.prepare(target=target)
    return found


def idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def written(folder, mark, sizes, images, labels):
    for part, size in sizes.items():
        idx(folder / f"{mark}{part}-images-idx3-ubyte", images[:size])
        idx(folder / f"{mark}{part}-labels-idx1-ubyte", labels[:size])


IMAGES = CHANCE.integers(0, 256, (200, 28, 28), dtype=np.uint8)
DIGITS = np.arange(200) % 10


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_sets_like_mnist_keep_their_test_split_and_hold_out_of_the_rest(name, kind, tmp_path):
    written(tmp_path / kind / "raw", "", {"train": 200, "t10k": 50}, IMAGES, DIGITS)
    found = prepared(name, tmp_path)
    assert [len(found.rows(split)) for split in SPLITS] == [180, 20, 50]
    for number in (0, 7, 49):
        np.testing.assert_array_equal(found.rows("test")[number]["image"][0], IMAGES[number])
        expected = str(DIGITS[number]) if name == "mnist" else getattr(datasets, kind).classes[DIGITS[number]]
        assert found.facts["labels"][found.rows("test")[number]["label"]] == expected
    assert found.facts["channels"] == 1 and found.facts["image_size"] == [28, 28]


def test_letters_are_named_by_torchvisions_own_list(tmp_path):
    written(tmp_path / "EMNIST" / "raw", "emnist-balanced-", {"train": 188, "test": 47}, IMAGES, np.arange(200) % 47)
    found = prepared("emnist", tmp_path)
    assert len(found.rows("test")) == 47 and found.facts["num_classes"] == 47


def test_letters_stand_upright_though_their_files_hold_columns_before_rows(tmp_path):
    written(tmp_path / "EMNIST" / "raw", "emnist-balanced-", {"train": 188, "test": 47}, IMAGES, np.arange(200) % 47)
    found = prepared("emnist", tmp_path).rows("test")[3]["image"][0]
    np.testing.assert_array_equal(found, IMAGES[3].T)


@pytest.fixture
def stl10(tmp_path, monkeypatch):
    """Small files in the binary layout of STL-10: columns before rows."""
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)  # which asks for the checksums of the real ones
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = CHANCE.integers(0, 256, (40, 3, 96, 96), dtype=np.uint8)
    for part, size in {"train": 40, "test": 20, "unlabeled": 30}.items():
        images[:size].transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        (np.arange(size) % 10 + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    return images


def test_stl10_is_upright_and_in_colours(stl10, tmp_path):
    found = prepared("stl10", tmp_path)
    assert [len(found.rows(split)) for split in SPLITS] == [36, 4, 20]
    np.testing.assert_array_equal(found.rows("test")[4]["image"], stl10[4])
    assert found.facts["labels"][found.rows("test")[4]["label"]] == "deer"


def test_stl10_without_labels_is_there_to_pretrain_on(stl10, tmp_path):
    found = prepared("stl10_unlabelled", tmp_path, target=None)
    assert len(found.rows("train")) == 27 and found.rows("test") is None
    assert "label" not in found.rows("train")[0]
    with pytest.raises(DataError, match=r"dataset\.name=stl10_unlabelled: these images have no labels"):
        dataset("stl10_unlabelled", tmp_path).prepare(target="class")


def test_pets_are_decoded_from_their_photographs(tmp_path):
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    lines = {"trainval": [], "test": []}
    for number in range(30):
        name, breed = (("Abyssinian", 1), ("american_bulldog", 2))[number % 2]
        pixels = CHANCE.integers(0, 256, (300, 330 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}_{number}.jpg")
        lines["test" if number >= 20 else "trainval"].append(f"{name}_{number} {breed} {breed} 1")
    for part, rows in lines.items():
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(rows) + "\n")
    found = prepared("oxford_pet", tmp_path)
    assert [len(found.rows(split)) for split in SPLITS] == [18, 2, 10]
    assert found.facts["labels"] == ["Abyssinian", "American Bulldog"]
    assert {row["image"].shape[1] for row in found.rows("test")} == {256}
    assert found.facts["image_size"] is None


@pytest.mark.parametrize("name", SOURCES)
def test_a_set_that_is_not_there_names_the_setting_that_fetches_it(name, tmp_path):
    with pytest.raises(DataError, match=rf"dataset\.name={name}: .* dataset\.download=true fetches the set") as refusal:
        dataset(name, tmp_path)
    assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(DataError, match=r"/cache/torchvision does not hold"):
        dataset(name, None)


@pytest.mark.parametrize("name", SOURCES)
def test_every_set_has_an_option_of_its_name_and_a_class_of_torchvision(name):
    assert read_yaml(CONFIGS / f"{name}.yaml")["name"] == name
    assert hasattr(datasets, SOURCES[name].kind)


def test_downloading_uses_torchvisions_own_code_and_failure_is_one_line(tmp_path, monkeypatch):
    asked = []

    def fetch(url, *args, **kwargs):
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    with pytest.raises(MachineError, match=r"dataset\.download=true: dataset\.name=mnist cannot be fetched into") as refusal:
        dataset("mnist", tmp_path, download=True)
    assert asked and len(str(refusal.value).splitlines()) == 1


def test_a_damaged_set_and_an_unknown_one_are_refused(tmp_path):
    written(tmp_path / "MNIST" / "raw", "", {"train": 200, "t10k": 50}, IMAGES, DIGITS)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    with pytest.raises(DataError, match=r"dataset\.name=mnist: .* is damaged .*; delete it, dataset\.download=true"):
        dataset("mnist", tmp_path)
    with pytest.raises(UserError, match=r"dataset\.name=cifar is not known; did you mean 'cifar"):
        dataset("mnist", tmp_path, name="cifar")
