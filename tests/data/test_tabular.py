"""Tables as datasets: splits, targets, statistics of the training rows, and mistakes named in one line."""

import gzip
import json
import math
from datetime import date

import numpy as np
import pytest

from ptft.data.columns import odd
from ptft.data.tabular import Tabular
from ptft.errors import DataError, UserError

SETTINGS = {
    "features": None,
    "categorical": None,
    "target": None,
    "valid_path": None,
    "test_path": None,
    "valid_fraction": 0.2,
    "test_fraction": 0.2,
    "split_seed": 0,
    "per_class": None,
}
ROWS = [
    {"age": 20 + index % 37, "height": round(150 + 7 * math.sin(index), 2), "city": ("Rome", "Bonn", "Oslo")[index % 3]}
    | {"sick": ("no", "yes")[index % 5 == 0], "cost": 2.5 * index, "a": index % 2, "b": int(index % 3 == 0)}
    for index in range(100)
]
ANSWERS = ["sick", "cost", "a", "b"]


@pytest.fixture
def write(tmp_path):
    """A csv file of rows: write("x.csv", rows) -> its path."""

    def make(name: str, rows: list[dict]) -> str:
        lines = [",".join(rows[0]), *(",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return make


@pytest.fixture
def table(write):
    """A prepared table: table(rows, target of the task, settings) of a csv file."""

    def make(rows=ROWS, aim=None, name="table.csv", inputs=None, labels=None, **settings) -> Tabular:
        settings.setdefault("features", ["age", "height", "city"] if "city" in rows[0] else None)
        dataset = Tabular(write(name, rows), **(SETTINGS | settings), inputs=inputs)
        dataset.prepare(target=aim, labels=labels)
        return dataset

    return make


def changed(number: int, **cells) -> list[dict]:
    """The rows with some cells of one of them replaced."""
    return [row | cells if index == number else row for index, row in enumerate(ROWS)]


def everything(dataset: Tabular) -> list[dict]:
    return [row for split in ("train", "valid", "test") for row in dataset.rows(split) or ()]


def test_features_are_standardised_by_the_training_rows_alone(table):
    dataset = table()
    train, valid = dataset.rows("train"), dataset.rows("valid")
    assert (len(train), len(valid), len(dataset.rows("test"))) == (60, 20, 20)
    np.testing.assert_allclose(train.features[:, :2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.features[:, :2].std(0), 1, atol=1e-5)
    assert abs(valid.features[:, :2].mean()) > 1e-3
    assert set(np.unique(train.features[:, 2:])) == {0, 1}
    assert dataset.facts["input_shape"] == [5] == list(train[0]["features"].shape)


@pytest.mark.parametrize(
    ("aim", "target", "facts"),
    [
        ("class", "sick", {"num_classes": 2, "labels": ["no", "yes"]}),
        ("number", "cost", {"target_mean", "target_std"}),
        ("classes", ["a", "b"], {"num_classes": 2, "labels": ["a", "b"]}),
        (None, None, {}),
    ],
)
def test_targets_of_every_kind_belong_to_their_rows(aim, target, facts, table):
    dataset = table(aim=aim, target=target)
    assert set(facts) <= set(dataset.facts)
    assert all(dataset.facts[name] == facts[name] for name in facts if isinstance(facts, dict))
    stored = {column["name"]: column for column in dataset.inputs["columns"]}
    truth = {(row["age"], row["height"]): row for row in ROWS}
    for example in everything(dataset):
        age, height = (
            example["features"][i] * stored[name]["std"] + stored[name]["mean"] for i, name in enumerate(stored) if i < 2
        )
        row = next(row for key, row in truth.items() if np.allclose(key, (age, height), atol=1e-3))
        if aim == "class":
            assert dataset.facts["labels"][example["label"]] == row["sick"]
        elif aim == "number":
            assert example["label"] == row["cost"]
        elif aim == "classes":
            assert example["label"].dtype == np.uint8 and example["label"].tolist() == [row["a"], row["b"]]
        else:
            assert "label" not in example


def test_mean_and_deviation_of_numbers_are_those_of_the_training_rows(table):
    dataset = table(aim="number", target="cost")
    labels = [row["label"] for row in dataset.rows("train")]
    assert dataset.facts["target_mean"] == pytest.approx(np.mean(labels))
    assert dataset.facts["target_std"] == pytest.approx(np.std(labels))


@pytest.mark.parametrize(("target", "type_"), [("sick", int), ("cost", float)])
def test_pretraining_keeps_labels_where_the_table_has_them(target, type_, table):
    dataset = table(target=target)
    assert all(isinstance(row["label"], type_) for row in everything(dataset))
    dataset = table(changed(7, **{target: None}), target=target, name="gaps.csv")
    assert not any("label" in row for row in everything(dataset))


def test_the_order_of_the_file_decides_nothing(table):
    first, second = table(), table(ROWS[::-1], name="reversed.csv")
    assert first.inputs == second.inputs
    for split in ("train", "valid", "test"):
        found = [sorted(map(tuple, dataset.rows(split).features.tolist())) for dataset in (first, second)]
        assert found[0] == found[1]


def test_equal_rows_stay_together(table):
    dataset = table(ROWS[:30] * 3)
    sides = [{tuple(row["features"]) for row in dataset.rows(split)} for split in ("train", "valid", "test")]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_files_of_their_own_are_the_splits(table, write):
    dataset = table(ROWS[:60], valid_path=write("v.csv", ROWS[60:80]), test_path=write("t.csv", ROWS[80:]))
    assert [len(dataset.rows(split)) for split in ("train", "valid", "test")] == [60, 20, 20]


def test_few_labels_are_drawn_class_by_class(table):
    dataset = table(aim="class", target="sick", per_class=5)
    labels = [row["label"] for row in dataset.rows("train")]
    assert sorted(labels) == [0] * 5 + [1] * 5
    with pytest.raises(UserError, match="dataset.per_class=5"):
        table(aim="number", target="cost", per_class=5)


def test_all_columns_but_the_target_are_features_unless_some_are_named(table):
    assert [c["name"] for c in table(target="cost", features=None).inputs["columns"]] == [n for n in ROWS[0] if n != "cost"]
    assert [c["name"] for c in table(features=["city", "age"]).inputs["columns"]] == ["city", "age"]


def test_columns_with_words_and_those_named_so_are_categories(table):
    kinds = {c["name"]: c["kind"] for c in table(features=["age", "city", "b"], categorical=["city", "b"]).inputs["columns"]}
    assert kinds == {"age": "number", "city": "category", "b": "category"}
    assert {c["name"]: c["kind"] for c in table().inputs["columns"]}["city"] == "category"


def test_naming_some_categories_leaves_words_the_categories_that_they_are(table):
    dataset = table(features=["age", "city", "sick", "b"], categorical=["b"])
    kinds = {column["name"]: column["kind"] for column in dataset.inputs["columns"]}
    assert kinds == {"age": "number", "city": "category", "sick": "category", "b": "category"}


def test_gaps_and_strangers_are_noted_and_harmless(table, write):
    valid = [{"age": None, "height": 150, "city": "Lima"}, {"age": 30, "height": "NA", "city": None}]
    dataset = table(changed(3, age=None), valid_path=write("v.csv", valid), test_fraction=0.0)
    rows = dataset.rows("valid").features
    assert rows[0, 0] == 0 and rows[1, 1] == 0
    assert rows[0, 2:].tolist() == [0, 0, 0] and rows[1, 2:].tolist() == [0, 0, 0]
    said = " ".join(dataset.notes)
    assert "train: 1 cells (1 in 'age') missing" in said
    assert "valid: 3 cells" in said and "valid: 2 cells (2 in 'city') in a category that" in said


@pytest.mark.parametrize(("aim", "target", "gaps"), [("class", "sick", ["", " "]), ("number", "cost", ["", "NA", "nan"])])
def test_rows_without_an_answer_are_as_if_they_were_not_there(aim, target, gaps, table):
    holes = {index: gaps[index % len(gaps)] for index in range(3, 100, 9)}
    whole = table([row for index, row in enumerate(ROWS) if index not in holes], aim, target=target)
    holed = table(
        [row | ({target: holes[index]} if index in holes else {}) for index, row in enumerate(ROWS)], aim, target=target
    )
    assert [row["label"] for row in everything(holed)] == [row["label"] for row in everything(whole)]
    for one, other in zip(everything(holed), everything(whole), strict=True):
        assert one["features"].tolist() == other["features"].tolist()
    (said,) = [note for note in holed.notes if "left out" in note]
    assert said.startswith(f"dataset.target={target}: 11 of 100 rows have nothing in it and were left out; the first is ")
    assert said.endswith("table.csv:5") and holed.facts == whole.facts


def test_without_a_task_rows_without_an_answer_stay(table):
    assert len(everything(table(changed(4, sick=None), target="sick"))) == 100


def test_many_classes_that_are_numbers_are_said_to_look_like_numbers(table):
    dataset = table([row | {"cost": index % 25 + 0.5} for index, row in enumerate(ROWS * 10)], "class", target="cost")
    said = "25 classes, all of them numbers: if one is more than another, use task=regress"
    assert f"dataset.target=cost: {said}" in dataset.notes
    assert not [note for note in table(aim="class", target="b", name="few.csv").notes if "regress" in note]


def test_a_class_may_be_called_none(table):
    dataset = table([row | {"sick": "none" if row["sick"] == "no" else "flu"} for row in ROWS], "class", target="sick")
    assert dataset.facts["labels"] == ["flu", "none"] and len(everything(dataset)) == 100
    assert "dataset.target=sick: 80 rows are 'none', a class like any other" in dataset.notes


@pytest.mark.parametrize(
    ("cells", "look"),
    [
        (["2020-01-31", "2021-12-01", ""], "dates, as '2020-01-31'"),
        (["31.01.2020", "1/2/99", "2020/1/31"], "dates, as '1/2/99'"),
        (["5%", "12.5 %"], "numbers with a percent sign, as '12.5 %'"),
        (["$5", "12 €"], "numbers with a sign of money, as '$5'"),
        (["900", "1,965", "12,345.6"], "numbers with commas, as '1,965'"),
        (["3,14", "-2,0", "1.234,5", "NA"], "numbers with commas, as '-2,0'"),
        (["30-39", "40-49"], None),
        (["1,965", "many"], None),
        (["5", "6"], None),
    ],
)
def test_words_that_look_like_numbers_or_dates_are_noted(cells, look, table):
    assert odd(cells) == look
    rows = [row | {"x": f'"{cells[index % len(cells)]}"'} for index, row in enumerate(ROWS)]
    said = [note for note in table(rows, features=["age", "x"]).notes if "column 'x'" in note]
    assert said == ([f"column 'x' holds {look}, which count as words, not as numbers"] if look else [])


def test_a_column_that_is_left_out_is_noted_once(table):
    rows = [row | {"x": f'"{index},5"'} for index, row in enumerate(ROWS)]
    said = [note for note in table(rows, features=None, target="sick", aim="class").notes if "column 'x'" in note]
    assert said == ["column 'x' holds numbers with commas, as '0,5', which count as words, not as numbers: left out"]


@pytest.mark.parametrize("name", ["id", "Id", "ID", "PassengerId", "customerID", "row_id", "tweet id", "index", "uid"])
def test_what_names_the_rows_is_no_feature_and_keeps_equal_rows_together(name, table):
    plain = table(ROWS * 2, features=None, name="plain.csv")
    numbered = table([{name: 1000 + index} | row for index, row in enumerate(ROWS * 2)], features=None)
    assert [note for note in numbered.notes if name in note] == [
        f"column '{name}' names the rows, each by another: left out (dataset.features keeps it)"
    ]
    for one, other in zip(everything(plain), everything(numbered), strict=True):
        assert np.array_equal(one["features"], other["features"])
    kept = table([{name: 1000 + index} | row for index, row in enumerate(ROWS)], features=[name, "age"])
    assert kept.facts["input_shape"] == [2]
    assert not kept.notes


@pytest.mark.parametrize(("name", "share"), [("paid", 1), ("store_id", 2)])
def test_a_column_that_is_called_otherwise_or_repeats_itself_is_a_feature(name, share, table):
    rows = [row | {name: index // share} for index, row in enumerate(ROWS)]
    assert name in [column["name"] for column in table(rows, features=None).inputs["columns"]]


def test_a_checkpoints_columns_are_read_in_just_its_way(table):
    first = table()
    shifted = [row | {"age": row["age"] + 1000, "extra": index} for index, row in enumerate(ROWS)]
    second = table(
        shifted, name="other.csv", inputs=json.loads(json.dumps(first.inputs)), features=None, target="cost", aim="number"
    )
    assert second.inputs == first.inputs and second.facts["input_shape"] == [5]
    assert second.rows("train").features[:, 0].min() > 50


def test_known_classes_keep_their_order_and_others_are_refused(table):
    dataset = table(aim="class", target="sick", labels=["yes", "no", "maybe"])
    assert dataset.facts["labels"] == ["yes", "no", "maybe"]
    with pytest.raises(DataError, match="label 'no' is none of the 1 known ones"):
        table(aim="class", target="sick", labels=["yes"])
    with pytest.raises(DataError, match="the checkpoint answers b, a"):
        table(aim="classes", target=["a", "b"], labels=["b", "a"])


def test_a_column_that_says_nothing_is_left_out_and_noted(table):
    rows = [row | {"planet": "earth", "zero": 0, "name": f"patient {index}"} for index, row in enumerate(ROWS)]
    dataset = table(rows, features=None, target=ANSWERS, name="more.csv")
    assert [c["name"] for c in dataset.inputs["columns"]] == ["age", "height", "city"]
    said = " ".join(dataset.notes)
    for name in ("planet", "zero", "name"):
        assert f"column '{name}'" in said
    kept = table(rows, features=["age", "name"], name="more.csv")
    assert kept.facts["input_shape"][0] > 50


def test_dates_of_a_parquet_file_are_the_texts_that_they_are_in_csv(tmp_path):
    import pyarrow
    from pyarrow import parquet

    days = [date(2024, 1 + number % 3, 1) for number in range(60)]
    rows = [{"day": day, "size": float(number), "kind": "ab"[number % 2]} for number, day in enumerate(days)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    text = "".join(f"{row['day'].isoformat()},{row['size']},{row['kind']}\n" for row in rows)
    (tmp_path / "t.csv").write_text("day,size,kind\n" + text)
    found = [Tabular(str(tmp_path / name), **SETTINGS | {"target": "kind"}) for name in ("t.parquet", "t.csv")]
    for table in found:
        table.prepare(target="class")
    assert found[0].inputs == found[1].inputs
    assert found[0].inputs["columns"][0]["categories"] == ["2024-01-01", "2024-02-01", "2024-03-01"]


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_features(form, tmp_path, table):
    expected = table(target="sick", aim="class")
    path = tmp_path / f"same.{form}"
    names, lines = list(ROWS[0]), [list(map(str, row.values())) for row in ROWS]
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif form == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        text = "\n".join(("\t" if form == "tsv" else ",").join(line) for line in [names, *lines])
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    settings = SETTINGS | {"features": ["age", "height", "city"], "target": "sick"}
    dataset = Tabular(str(path), **settings)
    dataset.prepare(target="class")
    assert dataset.inputs == expected.inputs
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(dataset.rows(split).features, expected.rows(split).features)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "sickness"}, "dataset.target=sickness: .* no such column; did you mean 'sick'"),
        ({"features": ["aeg"]}, "dataset.features=aeg: .* did you mean 'age'"),
        ({"features": ["age"], "target": "age"}, "dataset.target=age is one of dataset.features"),
        ({"features": ["age", "age"]}, "dataset.features names 'age' twice"),
        ({"categorical": ["cost"]}, "dataset.categorical: column 'cost' is not one of the features"),
        ({"aim": "class"}, "dataset.target must name the column to learn"),
        ({"aim": "class", "target": ["a", "b"]}, r"dataset.target=\[a,b\]: this task learns one column"),
        ({"aim": "class", "target": "cost"}, "different labels in 60 training rows; these are numbers: use task=regress"),
        ({"aim": "number", "target": "sick"}, "column 'sick' is 'yes', expected a finite number"),
        ({"aim": "classes", "target": ["a", "age2"]}, "dataset.target=age2"),
        ({"aim": "classes", "target": ["a", "cost"]}, "column 'cost' is '2.5', expected 0 or 1"),
    ],
)
def test_wrong_settings_are_answered_in_one_line(settings, said, table):
    with pytest.raises(UserError, match=said) as refusal:
        table(**settings)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        (changed(4, height="inf"), {}, "table.csv:6: column 'height' is inf, expected a number of at most 3.4e"),
        (
            [row | {"sick": None if index % 2 or index < 4 else "no"} for index, row in enumerate(ROWS)],
            {"aim": "class", "target": "sick"},
            "dataset.target=sick: 52 of 100 rows have nothing in it, the first is .*table.csv:2; expected at least half",
        ),
        (changed(4, a=None), {"aim": "classes", "target": ["a", "b"]}, "table.csv:6: column 'a' is '', expected 0 or 1"),
        (changed(4, height="tall"), {}, "table.csv:6: column 'height' is 'tall', expected a number"),
        (changed(4, height="tall"), {"categorical": ["city"]}, "table.csv:6: column 'height' is 'tall', expected a number"),
        (
            changed(4, a="x"),
            {"features": ["a", "b"], "categorical": ["b"]},
            "table.csv:6: column 'a' is 'x', expected a number",
        ),
        ([row | {"sick": "no"} for row in ROWS], {"aim": "class", "target": "sick"}, "all 60 training rows are 'no'"),
        ([{"x": 1, "y": row["cost"]} for row in ROWS], {"target": "y"}, "no column is left .* column 'x' is the same"),
        ([{"y": row["cost"]} for row in ROWS], {"target": "y"}, "no column is left to learn from"),
    ],
)
def test_wrong_tables_are_answered_with_the_place(rows, settings, said, table):
    with pytest.raises(DataError, match=said):
        table(rows, **settings)


