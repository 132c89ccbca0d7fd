"""Images from idx and npz files, and the sets that ship."""

import gzip
import struct

import numpy as np
import pytest

from ptft import resolve
from ptft.choices import config_dir
from ptft.data.arrays import read_idx
from ptft.errors import DataError, UserError
from ptft.locate import read_yaml

CHANCE = np.random.default_rng(0)
IMAGES = CHANCE.integers(0, 256, (60, 7, 6), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 12
SPLITS = ("train", "valid", "test")


def dataset(name, **changes):
    node = read_yaml(config_dir() / "dataset" / f"{name}.yaml") | changes
    node.pop("defaults")
    return resolve.resolve("dataset", node, {"inputs": None})


def prepared(name, target="class", **changes):
    found = dataset(name, **changes)
    found.prepare(target=target)
    return found


def sizes(found):
    return [len(found.rows(split) or []) for split in SPLITS]


def idx(path, array, compress=False):
    """An idx file as Y. LeCun describes it: magic number, sizes, bytes."""
    head = struct.pack(">BBBB", 0, 0, {"u": 8, "f": 13}[array.dtype.kind], array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    raw = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(raw) if compress else raw)
    return str(path)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_are_read_as_they_are(compress, tmp_path):
    files = {"images": idx(tmp_path / "images", IMAGES, compress), "labels": idx(tmp_path / "labels", LABELS, compress)}
    found = prepared("idx_images", **files, valid_fraction=0.0, test_fraction=0.0)
    rows = found.rows("train")
    assert found.facts["labels"] == [str(digit) for digit in range(12)]
    for number, example in enumerate(rows):
        np.testing.assert_array_equal(example["image"], IMAGES[number][None])
        assert (example["label"], example["file"]) == (LABELS[number], f"images:{number}")


def test_idx_files_of_each_split_stay_whole(tmp_path):
    files = {f"{mark}images": idx(tmp_path / f"{mark}i", IMAGES) for mark in ("", "valid_", "test_")}
    files |= {f"{mark}labels": idx(tmp_path / f"{mark}l", LABELS) for mark in ("", "valid_", "test_")}
    assert sizes(prepared("idx_images", **files)) == [60, 60, 60]
    assert sizes(prepared("idx_images", images=files["images"], labels=files["labels"])) == [48, 6, 6]
    assert sizes(prepared("idx_images", images=files["images"], target=None)) == [48, 6, 6]


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW", "NHWA", "01", "0 or 1", "signed"])
def test_arrays_of_any_layout_become_channels_first(layout, tmp_path):
    colours = CHANCE.integers(0, 256, (20, 7, 6, 4), dtype=np.uint8)
    given, expected = {
        "NHW": (IMAGES[:20], IMAGES[:20, None]),
        "NHWC": (colours[..., :3], colours[..., :3].transpose(0, 3, 1, 2)),
        "NCHW": (colours[..., :3].transpose(0, 3, 1, 2), colours[..., :3].transpose(0, 3, 1, 2)),
        "NHWA": (colours, colours[..., :3].transpose(0, 3, 1, 2)),
        "0 or 1": (IMAGES[:20] % 2, IMAGES[:20, None] % 2 * 255),
        "signed": (IMAGES[:20].astype(np.int64) % 2, IMAGES[:20, None] % 2 * 255),
        "01": (IMAGES[:20] / np.float32(255), IMAGES[:20, None]),
    }[layout]
    path = npz(tmp_path / "a.npz", images=given, labels=LABELS[:20] % 2)
    rows = prepared("image_arrays", path=path, valid_fraction=0.0, test_fraction=0.0).rows("train")
    np.testing.assert_array_equal(np.stack([row["image"] for row in rows]), expected)


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medical": ("train_images", "train_labels", "test_images", "test_labels"),
}


@pytest.mark.parametrize("style", NAMES)
def test_arrays_named_for_splits_are_these_splits(style, tmp_path):
    values = (IMAGES[:40], LABELS[:40, None] % 4, IMAGES[40:], LABELS[40:, None] % 4)
    path = npz(tmp_path / "a.npz", **dict(zip(NAMES[style], values, strict=True)))
    found = prepared("image_arrays", path=path)
    assert sizes(found) == [36, 4, 20]
    np.testing.assert_array_equal(found.rows("test")[3]["image"][0], IMAGES[43])
    assert found.rows("test")[3]["label"] == LABELS[43] % 4
    other = npz(tmp_path / "b.npz", images=IMAGES, labels=LABELS % 4)
    assert sizes(prepared("image_arrays", path=path, valid_path=other)) == [40, 60, 20]


def test_arrays_may_be_named_and_rows_of_truth_values_are_several_classes(tmp_path):
    several = CHANCE.integers(0, 2, (60, 5))
    path = npz(tmp_path / "a.npz", pictures=IMAGES, kinds=several)
    found = prepared(
        "image_arrays", "classes", path=path, images="pictures", labels="kinds", valid_fraction=0.0, test_fraction=0.0
    )
    np.testing.assert_array_equal(np.stack([row["label"] for row in found.rows("train")]), several)
    assert found.facts["labels"] == list("01234")


