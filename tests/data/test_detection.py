"""Folders of images with boxes as datasets, in the forms of Pascal VOC and COCO."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from ptft import resolve
from ptft.choices import config_dir
from ptft.errors import DataError
from ptft.locate import read_yaml

OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
SPLITS = ("train", "valid", "test")


def dataset(path, inputs=None, **changes):
    """dataset=boxes dataset.path=PATH ..."""
    node = read_yaml(config_dir() / "dataset" / "boxes.yaml") | {"path": str(path), **changes}
    node.pop("defaults")
    return resolve.resolve("dataset", node, {"inputs": inputs})


def prepared(path, labels=None, **changes):
    found = dataset(path, **changes)
    found.prepare(target="boxes", labels=labels)
    return found


def save(path, seed, height=20, width=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def voc(folder, number, *objects, images="JPEGImages", annotations="Annotations", **size):
    """An image with its XML file; objects: (name, x1, y1, x2, y2)."""
    save(folder / images / f"{number:03}.png", number, **size)
    path = folder / annotations / f"{number:03}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = "".join(OBJECT.format(*each) for each in objects)
    path.write_text(f"<annotation><filename>{number:03}.jpg</filename>{told}</annotation>")
    return path


def coco(path, images, boxes, names=("cell", "dust"), **more):
    """A JSON file; images: file names, boxes: (image, category from 1, x, y, w, h)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": 100 + index, "file_name": name} for index, name in enumerate(images)],
        "annotations": [
            {"id": index, "image_id": 100 + image, "category_id": category, "bbox": list(box), "iscrowd": 0}
            for index, (image, category, *box) in enumerate(boxes)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, 1)],
    }
    path.write_text(json.dumps(content | more))
    return path


@pytest.fixture
def plain_voc(tmp_path):
    """Twenty images with a cell and every other one with dust."""
    for number in range(20):
        voc(tmp_path, number, ("cell", 1, 2, 11, 12), *[("dust", 5, 5, 9.5, 8)] * (number % 2))
    return tmp_path


def examples(found):
    return {split: list(found.rows(split) or []) for split in SPLITS}


def test_voc_files_give_boxes_as_they_stand_and_classes_in_order(plain_voc):
    found = prepared(plain_voc)
    assert found.facts["labels"] == ["cell", "dust"] and found.facts["num_classes"] == 2
    rows = [row for rows in examples(found).values() for row in rows]
    assert len(rows) == 20 and {len(row["classes"]) for row in rows} == {1, 2}
    odd = next(row for row in rows if row["file"].endswith("003.png"))
    assert odd["boxes"].tolist() == [[1, 2, 11, 12], [5, 5, 9.5, 8]] and odd["boxes"].dtype == np.float32
    assert odd["classes"].tolist() == [0, 1] and odd["classes"].dtype == np.int64
    assert odd["image"].shape == (3, 20, 30)


def test_an_xml_file_is_called_like_its_image_whatever_it_says(plain_voc):
    path = plain_voc / "Annotations" / "003.xml"
    path.write_text(path.read_text().replace("003.jpg", "004.jpg").replace("dust", "rust"))
    found = prepared(plain_voc)
    row = next(row for rows in examples(found).values() for row in rows if row["file"].endswith("003.png"))
    assert [found.facts["labels"][label] for label in row["classes"]] == ["cell", "rust"]


def test_what_is_in_no_split_is_held_out_in_shares(plain_voc):
    sizes = {split: len(rows) for split, rows in examples(prepared(plain_voc)).items()}
    assert sizes == {"train": 16, "valid": 2, "test": 2}


def test_lists_of_voc_decide_the_splits_and_images_in_none_are_left_out(plain_voc):
    lists = plain_voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name, numbers in {"train": range(10), "val": range(10, 13), "test": range(13, 15), "trainval": range(13)}.items():
        (lists / f"{name}.txt").write_text("".join(f"{number:03}\n" for number in numbers))
    (lists / "cell_train.txt").write_text("000  1\n001 -1\n")
    assert {split: len(rows) for split, rows in examples(prepared(plain_voc)).items()} == {"train": 10, "valid": 3, "test": 2}


def test_one_coco_file_is_divided_and_a_number_of_a_category_is_no_class(tmp_path):
    for number in range(12):
        save(tmp_path / "images" / f"{number}.png", number)
    boxes = [(image, 7, 1, 2, 10, 5) for image in range(12)]
    content = {"categories": [{"id": 7, "name": "zebra"}, {"id": 3, "name": "ant"}]}
    coco(tmp_path / "boxes.json", [f"{number}.png" for number in range(12)], boxes, **content)
    found = prepared(tmp_path)
    assert found.facts["labels"] == ["ant", "zebra"]
    row = found.rows("train")[0]
    assert row["boxes"].tolist() == [[1, 2, 11, 7]] and row["classes"].tolist() == [1]
    assert len(found.rows("train")) == 10