def test_a_column_that_appears_twice_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match="column 'a' appears twice"):
        Tabular(str(tmp_path / "x.csv"), **SETTINGS)


def test_a_split_without_a_needed_column_is_named(table, write):
    with pytest.raises(DataError, match="v.csv: no column 'height'"):
        table(valid_path=write("v.csv", [{"age": 1, "city": "Rome"}]))


def test_a_checkpoints_column_that_lacks_is_named(table):
    inputs = table().inputs
    with pytest.raises(DataError, match="no column 'city', which the checkpoint reads; columns: age, height"):
        table([{"age": 1, "height": 2}, {"age": 2, "height": 3}], features=None, inputs=inputs, name="less.csv")
    with pytest.raises(UserError, match="the checkpoint reads age, height, city"):
        table(features=["age"], inputs=inputs)
    with pytest.raises(UserError, match="dataset.target=age is one of the features that the checkpoint reads"):
        table(features=None, target="age", inputs=inputs)


def test_columns_named_in_vain_do_not_keep_a_checkpoint_from_being_read(table):
    rows = [row | {"planet": "earth", "blank": None} for row in ROWS]
    named = {"features": ["age", "city", "planet", "blank"], "categorical": ["planet"]}
    inputs = json.loads(json.dumps(table(rows, **named).inputs))
    for others in (rows, ROWS, [row | {"planet": index, "blank": 1} for index, row in enumerate(ROWS)]):
        assert table(others, inputs=inputs, **named).inputs == inputs
    for features in (["age"], ["age", "city", "height"], ["planet"]):
        with pytest.raises(UserError, match="the checkpoint reads age, city; leave dataset.features out"):
            table(rows, inputs=inputs, features=features)
    with pytest.raises(UserError, match="column 'height' is not one of the features"):
        table(rows, inputs=inputs, features=None, categorical=["height"])


