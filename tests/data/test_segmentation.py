"""Folders of images and masks as datasets."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ptft import resolve
from ptft.choices import config_dir
from ptft.data.masks import Meaning, resized
from ptft.errors import DataError
from ptft.locate import read_yaml

SPLITS = ("train", "valid", "test")


def dataset(path, inputs=None, **changes):
    """dataset=masks dataset.path=PATH ..."""
    node = read_yaml(config_dir() / "dataset" / "masks.yaml") | {"path": str(path), **changes}
    node.pop("defaults")
    return resolve.resolve("dataset", node, {"inputs": inputs})


def prepared(path, labels=None, **changes):
    found = dataset(path, **changes)
    found.prepare(target="mask", labels=labels)
    return found


def save(path, pixels, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def pair(folder, number, mask=None, images="images", masks="masks", suffix="jpg", shape=(12, 16)):
    """An image and its mask, in which the first row holds classes 0, 1, 2 and 255, to ignore."""
    random = np.random.default_rng(number)
    save(folder / images / f"{number:03}.{suffix}", random.integers(0, 256, (*shape, 3), dtype=np.uint8))
    if mask is None:
        mask = random.integers(0, 3, shape, dtype=np.uint8)
        mask[0, :4] = 0, 1, 2, 255
    save(folder / masks / f"{number:03}.png", mask)
    return mask


@pytest.fixture
def plain(tmp_path):
    """Ten images with masks of three classes."""
    for number in range(10):
        pair(tmp_path, number)
    return tmp_path


def examples(found):
    return {split: list(found.rows(split) or []) for split in SPLITS}


def test_masks_are_what_the_files_hold_and_classes_their_numbers(plain):
    found = prepared(plain)
    assert found.facts["labels"] == ["0", "1", "2"] and found.facts["num_classes"] == 3
    rows = [row for rows in examples(found).values() for row in rows]
    assert len(rows) == 10
    for row in rows:
        mask = np.array(Image.open(plain / "masks" / row["file"].replace("images/", "").replace("jpg", "png")))
        assert row["mask"].dtype == torch.uint8 and np.array_equal(row["mask"].numpy(), mask)
        assert row["image"].shape == (3, *mask.shape)


def test_palette_masks_are_read_by_index_and_sixteen_bits_are_instances(tmp_path):
    index = np.arange(12 * 16).reshape(12, 16) % 3
    for number in range(4):
        pair(tmp_path, number, index.astype(np.uint8))
        palette = Image.fromarray(index.astype(np.uint8), mode="P")
        palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        palette.save(tmp_path / "masks" / f"{number:03}.png")
    assert np.array_equal(prepared(tmp_path).rows("train")[0]["mask"].numpy(), index)
    for number in range(4):
        save(tmp_path / "masks" / f"{number:03}.png", (index * 300).astype(np.uint16))
    found = prepared(tmp_path, classes="binary")
    assert np.array_equal(found.rows("train")[0]["mask"].numpy(), index > 0)
    assert found.facts["labels"] == ["background", "foreground"]


def test_black_and_white_masks_are_binary_and_255_is_then_foreground(tmp_path):
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[3:6] = 255
    for number in range(4):
        pair(tmp_path, number, mask)
    assert np.array_equal(prepared(tmp_path, classes="binary").rows("train")[0]["mask"].numpy(), mask > 0)
    with pytest.raises(DataError, match="all pixels of the training masks are of class 0 .*dataset.classes=binary"):
        prepared(tmp_path)


def test_classes_may_have_names_and_another_number_may_mean_to_ignore(plain):
    found = prepared(plain, classes=["sky", "sea", "sand", "snow"])
    assert found.facts["labels"] == ["sky", "sea", "sand", "snow"]
    for number in range(10):
        pair(plain, number, np.full((12, 16), 7, dtype=np.uint8) * np.eye(12, 16, dtype=np.uint8) + np.uint8(1))
    found = prepared(plain, ignore=8)
    assert found.facts["num_classes"] == 2 and set(np.unique(found.rows("train")[0]["mask"])) == {1, 255}


def test_a_class_beyond_the_known_ones_is_named_with_its_file(plain):
    with pytest.raises(DataError, match=r"masks.*\d\d\d\.png: holds class 2, expected 0 to 1 or 255 for pixels to ignore"):
        prepared(plain, labels=["a", "b"])
    with pytest.raises(DataError, match=r"\.png: holds class 2, expected 0 to 1"):
        prepared(plain, classes=["a", "b"])


def test_instance_maps_taken_for_classes_are_told_what_to_do(tmp_path):
    for number in range(4):
        pair(tmp_path, number, (np.arange(12 * 16).reshape(12, 16) * 4).astype(np.uint16))
    with pytest.raises(DataError, match=r"holds class 764, expected 0 to 254 .*dataset\.classes=binary"):
        prepared(tmp_path)
    for number in range(4):
        pair(tmp_path, number, np.arange(12 * 16).reshape(12, 16).astype(np.uint8))
    assert any("192 classes" in note and "binary" in note for note in prepared(tmp_path).notes)


LAYOUTS = {
    "splits outside": ("{split}/images", "{split}/masks"),
    "splits inside": ("images/{split}", "masks/{split}"),
    "other names": ("JPEGImages/{split}", "SegmentationClass/{split}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_folders_outside_or_inside_of_images_and_masks(layout, tmp_path):
    images, masks = LAYOUTS[layout]
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for number in range(count):
            pair(tmp_path, number, None, images.format(split=split), masks.format(split=split), shape=(12, 16 + count))
    found = prepared(tmp_path)
    rows = examples(found)
    assert {split: len(each) for split, each in rows.items()} == {"train": 4, "valid": 2, "test": 1}
    assert [each[0]["mask"].shape[1] for each in rows.values()] == [20, 18, 17]


def test_splits_may_be_lists_or_folders_of_their_own(plain, tmp_path):
    lists = plain / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000\n001\n002\n")
    (lists / "val.txt").write_text("003\n")
    save(plain / "images" / "unlisted.jpg", np.zeros((4, 4, 3), dtype=np.uint8))
    assert [len(rows) for rows in examples(prepared(plain)).values()] == [3, 1, 0]
    for number in range(3):
        pair(tmp_path / "more", number)
    found = prepared(plain, test_path=str(tmp_path / "more"))
    assert [len(rows) for rows in examples(found).values()] == [3, 1, 3]


def test_folders_may_be_named(plain):
    (plain / "images").rename(plain / "pictures")
    with pytest.raises(DataError, match="no folder of images .*name it with dataset.images="):
        dataset(plain)
    assert len(prepared(plain, images="pictures").rows("train")) == 8


def test_an_image_without_a_mask_is_named(plain):
    (plain / "masks" / "004.png").unlink()
    with pytest.raises(DataError, match=r"images/004\.jpg: there is no mask '004\.png'"):
        dataset(plain)


def test_a_name_that_occurs_twice_finds_no_mask_in_another_folder(tmp_path):
    for number, folder in ((1, "a"), (1, "b"), (2, "a")):
        pair(tmp_path, number, images=f"images/{folder}", masks=f"masks/{folder}")
    (tmp_path / "masks" / "b" / "001.png").unlink()
    with pytest.raises(DataError, match=r"images/b/001\.jpg: there is no mask '001\.png'"):
        dataset(tmp_path)


@pytest.mark.parametrize("shape", [(16, 12), (6, 8), (24, 32), (12, 15)])
def test_a_mask_of_another_size_than_its_image_is_named(shape, plain):
    save(plain / "masks" / "004.png", np.zeros(shape, dtype=np.uint8))
    said = rf"masks/004\.png: has {shape[1]} x {shape[0]} pixels, and its image \S+images/004\.jpg 16 x 12; expected"
    with pytest.raises(DataError, match=said):
        prepared(plain)
    with pytest.raises(DataError, match=said):
        prepared(plain, decode_size=6)


def test_the_mask_of_a_photograph_taken_upright_is_upright(plain):
    held = Image.Exif()
    held[274] = 6
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image.save(plain / "images" / "004.jpg", exif=held)
    with pytest.raises(DataError, match=r"004\.png: has 16 x 12 pixels, and its image \S+ 12 x 16"):
        prepared(plain)
    save(plain / "masks" / "004.png", np.tile(np.arange(12, dtype=np.uint8) % 3, (16, 1)))
    rows = [row for rows in examples(prepared(plain, decode_size=6)).values() for row in rows]
    assert next(row for row in rows if "004" in row["file"])["mask"].shape == (8, 6)


@pytest.mark.parametrize(("content", "message"), [(b"", "cannot identify"), (b"\x89PNG\r\n\x1a\n half", "")])
def test_a_damaged_mask_is_named(content, message, plain):
    (plain / "masks" / "004.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"004\.png: .*{message}"):
        prepared(plain)


def test_a_mask_in_colours_is_refused(plain):
    save(plain / "masks" / "004.png", np.zeros((12, 16, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"004\.png: its pixels are RGB colours, expected a palette or class numbers"):
        prepared(plain)


def test_masks_shrink_with_images_that_are_stored_smaller(tmp_path):
    mask = np.repeat(np.repeat(np.array([[0, 1], [2, 255]], dtype=np.uint8), 20, 0), 30, 1)
    for number in range(10):
        pair(tmp_path, number, mask, shape=(40, 60))
    row = prepared(tmp_path, decode_size=10).rows("train")[0]
    assert row["image"].shape == (3, 10, 15)
    assert row["mask"].shape == (10, 15)
    assert np.array_equal(row["mask"].numpy(), resized(mask, (10, 15)))
    assert row["mask"][:5, :7].unique().tolist() == [0] and row["mask"][5:, 8:].unique().tolist() == [255]


def test_resizing_a_mask_takes_the_pixel_at_each_centre():
    mask = np.arange(6).reshape(1, 6)
    assert resized(mask, (1, 6)).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert resized(np.arange(4).reshape(2, 2), (4, 4)).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
    assert resized(np.arange(9).reshape(3, 3), (1, 1)).tolist() == [[4]]


def test_numbers_below_zero_are_no_classes():
    with pytest.raises(ValueError, match="expected 0 to 254"):
        Meaning(False, 255).classes(np.array([[0, -1]]))


def test_the_fingerprint_notices_a_pixel_and_what_numbers_mean(plain):
    before, again, binary = dataset(plain).fingerprint, dataset(plain).fingerprint, dataset(plain, classes="binary").fingerprint
    mask = np.array(Image.open(plain / "masks" / "004.png"))
    mask[5, 5] = (mask[5, 5] + 1) % 3
    save(plain / "masks" / "004.png", mask)
    assert before == again and len({before, binary, dataset(plain).fingerprint}) == 3


def test_rows_can_be_sent_to_worker_processes(plain):
    rows = prepared(plain).rows("train")
    assert torch.equal(pickle.loads(pickle.dumps(rows))[2]["mask"], rows[2]["mask"])


def test_images_to_predict_on_keep_their_size(plain):
    reader = type(dataset(plain)).reader({"decode_size": 5, "channels": None}, {"image": None}, {"channels": 1})
    (name, example), *_ = reader.read(str(plain / "images"))
    assert name == "000.jpg" and example["image"].shape == (1, 12, 16) and "mask" not in example


def test_the_shipped_nuclei_are_whole():
    found = prepared("sample:nuclei", classes="binary")
    assert not found.notes
    assert {split: len(rows) for split, rows in examples(found).items()} == {"train": 16, "valid": 4, "test": 4}
    assert set(torch.cat([row["mask"] for row in found.rows("train")]).unique().tolist()) == {0, 1}