def test_arrays_to_predict_on_are_numbered(tmp_path):
    reader = type(dataset("digits")).reader({}, {}, {"channels": 3})
    for path in (npz(tmp_path / "a.npz", images=IMAGES), idx(tmp_path / "images-idx3-ubyte", IMAGES)):
        found = list(reader.read(path))
        assert [name for name, _ in found] == list(range(60))
        np.testing.assert_array_equal(found[7][1]["image"], np.stack([IMAGES[7]] * 3))


def test_idx_files_of_other_types_keep_their_values(tmp_path):
    values = CHANCE.normal(size=(3, 4, 5)).astype(np.float32)
    idx(tmp_path / "floats", values)
    np.testing.assert_array_equal(read_idx(tmp_path / "floats"), values)


def cut(folder):
    path = folder / "cut"
    path.write_bytes((folder / "images").read_bytes()[:-5])
    return {"images": str(path)}


def strange(folder):
    (folder / "strange").write_bytes(b"GIF89a....")
    return {"images": str(folder / "strange")}


def huge(folder):
    (folder / "huge").write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 31, 1 << 31, 1 << 31))
    return {"images": str(folder / "huge")}


IDX_MISTAKES = {
    "counts": (
        lambda folder: {"labels": idx(folder / "few", LABELS[:50])},
        "60 images and 50 labels; expected as many of both",
    ),
    "swapped": (
        lambda folder: {"images": str(folder / "labels")},
        r"dataset\.images=.*labels: shape \(60,\); expected \[N, H, W\]",
    ),
    "cut": (cut, r"cut: holds 2,515 bytes of data, its header announces 2,520 \(60, 7, 6\)"),
    "strange": (strange, "strange: no idx file"),
    "huge": (huge, "huge: its header announces .* the file is damaged"),
    "missing": (
        lambda folder: {"images": str(folder / "imags")},
        r"dataset\.images=.*imags: no such file or folder; did you mean",
    ),
    "labels alone": (lambda folder: {"test_labels": "x"}, r"dataset\.test_labels=x: dataset\.test_images must be given"),
    "no labels": (lambda folder: {"labels": None}, r"dataset\.labels is not set; the task learns a class"),
}


@pytest.mark.parametrize("name", IDX_MISTAKES)
def test_idx_files_that_cannot_be_are_refused_in_one_line(name, tmp_path):
    settings = {"images": idx(tmp_path / "images", IMAGES), "labels": idx(tmp_path / "labels", LABELS)}
    make, message = IDX_MISTAKES[name]
    with pytest.raises(UserError, match=message) as refusal:
        prepared("idx_images", **{**settings, **make(tmp_path)})
    assert len(str(refusal.value).splitlines()) == 1


NPZ_MISTAKES = {
    "counts": ({"images": IMAGES, "labels": LABELS[:9]}, {}, "60 images and 9 labels"),
    "flat": (
        {"images": IMAGES.reshape(60, -1), "labels": LABELS},
        {},
        r"array 'images': shape \(60, 42\); expected \[N, H, W\]",
    ),
    "range": ({"images": IMAGES * 3.0, "labels": LABELS}, {}, "values from 0 to 765; expected 0 to 255, or 0 to 1"),
    "unnamed": ({"a": IMAGES, "b": LABELS}, {}, r"name it with dataset\.images: a \(60, 7, 6\), b \(60,\)"),
    "misnamed": ({"a": IMAGES, "b": LABELS}, {"images": "aa"}, r"dataset\.images=aa: .* has no such array; did you mean 'a'"),
    "test alone": ({"x_test": IMAGES, "y_test": LABELS}, {}, "holds arrays of test, and none to train on"),
    "pickled": ({"images": np.array([{}, {}]), "labels": LABELS}, {}, "no npz file of plain arrays"),
    "labels missing": ({"images": IMAGES}, {}, r"no array is plainly that of the labels; name it with dataset\.labels"),
}


@pytest.mark.parametrize("name", NPZ_MISTAKES)
def test_npz_files_that_cannot_be_are_refused_in_one_line(name, tmp_path):
    arrays, changes, message = NPZ_MISTAKES[name]
    with pytest.raises(DataError, match=message) as refusal:
        prepared("image_arrays", path=npz(tmp_path / "a.npz", **arrays), **changes)
    assert len(str(refusal.value).splitlines()) == 1


def test_files_that_are_no_npz_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and more")
    (tmp_path / "b.npz").write_bytes(b"words")
    np.save(tmp_path / "c.npy", IMAGES)
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(DataError, match=rf"{name}: "):
            dataset("image_arrays", path=str(tmp_path / name))


SHIPPED = {"digits": [3500, 500, 1000], "fashion": [2300, 300, 1000]}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_sets_that_ship_are_read_whole_and_balanced(name):
    found = prepared(name)
    assert sizes(found) == SHIPPED[name]
    assert found.facts["num_classes"] == 10 and found.facts["image_size"] == [28, 28] and found.facts["channels"] == 1
    for split in SPLITS:
        labels = [row["label"] for row in found.rows(split)]
        assert set(np.bincount(labels)) == {len(labels) // 10}
    assert found.notes == []
