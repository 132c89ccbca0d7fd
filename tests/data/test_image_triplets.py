"""dataset=image_triplets: which triplets it reads, and how it divides them."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from ptft import resolve
from ptft.choices import config_dir
from ptft.data.table import SPLITS
from ptft.errors import DataError
from ptft.locate import read_yaml


def dataset(path, **changes):
    node = read_yaml(config_dir() / "dataset" / "image_triplets.yaml") | {"path": str(path), **changes}
    node.pop("defaults")
    found = resolve.resolve("dataset", node, {"inputs": None})
    found.prepare(target="triplet")
    return found


def table(folder, triplets, columns=("anchor", "positive", "negative"), name="triplets.csv"):
    """A table of triplets of image numbers; image n has the grey value n everywhere."""
    (folder / "pictures").mkdir(exist_ok=True)
    for number in {number for triplet in triplets for number in triplet}:
        Image.fromarray(np.full((5, 4), number, dtype=np.uint8)).save(folder / "pictures" / f"{number}.png")
    with (folder / name).open("w", newline="") as file:
        csv.writer(file).writerows([columns, *([f"pictures/{number}.png" for number in row] for row in triplets)])
    return folder / name


def numbers(rows):
    """The grey values of each triplet of a split."""
    return [tuple(int(example[name][0, 0, 0]) for name in ("image", "positive", "negative")) for example in rows or []]


def apart(count):
    """Triplets of which no two share an image."""
    return [(3 * row, 3 * row + 1, 3 * row + 2) for row in range(count)]


def test_every_triplet_is_in_one_split_and_none_is_lost(tmp_path):
    found = dataset(table(tmp_path, apart(40)))
    splits = [numbers(found.rows(split)) for split in SPLITS]
    assert [len(split) for split in splits] == [32, 4, 4]
    assert sorted(sum(splits, [])) == apart(40)
    assert found.describe()["triplets"] == {"train": 32, "valid": 4, "test": 4}


def test_triplets_that_share_an_image_stay_together(tmp_path):
    pairs = zip(apart(40)[::2], apart(40)[1::2], strict=True)
    found = dataset(table(tmp_path, [row for one, other in pairs for row in (one, (*other[:2], one[0]))]), valid_fraction=0.2)
    images = [{number for row in numbers(found.rows(split)) for number in row} for split in SPLITS]
    assert all(images)
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]


def test_where_all_triplets_are_linked_some_are_held_out_all_the_same_and_it_is_said(tmp_path):
    random = np.random.default_rng(0)
    triplets = [tuple(random.choice(30, 3, replace=False).tolist()) for _ in range(60)]
    found = dataset(table(tmp_path, triplets))
    assert sorted(sum((numbers(found.rows(split)) for split in SPLITS), [])) == sorted(triplets)
    assert len(found.rows("valid")) == len(found.rows("test")) == 6
    assert any("linked by images they share" in note for note in found.notes)


def test_the_order_of_rows_decides_nothing(tmp_path):
    one, other = (dataset(table(tmp_path, rows)) for rows in (apart(40), apart(40)[::-1]))
    assert sorted(numbers(one.rows("valid"))) == sorted(numbers(other.rows("valid")))


def test_tables_of_their_own_are_splits_and_columns_go_by_name(tmp_path):
    columns = {"anchor": "a", "positive": "p", "negative": "n"}
    train, valid = (table(tmp_path, rows, "apn", name) for rows, name in ((apart(9), "t.csv"), ([(90, 91, 92)], "v.csv")))
    found = dataset(train, valid_path=str(valid), **columns)
    assert numbers(found.rows("train")) == apart(9)
    assert numbers(found.rows("valid")) == [(90, 91, 92)]
    assert found.rows("test") is None


def test_an_image_in_many_triplets_is_decoded_once(tmp_path):
    found = dataset(table(tmp_path, [(1, 2, 3), (2, 1, 3), (1, 3, 2)]), valid_fraction=0.0, test_fraction=0.0)
    assert numbers(found.rows("train")) == [(1, 2, 3), (2, 1, 3), (1, 3, 2)]
    assert len(found.pixels) == 3
    assert found.rows("train")[1]["row"] == 1
    assert torch.equal(found.rows("train")[0]["positive"], found.rows("train")[1]["image"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negative": "negativ"}, "dataset.negative=negativ: .* no such column; did you mean 'negative'"),
        ({"path": "pictures"}, "expected a table with the paths of triplets"),
    ],
)
def test_what_is_no_table_of_triplets_is_refused(tmp_path, changes, message):
    path = table(tmp_path, apart(3))
    with pytest.raises(DataError, match=message):
        dataset(tmp_path / changes.pop("path", path.name), **changes)


def test_an_image_that_is_not_there_is_named_with_its_row_and_column(tmp_path):
    path = table(tmp_path, apart(3))
    (tmp_path / "pictures" / "4.png").unlink()
    with pytest.raises(DataError, match=r"triplets.csv:3.*column 'positive' names 'pictures/4.png'"):
        dataset(path)


def test_an_image_that_cannot_be_decoded_is_named_without_advice_that_does_not_hold(tmp_path):
    path = table(tmp_path, apart(3))
    (tmp_path / "pictures" / "4.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"triplets.csv:3 \(pictures/4.png\)") as refusal:
        dataset(path)
    assert "on_error" not in str(refusal.value)
