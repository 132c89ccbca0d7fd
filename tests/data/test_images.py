"""Folders and tables of images as datasets."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ptft import resolve
from ptft.choices import config_dir
from ptft.data import pixels as pixel_files
from ptft.data.image_labels import in_order
from ptft.data.loader import Loader
from ptft.errors import DataError, UserError
from ptft.locate import read_yaml

SPLITS = ("train", "valid", "test")


def dataset(path, inputs=None, **changes):
    """dataset=image_folder dataset.path=PATH ..."""
    node = read_yaml(config_dir() / "dataset" / "image_folder.yaml") | {"path": str(path), **changes}
    node.pop("defaults")
    return resolve.resolve("dataset", node, {"inputs": inputs})


def prepared(path, target="class", labels=None, report=None, **changes):
    found = dataset(path, **changes)
    found.prepare(target=target, labels=labels, report=report)
    return found


def picture(seed, height=8, width=10, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def folder_of(folder, per_class=20, classes=("cat", "dog", "owl"), seed=0, **shape):
    """A folder with one of each class in it."""
    for number, name in enumerate(classes):
        for index in range(per_class):
            save(folder / name / f"{index:03}.png", picture(1000 * seed + 100 * number + index, **shape))
    return folder


def examples(found):
    return {split: list(found.rows(split) or []) for split in SPLITS}


def looks(rows):
    return {row["image"].numpy().tobytes() for row in rows}


@pytest.fixture
def animals(tmp_path):
    return folder_of(tmp_path / "animals")


@pytest.fixture
def table(tmp_path):
    """A csv file beside images it names: table([(label, ...)], header)."""

    def write(rows, header=("image", "label"), name="rows.csv"):
        lines = [",".join(header)]
        for number, cells in enumerate(rows):
            save(tmp_path / "pictures" / f"{number}.png", picture(number))
            lines.append(",".join([f"pictures/{number}.png", *map(str, cells)]))
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return write


def test_each_folder_is_a_class_and_each_file_an_example(animals):
    found = prepared(animals, valid_fraction=0.0, test_fraction=0.0)
    rows = found.rows("train")
    assert found.facts["labels"] == ["cat", "dog", "owl"] and found.facts["num_classes"] == 3
    assert [rows[0]["file"], rows[0]["row"], rows[0]["label"]] == ["cat/000.png", 0, 0]
    assert [rows[59]["file"], rows[59]["row"], rows[59]["label"]] == ["owl/019.png", 59, 2]
    assert rows[21]["image"].dtype == torch.uint8
    np.testing.assert_array_equal(rows[21]["image"], picture(101).transpose(2, 0, 1))


def test_many_rows_at_once_are_the_rows_one_by_one_in_the_order_asked_for(animals):
    rows = prepared(animals).rows("train")
    wanted = [5, 0, 5, 40]
    for number, example in zip(wanted, rows.take(wanted), strict=True):
        assert example["row"] == number
        assert torch.equal(example["image"], rows[number]["image"])


def test_held_out_splits_are_whole_disjoint_and_balanced(animals):
    found = examples(prepared(animals))
    assert [len(found[split]) for split in SPLITS] == [48, 6, 6]
    assert [sum(row["label"] == 1 for row in found[split]) for split in SPLITS] == [16, 2, 2]
    assert len(set.union(*(looks(rows) for rows in found.values()))) == 60


def test_splits_depend_on_what_images_show_and_not_on_names_or_formats_or_stored_size(animals, tmp_path):
    one = prepared(animals)
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted(animals.rglob("*.png"), reverse=True)):
        shutil.copy(path, save(renamed / path.parent.name / f"{number}.png", picture(0)))
    two = prepared(renamed)
    for split in SPLITS:
        assert looks(one.rows(split)) == looks(two.rows(split))
    small = prepared(animals, decode_size=4)
    assert [row["file"] for row in small.rows("test")] == [row["file"] for row in one.rows("test")]
    assert {row["file"] for row in prepared(animals, split_seed=1).rows("test")} != {row["file"] for row in one.rows("test")}


@pytest.mark.parametrize("own", [False, True])
def test_the_first_images_of_an_evaluation_are_of_all_classes_and_belong_to_their_labels(own, tmp_path):
    if own:
        folder_of(tmp_path / "set" / "valid", 30, seed=1)
    folder_of(tmp_path / "set" / "train" if own else tmp_path / "set", 300 if not own else 5)
    found = prepared(tmp_path / "set")
    first = found.rows("valid").take(range(12))  # 90 there are, 30 of each class
    assert {found.facts["labels"][row["label"]] for row in first} == {"cat", "dog", "owl"}
    for row in found.rows("valid"):
        assert row["file"].startswith(found.facts["labels"][row["label"]])
    assert [row["file"] for row in prepared(tmp_path / "set").rows("valid")] == [row["file"] for row in found.rows("valid")]


def test_where_equal_images_leave_no_split_the_note_says_so(tmp_path):
    for number in range(40):
        save(tmp_path / "images" / "ab"[number % 2] / f"{number}.png", picture(number % 2))
    expected = "too few images for dataset.valid_fraction=0.1 (only 2 differ, and equal ones stay together): no valid split"
    assert expected in prepared(tmp_path / "images").notes


def test_equal_images_with_different_labels_are_noted(animals):
    assert not any("different labels" in note for note in prepared(animals).notes)
    save(animals / "cat" / "same.png", picture(999))
    save(animals / "cat" / "copy.png", picture(999))
    assert not any("different labels" in note for note in prepared(animals).notes)
    save(animals / "owl" / "same.bmp", picture(999))
    (said,) = [note for note in prepared(animals).notes if "different labels" in note]
    told = f"{animals / 'cat' / 'copy.png'} is 'cat' and {animals / 'owl' / 'same.bmp'} is 'owl'"
    assert said == f"1 images occur more than once, with different labels; the first: {told}"


def test_equal_images_never_lie_on_both_sides_of_a_split(tmp_path):
    kinds = ["a.png", "b.bmp", "c.tif"]  # equal pixels in unequal files
    for number in range(30):
        for kind in kinds:
            save(tmp_path / "images" / "ab"[number % 2] / f"{number}{kind}", picture(number))
        if number < 10:  # and again under another class
            save(tmp_path / "images" / "ba"[number % 2] / f"{number}again.png", picture(number))
    found = examples(prepared(tmp_path / "images", valid_fraction=0.2, test_fraction=0.2))
    sides = [looks(found[split]) for split in SPLITS]
    assert all(sides)
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert sum(len(rows) for rows in found.values()) == 100


@pytest.mark.parametrize(("valid", "test"), [("valid", "test"), ("val", "testing"), ("Validation", "Test")])
def test_split_folders_are_the_splits_however_they_are_spelt(valid, test, tmp_path):
    for seed, (name, number) in enumerate({"train": 6, valid: 2, test: 3}.items()):
        folder_of(tmp_path / "set" / name, number, seed=seed)
    found = prepared(tmp_path / "set")
    assert [len(found.rows(split)) for split in SPLITS] == [18, 6, 9]
    names = {f"{name}/00{number}.png" for name in ("cat", "dog", "owl") for number in range(3)}
    assert {row["file"] for row in found.rows("test")} == names
    assert found.facts["labels"] == ["cat", "dog", "owl"]


def test_folders_beside_the_splits_are_left_out_with_a_note(tmp_path):
    for seed, name in enumerate(("train", "test", "extra")):
        folder_of(tmp_path / "set" / name, 3, seed=seed)
    found = prepared(tmp_path / "set")
    assert found.notes[0] == f"{tmp_path / 'set'}: beside the splits, folders were left out: extra"
    assert len(found.rows("test")) == 9


def test_without_a_validation_folder_a_share_of_train_is_held_out(tmp_path):
    folder_of(tmp_path / "set" / "train", 20)
    folder_of(tmp_path / "set" / "test", 2, seed=1)
    found = prepared(tmp_path / "set")
    assert [len(found.rows(split)) for split in SPLITS] == [54, 6, 6]


def test_a_folder_called_train_may_be_a_class(tmp_path):
    assert prepared(folder_of(tmp_path / "vehicles", classes=("boat", "train"))).facts["labels"] == ["boat", "train"]


def test_paths_of_their_own_are_the_splits_and_all_of_path_is_for_training(animals, tmp_path):
    valid, test = (folder_of(tmp_path / name, 2, seed=seed) for seed, name in enumerate(("v", "t"), 1))
    found = prepared(animals, valid_path=str(valid), test_path=str(test))
    assert [len(found.rows(split)) for split in SPLITS] == [60, 6, 6]
    found = prepared(animals, valid_path=str(valid))
    assert [len(examples(found)[split]) for split in SPLITS] == [60, 6, 0]


def test_own_splits_that_share_images_are_told(animals, tmp_path):
    shutil.copytree(animals, tmp_path / "copy")
    found = prepared(animals, test_path=str(tmp_path / "copy"), valid_fraction=0.0)
    assert "60 images of test are training images as well" in found.notes


def test_images_deeper_down_belong_to_the_class_of_the_outermost_folder(tmp_path):
    for number in range(4):
        save(tmp_path / "set" / "cat" / "day" / f"{number}.jpg", picture(number))
        save(tmp_path / "set" / "dog" / f"{number}.PNG", picture(10 + number))
    found = prepared(tmp_path / "set", valid_fraction=0.0, test_fraction=0.0)
    assert [row["label"] for row in found.rows("train")] == [0] * 4 + [1] * 4


def test_files_that_are_no_images_are_skipped_and_counted_and_hidden_ones_are_not_looked_at(animals):
    (animals / "cat" / "notes.txt").write_text("x")
    (animals / "Thumbs.db").write_text("x")
    (animals / "cat" / "._000.png").write_text("x")
    (animals / ".cache").mkdir()
    save(animals / ".cache" / "1.png", picture(1))
    found = prepared(animals)
    assert sum(len(rows) for rows in examples(found).values()) == 60
    assert found.notes == [f"{animals}: 2 files that are no images were skipped (1 .db, 1 .txt)"]


def test_images_beside_the_class_folders_are_left_out_and_counted(animals):
    save(animals / "cover.png", picture(9))
    found = prepared(animals)
    assert sum(len(rows) for rows in examples(found).values()) == 60
    assert found.notes == [f"{animals}: 1 images outside of the class folders were left out"]


def test_a_folder_without_classes_serves_objectives_without_labels_only(tmp_path):
    for number in range(40):
        save(tmp_path / "flat" / f"{number}.png", picture(number))
    found = prepared(tmp_path / "flat", target=None)
    assert [len(found.rows(split)) for split in SPLITS] == [32, 4, 4]
    assert "label" not in found.rows("train")[0] and "labels" not in found.facts
    with pytest.raises(DataError, match=r"dataset\.path=.*flat: there are no folders in it that would be classes; the task"):
        dataset(tmp_path / "flat").prepare(target="class")


def test_labels_are_there_for_probes_even_where_nothing_is_learned_of_them(animals):
    found = prepared(animals, target=None)
    assert {row["label"] for row in found.rows("valid")} == {0, 1, 2}
    assert found.facts["labels"] == ["cat", "dog", "owl"]


def test_a_split_of_the_users_own_without_labels_is_left_out_with_a_note(tmp_path):
    folder_of(tmp_path / "set" / "train", 20)
    save(tmp_path / "set" / "test" / "1.png", picture(5))
    found = prepared(tmp_path / "set")
    assert found.rows("test") is None
    assert found.notes == ["test: these images have no labels and were left out"]
    assert len(prepared(tmp_path / "set", target=None).rows("test")) == 1


def test_a_table_names_images_beside_it_and_their_classes(table):
    found = prepared(table([("ab"[number % 2],) for number in range(40)]))
    assert [len(found.rows(split)) for split in SPLITS] == [32, 4, 4]
    for row in found.rows("train"):
        number = int(row["file"].removeprefix("pictures/").removesuffix(".png"))
        assert row["label"] == number % 2
        np.testing.assert_array_equal(row["image"], picture(number).transpose(2, 0, 1))


def test_columns_with_other_names_are_taken_where_they_are_named_or_obvious(table):
    path = table([("x", "ab"[number % 2]) for number in range(40)], header=("where", "note", "kind"))
    found = prepared(path, image="where", label="kind")
    assert found.facts["labels"] == ["a", "b"] and found.columns == {"image": "where"}
    path = table([("ab"[number % 2],) for number in range(40)], header=("filename", "species"))
    assert prepared(path).facts["labels"] == ["a", "b"]


def test_numbers_are_learned_as_they_are(table):
    found = prepared(table([(number / 7,) for number in range(40)]), "number", valid_fraction=0.0, test_fraction=0.0)
    values = np.arange(40) / 7
    assert [row["label"] for row in found.rows("train")] == values.tolist()
    assert found.facts["target_mean"] == pytest.approx(values.mean())
    assert found.facts["target_std"] == pytest.approx(values.std())


def test_a_cell_may_name_several_classes_or_none(table):
    cells = [("a|b",), ("b; c",), ("",), ("c",)] * 5
    found = prepared(table(cells), "classes", valid_fraction=0.0, test_fraction=0.0)
    assert found.facts["labels"] == ["a", "b", "c"]
    rows = [row["label"] for row in found.rows("train")][:4]
    assert [row.tolist() for row in rows] == [[1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert rows[0].dtype == np.uint8


def test_a_list_names_several_classes_in_formats_that_have_lists(table):
    cells = [["a", "b"], ["c"], [], [" b "]] * 5
    rows = [{"image": f"pictures/{number}.png", "label": cell} for number, cell in enumerate(cells)]
    path = table([("",)] * 20).with_name("rows.jsonl")
    path.write_text("\n".join(map(json.dumps, rows)))
    found = prepared(path, "classes", valid_fraction=0.0, test_fraction=0.0)
    assert found.facts["labels"] == ["a", "b", "c"]
    assert [row["label"].tolist() for row in found.rows("train")][:4] == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_numbers_of_equal_value_are_in_the_same_order_in_every_process():
    assert in_order(["1", "01", "10", "2", "001"]) == ["001", "01", "1", "2", "10"]


def test_a_class_that_is_a_number_keeps_its_place_among_numbers(table):
    assert prepared(table([(number % 11,) for number in range(44)])).facts["labels"] == [str(digit) for digit in range(11)]


def test_labels_of_a_trained_model_keep_their_order(animals):
    found = prepared(animals, labels=["owl", "cow", "dog", "cat"])
    assert {row["label"] for row in found.rows("train")} == {0, 2, 3}
    assert found.facts["labels"] == ["owl", "cow", "dog", "cat"]


def test_colours_and_grey_become_what_most_can_show(tmp_path):
    folder = folder_of(tmp_path / "grey", channels=1)
    grey = prepared(folder)
    assert grey.facts["channels"] == 1 and grey.rows("train")[0]["image"].shape == (1, 8, 10)
    assert grey.rows("train")[0]["image"][0].tolist() == picture(int(grey.rows("train")[0]["file"][-7:-4]), channels=1).tolist()
    tripled = prepared(folder, channels=3).rows("train")[0]["image"]
    assert tripled.shape == (3, 8, 10) and torch.equal(tripled[0], tripled[2])
    save(folder / "cat" / "coloured.png", picture(7))
    mixed = prepared(folder)
    assert mixed.facts["channels"] == 3
    assert {row["image"].shape for row in mixed.rows("train")} == {(3, 8, 10)}
    single = prepared(folder, channels=1, valid_fraction=0.0, test_fraction=0.0)
    coloured = next(row for row in single.rows("train") if row["file"].endswith("coloured.png"))
    np.testing.assert_array_equal(coloured["image"][0], np.asarray(Image.fromarray(picture(7)).convert("L")))


def test_transparent_images_are_on_white_and_counted_once_to_train_as_to_predict_on(animals):
    drawn = np.zeros((8, 10, 4), dtype=np.uint8)
    drawn[3, :, 3] = 255
    save(animals / "cat" / "drawn.png", drawn)
    for _ in range(2):  # from the files, and from the cache
        found = prepared(animals, valid_fraction=0.0, test_fraction=0.0)
        assert [note for note in found.notes if "transparent" in note] == [
            "1 of 61 images are transparent in parts, which count as white"
        ]
    row = next(row for row in found.rows("train") if row["file"] == "cat/drawn.png")
    assert row["image"][0].tolist() == np.where(drawn[..., 3], 0, 255).tolist()
    ((_, read),) = found.reader({}, {}, found.inputs).read(str(animals / "cat" / "drawn.png"))
    assert torch.equal(read["image"], row["image"])


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_spread_are_those_of_the_training_pixels_alone(channels, tmp_path):
    folder = folder_of(tmp_path / "set")
    save(folder / "cat" / "large.png", picture(1, 40, 30))
    save(folder / "dog" / "grey.png", picture(2, 5, 5, channels=1))
    found = prepared(folder, channels=channels)
    values = torch.cat([row["image"].reshape(channels, -1) for row in found.rows("train")], dim=1).double() / 255
    assert found.facts["pixel_mean"] == pytest.approx(values.mean(1).tolist(), abs=1e-9)
    assert found.facts["pixel_std"] == pytest.approx(values.std(1, correction=0).tolist(), abs=1e-9)


def test_a_trained_models_inputs_win_over_what_these_images_are_like(animals):
    inputs = {"channels": 1, "image_size": [28, 28], "pixel_mean": [0.1], "pixel_std": [0.3]}
    found = prepared(animals, inputs=inputs)
    assert found.inputs == inputs and found.facts | inputs == found.facts
    assert found.rows("train")[0]["image"].shape == (1, 8, 10)
    assert json.loads(json.dumps(prepared(animals).inputs)) == prepared(animals).inputs


def test_sizes_stay_what_they_are_up_to_the_size_asked_for(tmp_path):
    folder = folder_of(tmp_path / "set", 4)
    save(folder / "cat" / "tall.png", picture(1, 60, 20))
    found = prepared(folder, valid_fraction=0.0, test_fraction=0.0)
    shapes = {row["file"]: tuple(row["image"].shape) for row in found.rows("train")}
    assert shapes.pop("cat/tall.png") == (3, 60, 20)
    assert set(shapes.values()) == {(3, 8, 10)}
    assert found.facts["image_size"] is None
    small = prepared(folder, valid_fraction=0.0, test_fraction=0.0, decode_size=5)
    assert {tuple(row["image"].shape) for row in small.rows("train")} == {(3, 15, 5), (3, 5, 6)}
    assert prepared(folder_of(tmp_path / "equal", 4), target=None).facts["image_size"] == [8, 10]


def test_the_longest_rows_are_the_largest_images(tmp_path):
    folder = folder_of(tmp_path / "set", 4)
    save(folder / "cat" / "tall.png", picture(1, 60, 20))
    rows = prepared(folder, valid_fraction=0.0, test_fraction=0.0).rows("train")
    assert rows[rows.longest(2)[0]]["file"] == "cat/tall.png"


def test_few_label_experiments_keep_as_many_images_of_each_class_and_say_which(animals):
    found = {seed: prepared(animals, per_class=5, split_seed=seed) for seed in (0, 1)}
    rows = list(found[0].rows("train"))
    assert [row["label"] for row in rows] == [0] * 5 + [1] * 5 + [2] * 5
    assert len(found[0].rows("test")) == 6
    index = found[0].few_labels
    assert index == [row["file"] for row in rows]
    assert index == prepared(animals, per_class=5).few_labels
    assert index != found[1].few_labels
    assert any("per_class=500: 3 classes have fewer rows, '" in note for note in prepared(animals, per_class=500).notes)
    with pytest.raises(UserError, match="per_class=5 is for tasks that learn classes"):
        dataset(animals, per_class=5).prepare(target=None)


BROKEN = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-60]),
    "empty": lambda path: path.write_bytes(b""),
    "a page of the web": lambda path: path.write_text("<html>404</html>"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_image_that_cannot_be_decoded_is_named_with_its_number(how, animals):
    BROKEN[how](animals / "dog" / "004.png")
    with pytest.raises(DataError, match=r"dog/004\.png: .* \(image 24 of train\); dataset\.on_error=skip") as refusal:
        dataset(animals).prepare(target="class")
    assert len(str(refusal.value).splitlines()) == 1


def test_broken_images_are_left_out_where_that_is_asked_for_and_few(animals):
    BROKEN["truncated"](animals / "dog" / "004.png")
    for _ in range(2):  # the second time, from the cache
        found = prepared(animals, on_error="skip", valid_fraction=0.0, test_fraction=0.0)
        rows = found.rows("train")
        assert len(rows) == 59
        assert "dog/004.png" not in [row["file"] for row in rows]
        np.testing.assert_array_equal(rows[24]["image"], picture(105).transpose(2, 0, 1))
        assert (rows[24]["file"], rows[24]["label"]) == ("dog/005.png", 1)
        assert found.notes[0].startswith("1 of 60 images cannot be decoded and were left out; the first: ")
        assert found.describe()["skipped"][0].startswith(f"{animals}/dog/004.png: ")
    with pytest.raises(DataError, match="image 24 of train"):
        dataset(animals).prepare(target="class")
    for number in range(5, 8):
        BROKEN["empty"](animals / "dog" / f"{number:03}.png")
    with pytest.raises(DataError, match=r"4 of 60 images cannot be decoded, dataset\.error_budget=0\.001 allows fewer"):
        dataset(animals, on_error="skip").prepare(target="class")
    assert len(prepared(animals, on_error="skip", error_budget=0.1).describe()["skipped"]) == 4


def test_a_second_preparation_decodes_nothing_and_says_the_same(animals, monkeypatch):
    told = []
    first = prepared(animals, report=lambda *what: told.append(what))
    assert told[-1] == ("decoding", 60, 60)
    monkeypatch.setattr(pixel_files, "as_shown", None)
    second = prepared(animals)
    assert first.describe() == second.describe()
    assert torch.equal(first.rows("valid")[3]["image"], second.rows("valid")[3]["image"])
    prepared(animals, target=None, split_seed=3, channels=1)


def test_the_fingerprint_follows_pixels_labels_and_rules(animals):
    before = dataset(animals).fingerprint
    assert dataset(animals).fingerprint == before
    assert dataset(animals, split_seed=1).fingerprint != before
    (animals / "cat").rename(animals / "lynx")
    assert dataset(animals).fingerprint != before
    (animals / "lynx").rename(animals / "cat")
    save(animals / "cat" / "000.png", picture(77))
    assert dataset(animals).fingerprint != before


def test_rows_travel_to_worker_processes(animals):
    rows = prepared(animals).rows("train")
    copy = pickle.loads(pickle.dumps(rows))
    assert torch.equal(copy[3]["image"], rows[3]["image"])

    def collate(some, draw):
        return {"files": [example["file"] for example in some], "images": torch.stack([row["image"] for row in some])}

    here, there = (next(Loader(rows, collate, 8, 0, workers).batches(0)) for workers in (0, 1))
    assert here["files"] == there["files"] and torch.equal(here["images"], there["images"])


def test_a_folder_without_images_is_no_class_and_that_is_said(animals):
    (animals / "unicorn").mkdir()
    found = prepared(animals)
    assert found.facts["labels"] == ["cat", "dog", "owl"]
    assert any(note.endswith("no class, as there is no image in it: unicorn") for note in found.notes)


def test_a_table_that_was_made_on_windows_names_the_same_files(table, tmp_path):
    path = table([("a",), ("b",)] * 10)
    plain = prepared(path)
    path.write_text(path.read_text().replace("/", "\\"))
    found = prepared(path)
    assert len(found.rows("train")) == len(plain.rows("train"))
    path.write_text(path.read_text().replace("\\3.png", "\\gone.png"))
    with pytest.raises(DataError, match=r"names 'pictures\\gone.png', and there is no such file"):
        prepared(path)


def test_images_to_predict_on_come_from_a_file_a_folder_or_a_table(animals, table, tmp_path):
    found = prepared(animals)
    reader = type(found).reader({"decode_size": 256}, found.columns, found.inputs | {"channels": 1})
    ((name, example),) = reader.read(str(animals / "cat" / "003.png"))
    assert (name, example["row"], example["file"]) == ("003.png", 0, "003.png")
    np.testing.assert_array_equal(example["image"][0], np.asarray(Image.fromarray(picture(3)).convert("L")))
    named = list(reader.read(str(animals)))
    assert len(named) == 60 and [named[0][0], named[59][0]] == ["cat/000.png", "owl/019.png"]
    assert [example["row"] for _, example in named] == list(range(60))
    assert [name for name, _ in reader.read(str(table([("a",), ("b",)])))] == ["pictures/0.png", "pictures/1.png"]
    by_id = reader.read(str(table([("x7", "a"), ("x9", "b")], header=("image", "ID", "label"))))
    assert [name for name, _ in by_id] == ["x7", "x9"]
    BROKEN["empty"](animals / "cat" / "003.png")
    name, example = list(reader.read(str(animals)))[3]
    assert (name, example["row"], example["error"]) == ("cat/003.png", 3, "the file is empty") and "image" not in example
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="input=.*nothing: no images found"):
        next(reader.read(str(tmp_path / "nothing")))
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="input=.*notes.md: expected an image, a folder"):
        (tmp_path / "notes.md").write_text("x")
        next(reader.read(str(tmp_path / "notes.md")))


def one_class(folder):
    return folder_of(folder / "set", classes=("cat",))


def empty(folder):
    (folder / "set" / "cat").mkdir(parents=True)
    return folder / "set"


def missing(folder):
    folder_of(folder / "animals", 2)
    return folder / "animal"


def lost(folder):
    (folder / "rows.csv").write_text("image,label\nnone.png,a\n")
    return folder / "rows.csv"


def no_rows(folder):
    (folder / "rows.csv").write_text("image,label\n")
    return folder / "rows.csv"


def three_columns(folder):
    save(folder / "1.png", picture(1))
    (folder / "rows.csv").write_text("image,u,v\n1.png,a,b\n1.png,b,b\n")
    return folder / "rows.csv"


def not_images(folder):
    (folder / "file.zip").write_bytes(b"PK")
    return folder / "file.zip"


def unlabelled_row(folder):
    save(folder / "1.png", picture(1))
    (folder / "rows.csv").write_text("image,label\n1.png,a\n1.png,b\n1.png,\n")
    return folder / "rows.csv"


def listed_label(folder):
    save(folder / "1.png", picture(1))
    (folder / "rows.jsonl").write_text('{"image": "1.png", "label": "a"}\n{"image": "1.png", "label": ["a", "b"]}\n')
    return folder / "rows.jsonl"


MISTAKES = {
    "list of classes": (listed_label, {}, r"rows\.jsonl:2 \(1\.png\): column 'label' holds a list, expected a string or a"),
    "one class": (one_class, {}, r"dataset\.path=.*set: all 20 training images are of class 'cat'; expected two classes"),
    "no images": (empty, {}, r"dataset\.path=.*set: no images found; expected files that end in \.png"),
    "no such folder": (missing, {}, r"dataset\.path=.*animal: no such file or folder; did you mean '.*animals'\?"),
    "no such image": (lost, {}, r"rows\.csv:2: column 'image' names 'none\.png', and there is no such file in .*"),
    "empty table": (no_rows, {}, r"rows\.csv: empty"),
    "label open": (three_columns, {}, r"dataset\.label is not set, and no column is plainly the label; columns: image, u, v"),
    "image misspelt": (three_columns, {"image": "imge"}, r"dataset\.image=imge: .* did you mean 'image'\?"),
    "label unknown": (three_columns, {"label": "zzz"}, r"dataset\.label=zzz: .* columns: image, u, v"),
    "neither": (not_images, {}, r"dataset\.path=.*file\.zip: expected a folder of images, or a table"),
    "empty label": (unlabelled_row, {}, r"rows\.csv:4 \(1\.png\): the label is empty, expected a class"),
    "column of a folder": (one_class, {"label": "kind"}, r"dataset\.label=kind names a column, and .* is no table"),
    "unknown to the checkpoint": (one_class, {"labels": ["dog", "owl"]}, r"cat/000\.png: label 'cat' is none of the 2 known"),
    "size": (one_class, {"decode_size": 0}, r"dataset\.decode_size=0"),
    "budget": (one_class, {"error_budget": 2.0}, r"dataset\.error_budget=2\.0"),
    "channels": (one_class, {"channels": 2}, r"dataset\.channels: expected one of 1, 3 or null, found 2"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_one_line(name, tmp_path):
    make, changes, message = MISTAKES[name]
    path = make(tmp_path)
    labels = changes.get("labels")
    with pytest.raises(UserError, match=message) as refusal:
        prepared(path, labels=labels, **{key: value for key, value in changes.items() if key != "labels"})
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.slow
def test_a_run_lists_the_images_it_left_out_and_why(cli, animals, tmp_path, monkeypatch):
    monkeypatch.setenv("PTFT_CACHE", str(tmp_path / "cache"))
    for number in (4, 5):
        BROKEN["empty"](animals / "dog" / f"{number:03}.png")
    words = ("dataset=image_folder", f"dataset.path={animals}", "dataset.on_error=skip", "dataset.error_budget=0.1")
    small = ("ckpt=null", "model=linear", "transform=eval", "trainer.steps=1", "trainer.batch_size=8", "device=cpu")
    answer = cli("finetune", "task=classify", *words, *small, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    expected = [f"{animals}/dog/{number:03}.png: the file is empty" for number in (4, 5)]
    assert (tmp_path / "run" / "skipped.txt").read_text().splitlines() == expected
    assert "left out of the data: 2, listed with the reasons in skipped.txt" in answer.out + answer.err