def test_rows_to_predict_on_are_read_by_the_checkpoint_alone(table, write):
    dataset = table(target="sick", aim="class")
    reader = Tabular.reader({}, dataset.columns, json.loads(json.dumps(dataset.inputs)))
    rows = [{"id": f"p{index}", **row} for index, row in enumerate(ROWS[:5])]
    found = list(reader.read(write("new.csv", rows)))
    assert [name for name, _ in found] == ["p0", "p1", "p2", "p3", "p4"]
    known = {tuple(row["features"].round(4)) for row in everything(dataset)}
    assert all(tuple(example["features"].round(4)) in known for _, example in found)
    assert [name for name, _ in reader.read(write("plain.csv", ROWS[:2]))] == [0, 1]
    assert not any(example["told"] for _, example in found)
    holed = [ROWS[0] | {"age": None}, ROWS[0] | {"city": "Lima"}]
    gap, stranger = [example["told"] for _, example in reader.read(write("holed.csv", holed))]
    assert len(gap) == len(stranger) == 1 and "empty cells" in gap[0] and "do not have" in stranger[0]
    with pytest.raises(DataError, match="no field 'city'"):
        list(reader.read(write("less.csv", [{"age": 1, "height": 2}])))


def test_the_fingerprint_follows_bytes_and_settings(table):
    same = table().fingerprint
    assert table(name="copy.csv").fingerprint == same
    assert table(changed(3, age=99), name="other.csv").fingerprint != same
    assert table(split_seed=1).fingerprint != same and table(features=["age"]).fingerprint != same


@pytest.mark.parametrize(("name", "aim", "rows"), [("diabetes", "number", 442), ("breast_cancer", "class", 569)])
def test_the_tables_that_ship_are_whole(name, aim, rows):
    target = {"number": "target", "class": "diagnosis"}[aim]
    dataset = Tabular(f"sample:{name}.csv.gz", **(SETTINGS | {"target": target}))
    dataset.prepare(target=aim)
    assert len(everything(dataset)) == rows and dataset.notes == []