@pytest.mark.parametrize("layout", ["annotations", "beside", "folders"])
def test_coco_files_of_each_split_are_told_by_name_or_folder(layout, tmp_path):
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        place = tmp_path / (split if layout == "folders" else f"images/{name}2017" if layout == "annotations" else "images")
        files = [f"{name if layout == 'beside' else ''}{number}.png" for number in range(3)]
        for number, file in enumerate(files):
            save(place / file, len(split) * 10 + number)
        where = {"annotations": f"annotations/instances_{name}2017.json", "beside": f"{name}.json"}
        path = tmp_path / where.get(layout, f"{split}/_annotations.coco.json")
        coco(path, files, [(0, 1, 0, 0, 4, 4), (2, 2, 1, 1, 3, 3)])
    if layout == "annotations":  # as they come with COCO
        (tmp_path / "annotations" / "captions_train2017.json").write_text('{"images": [], "annotations": []}')
        coco(tmp_path / "annotations" / "person_keypoints_train2017.json", ["0.png"], [(0, 1, 0, 0, 4, 4)])
    found = prepared(tmp_path)
    assert {split: len(rows) for split, rows in examples(found).items()} == {"train": 3, "valid": 3, "test": 3}
    for split, rows in examples(found).items():
        assert [row["classes"].tolist() for row in rows] == [[0], [], [1]]
        expected = np.array(Image.open(tmp_path / rows[1]["file"]))
        assert np.array_equal(rows[1]["image"].permute(1, 2, 0).numpy(), expected)
        assert {"train": "train", "valid": "val", "test": "test"}[split][:3] in rows[0]["file"]


def test_a_json_file_may_be_named_itself_and_others_as_valid_and_test(tmp_path):
    for split, count in (("a", 4), ("b", 2), ("c", 1)):
        files = [f"{split}{number}.png" for number in range(count)]
        for number, file in enumerate(files):
            save(tmp_path / "images" / file, ord(split) * 10 + number)
        coco(tmp_path / "marks" / f"{split}.json", files, [(number, 1, 0, 0, 5, 5) for number in range(count)])
    marks = tmp_path / "marks"
    found = prepared(marks / "a.json", valid_path=str(marks / "b.json"), test_path=str(marks / "c.json"))
    assert {split: len(rows) for split, rows in examples(found).items()} == {"train": 4, "valid": 2, "test": 1}


@pytest.mark.parametrize("corners", [(5, 5, 5, 9), (5, 9, 8, 9), (8, 5, 5, 9), (1, 1, float("nan"), 9)])
def test_a_box_without_area_ends_the_run_with_its_file_and_number(corners, plain_voc):
    voc(plain_voc, 7, ("cell", 1, 2, 11, 12), ("dust", *corners))
    with pytest.raises(DataError, match=r"007\.xml: object 1 \('dust'\): .*dataset\.bad_boxes=drop"):
        dataset(plain_voc)


def test_boxes_without_area_may_be_dropped_and_are_counted(plain_voc):
    voc(plain_voc, 7, ("cell", 1, 2, 11, 12), ("dust", 4, 4, 4, 9), ("dust", 4, 4, 9, 3))
    found = prepared(plain_voc, bad_boxes="drop")
    assert any(note.startswith("2 boxes were left out") and "007.xml: object 1" in note for note in found.notes)
    row = next(row for rows in examples(found).values() for row in rows if row["file"].endswith("007.png"))
    assert row["classes"].tolist() == [0]


def test_a_coco_box_without_area_names_its_image(tmp_path):
    save(tmp_path / "a.png", 0)
    coco(tmp_path / "boxes.json", ["a.png"], [(0, 1, 1, 1, 5, 5), (0, 2, 3, 3, 0, 4)])
    with pytest.raises(DataError, match=r"boxes\.json: annotation 1 of a\.png \('dust'\): it is 0 wide"):
        dataset(tmp_path)


def test_a_class_the_model_does_not_know_ends_the_run_or_is_dropped(plain_voc):
    with pytest.raises(DataError, match=r"001\.xml: object 1 \('dust'\): none of the 1 known classes: cell"):
        prepared(plain_voc, labels=["cell"])
    found = prepared(plain_voc, labels=["dirt", "cell"], bad_boxes="drop")
    assert {label for rows in examples(found).values() for row in rows for label in row["classes"].tolist()} == {1}
    assert found.facts["labels"] == ["dirt", "cell"]


def test_boxes_beyond_the_border_are_cut_and_those_outside_are_bad(plain_voc):
    voc(plain_voc, 7, ("cell", -5, 2, 11, 99))
    found = prepared(plain_voc)
    row = next(row for rows in examples(found).values() for row in rows if row["file"].endswith("007.png"))
    assert row["boxes"].tolist() == [[0, 2, 11, 20]] and row["truth"]["boxes"].tolist() == [[-5, 2, 11, 99]]
    assert "1 boxes reach over the border of their image and were cut" in found.notes
    voc(plain_voc, 7, ("cell", 40, 2, 50, 9))
    with pytest.raises(DataError, match=r"007\.xml: object 0 .*lies outside"):
        prepared(plain_voc)


def test_boxes_shrink_with_images_that_are_stored_smaller(plain_voc):
    for number in range(20):
        voc(plain_voc, number, ("cell", 2, 4, 12, 24), height=40, width=60)
    row = prepared(plain_voc, decode_size=10).rows("train")[0]
    assert row["image"].shape == (3, 10, 15)
    assert row["boxes"].tolist() == [[0.5, 1, 3, 6]]
    assert row["truth"]["boxes"].tolist() == [[2, 4, 12, 24]] and row["own_size"] == (40, 60)


def test_crowds_are_not_learned_but_handed_on_to_be_scored_and_counted(tmp_path):
    save(tmp_path / "a.png", 0)
    crowd = {"id": 0, "image_id": 100, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    single = crowd | {"id": 1, "iscrowd": 0, "bbox": [1, 1, 2, 2], "area": 3.5}
    coco(tmp_path / "boxes.json", ["a.png"], [], annotations=[crowd, single])
    found = prepared(tmp_path, valid_fraction=0.0, test_fraction=0.0)
    row = found.rows("train")[0]
    assert row["boxes"].tolist() == [[1, 1, 3, 3]] and row["classes"].tolist() == [0]
    truth = {name: values.tolist() for name, values in row["truth"].items()}
    assert truth == {"boxes": [[0, 0, 9, 9], [1, 1, 3, 3]], "labels": [0, 0], "iscrowd": [1, 0], "area": [0, 3.5]}
    assert found.describe()["boxes"] == {"train": 1}
    assert any("1 boxes of crowds" in note for note in found.notes)


def test_what_voc_marks_as_difficult_is_not_learned_and_does_no_harm_to_scores(plain_voc):
    path = plain_voc / "Annotations" / "003.xml"
    path.write_text(path.read_text().replace("<name>dust</name>", "<name>dust</name><difficult>1</difficult>"))
    found = prepared(plain_voc)
    row = next(row for rows in examples(found).values() for row in rows if row["file"].endswith("003.png"))
    assert row["boxes"].tolist() == [[1, 2, 11, 12]] and row["classes"].tolist() == [0]
    assert row["truth"]["iscrowd"].tolist() == [0, 1] and len(row["truth"]["boxes"]) == 2
    assert any("1 boxes of crowds (iscrowd) or difficult things (difficult) are not learned" in note for note in found.notes)


FAULTS = {
    "no XML": ("Annotations/000.xml", "<annotation>", "not well-formed XML"),
    "another XML": ("Annotations/000.xml", "<gallery/>", "the root is <gallery>"),
    "no numbers": ("Annotations/000.xml", "<annotation><object><name>a</name></object></annotation>", "expected four numbers"),
    "no name": ("Annotations/000.xml", "<annotation><object/></annotation>", "object 0 has no <name>"),
    "entities": ("Annotations/000.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities"),
    "no image": ("Annotations/999.xml", "<annotation><filename>gone.jpg</filename></annotation>", "no image 'gone.jpg'"),
    "no JSON": ("boxes.json", "{", "not valid JSON"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_files_that_are_not_what_they_seem_are_named(case, plain_voc):
    name, content, message = FAULTS[case]
    (plain_voc / name).write_text(content)
    with pytest.raises(DataError, match=message) as found:
        dataset(plain_voc)
    assert name.rpartition("/")[2] in str(found.value)


@pytest.mark.parametrize(
    ("field", "value"), [("category_id", 9), ("image_id", 9), ("bbox", [1, 2, 3]), ("bbox", None), ("area", "5")]
)
def test_a_coco_box_that_points_nowhere_is_named(field, value, tmp_path):
    save(tmp_path / "a.png", 0)
    box = {"id": 0, "image_id": 100, "category_id": 1, "bbox": [0, 0, 9, 9]} | {field: value}
    coco(tmp_path / "boxes.json", ["a.png"], [], annotations=[box])
    with pytest.raises(DataError, match=r"boxes\.json: annotation 0"):
        dataset(tmp_path)


def test_images_that_are_not_as_large_as_is_annotated_are_counted(plain_voc, tmp_path):
    assert not prepared(plain_voc).notes
    told = "<annotation><size><width>{}</width><height>{}</height></size>"
    for number, size in ((1, (30, 20)), (2, (60, 40)), (3, (20, 30)), (4, (0, 0))):
        path = plain_voc / "Annotations" / f"{number:03}.xml"
        path.write_text(path.read_text().replace("<annotation>", told.format(*size)))
    for settings in ({}, {"decode_size": 10}):
        (said,) = [note for note in prepared(plain_voc, **settings).notes if "not as large" in note]
        assert said.startswith(f"2 images are not as large as dataset.path={plain_voc} says, and their boxes may not fit; the")
        assert said.endswith(("002.png is 30 x 20, not 60 x 40", "003.png is 30 x 20, not 20 x 30"))
    image = {"id": 1, "file_name": "a.png", "width": 31, "height": 20}
    save(tmp_path / "coco" / "a.png", 0)
    as_it_is(tmp_path / "coco", [image], [{"id": "b", "name": "cell"}], [ANNOTATION])
    found = prepared(tmp_path / "coco", valid_fraction=0.0, test_fraction=0.0)
    assert any(note.endswith("a.png is 30 x 20, not 31 x 20") for note in found.notes)


ANNOTATION = {"id": 1, "image_id": 1, "category_id": "b", "bbox": [1, 1, 5, 5]}


def as_it_is(folder, images, categories, annotations):
    """A JSON file of these entries."""
    parts = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "boxes.json").write_text(json.dumps(parts))


def test_ids_of_coco_are_anything_and_occur_once(tmp_path):
    save(tmp_path / "a.png", 0)
    images = [{"id": 1, "file_name": "a.png"}]
    categories = [{"id": "b", "name": "cell"}, {"id": 7, "name": "dust"}, {"id": 90, "name": "cell"}]
    as_it_is(tmp_path, images, categories, [ANNOTATION])
    found = prepared(tmp_path, valid_fraction=0.0, test_fraction=0.0)
    assert found.facts["labels"] == ["dust", "cell"] and found.rows("train")[0]["classes"].tolist() == [1]
    as_it_is(tmp_path, images, categories, [ANNOTATION | {"image_id": "1"}])
    with pytest.raises(DataError, match="annotation 0: there is no image with id '1'"):
        dataset(tmp_path)
    as_it_is(tmp_path, [*images, {"id": 1, "file_name": "b.png"}], categories, [ANNOTATION])
    with pytest.raises(DataError, match=r"boxes\.json: a\.png and b\.png of images have the same id, 1"):
        dataset(tmp_path)


def test_a_folder_without_boxes_says_what_was_expected(tmp_path):
    save(tmp_path / "a.png", 0)
    with pytest.raises(
        DataError, match=r"dataset\.path=.*no boxes found; expected XML files as Pascal VOC has them, or COCO's"
    ):
        dataset(tmp_path)


def test_the_fingerprint_notices_a_moved_corner(plain_voc):
    before, again = dataset(plain_voc).fingerprint, dataset(plain_voc).fingerprint
    voc(plain_voc, 3, ("cell", 1, 2, 11, 13))
    assert before == again != dataset(plain_voc).fingerprint


def test_rows_can_be_sent_to_worker_processes(plain_voc):
    rows = prepared(plain_voc).rows("train")
    again = pickle.loads(pickle.dumps(rows))
    assert np.array_equal(again[2]["boxes"], rows[2]["boxes"])


def test_preparing_twice_gives_the_same(plain_voc):
    found = prepared(plain_voc)
    before = [row["boxes"].tolist() for row in found.rows("train")]
    found.prepare(target="boxes", labels=["dust", "cell"])
    assert [row["boxes"].tolist() for row in found.rows("train")] == before
    assert found.facts["labels"] == ["dust", "cell"]


def test_images_to_predict_on_keep_their_size(plain_voc):
    reader = type(dataset(plain_voc)).reader({"decode_size": 10, "channels": None}, {"image": None}, {"channels": 1})
    (name, example), *_ = reader.read(str(plain_voc / "JPEGImages"))
    assert name == "000.png" and example["image"].shape == (1, 20, 30) and "boxes" not in example


def test_the_shipped_blood_cells_are_whole():
    found = prepared("sample:blood_cells")
    assert found.facts["labels"] == ["Platelets", "RBC", "WBC"] and not found.notes
    assert {split: len(rows) for split, rows in examples(found).items()} == {"train": 20, "valid": 5, "test": 5}
    assert found.describe()["boxes"] == {"train": 266, "valid": 67, "test": 52}
