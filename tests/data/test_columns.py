"""Columns as features, against pandas-like reading by hand and scikit-learn's scalers."""

import math
from datetime import date

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ptft.data.columns import READ, Category, Features, Number, category_cell, is_number, number_cell
from ptft.errors import DataError

WORDS = ["b", "a", "", "a", "c"]


def test_numbers_are_standardised_as_scikit_learn_does_and_gaps_become_the_mean():
    known = np.random.default_rng(0).normal(50, 7, size=20)
    column = Number.learn("x", [*known, math.nan])
    scaler = StandardScaler().fit(known[:, None])
    others = [3.0, 50.0, math.nan]
    expected = [*scaler.transform([[3.0], [50.0]])[:, 0], 0.0]
    np.testing.assert_allclose(column.encode(others)[:, 0], expected)
    assert column.missing(others) == 1


def test_categories_are_one_hot_as_scikit_learn_does_and_strangers_are_none_of_them():
    column = Category.learn("x", WORDS)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(np.array(WORDS)[:, None])
    others = ["c", "never", "", "a"]
    np.testing.assert_array_equal(column.encode(others), encoder.transform(np.array(others)[:, None]))
    assert column.unseen(others) == 1 and column.missing(others) == 1


@pytest.mark.parametrize(
    ("known", "others"), [(["1", "2"], ["1.0", "2.0"]), (["1.0", "2.0"], ["1", "2"]), (["False", "True"], ["false", "TRUE"])]
)
def test_a_category_is_known_however_another_format_spells_it(known, others):
    column = Category.learn("x", known)
    np.testing.assert_array_equal(column.encode(others), column.encode(known))
    assert column.unseen(others) == 0


def test_a_category_that_is_spelt_as_another_of_its_column_keeps_its_own_feature():
    column = Category.learn("x", ["1", "1.0", "2"])
    np.testing.assert_array_equal(column.encode(["1", "1.0", "2", "2.0", "3"]), np.eye(4, 3)[[0, 1, 2, 2, 3]])


def test_a_truth_value_of_a_text_file_is_the_number_it_is_in_other_formats():
    assert [READ["number"](cell, "file:1", "x") for cell in ("True", "false", " TRUE ", True, False)] == [1, 0, 1, 1, 0]


@pytest.mark.parametrize("cells", [[2.0, 2.0, math.nan], [math.nan, math.nan]])
def test_numbers_that_are_all_equal_teach_nothing(cells):
    assert Number.learn("x", cells) is None


def test_a_single_category_teaches_nothing_but_a_gap_is_one_of_its_own():
    assert Category.learn("x", ["a", "a"]) is None
    assert Category.learn("x", ["a", ""]).categories == ("", "a")


@pytest.mark.parametrize("cell", ["", " ", "NA", "nan", "?", "NULL", None, math.nan])
def test_what_stands_for_nothing_is_missing(cell):
    assert math.isnan(number_cell(cell, "file:1", "x"))


@pytest.mark.parametrize(("cell", "value"), [("1e3", 1000), (" -2.5 ", -2.5), (True, 1), (7, 7)])
def test_numbers_come_in_many_forms(cell, value):
    assert number_cell(cell, "file:1", "x") == value


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("inf", "file:7: column 'x' is inf, expected a number"),
        (-math.inf, "file:7: column 'x' is -inf, expected a number"),
        ("1_1", "'1_1', expected a number"),
        ("12 kg", "'12 kg', expected a number; dataset.categorical=\\[x\\]"),
        ([1], "a list, expected a number"),
    ],
)
def test_what_is_no_number_is_named_with_its_place(cell, said):
    with pytest.raises(DataError, match=said):
        number_cell(cell, "file:7", "x")


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1, "1"), (1.0, "1"), (" a ", "a"), (None, ""), (math.nan, ""), (1.5, "1.5"), (date(2020, 1, 31), "2020-01-31")],
)
def test_a_category_reads_the_same_from_every_format(cell, text):
    assert category_cell(cell, "file:1", "x") == text


def test_a_cell_with_an_underscore_is_no_number():
    assert not is_number("1_1") and is_number("11")


def test_a_list_is_no_category():
    with pytest.raises(DataError, match="holds a list"):
        category_cell([1], "file:1", "x")


@pytest.fixture
def features():
    return Features((Number("age", 40.0, 10.0), Category("city", ("", "Bonn", "Rome"))))


def test_features_stand_side_by_side_in_the_order_of_the_columns(features):
    found = features.encode({"city": ["Rome", "Oslo"], "age": np.array([60.0, math.nan])})
    assert found.dtype == np.float32 and found.tolist() == [[2, 0, 0, 1], [0, 0, 0, 0]]
    assert features.width == 4


def test_what_a_checkpoint_keeps_makes_the_same_features(features):
    assert Features.stored(features.inputs) == features
    for wrong in ({}, {"channels": 3}, {"columns": [{"kind": "smell", "name": "x"}]}):
        with pytest.raises(DataError, match="not trained on a table"):
            Features.stored(wrong)


def test_notes_count_gaps_and_strangers_by_column(features):
    said = features.notes({"age": np.array([math.nan, 1.0, math.nan]), "city": ["", "Oslo", "Rome"]})
    assert said[0].startswith("3 cells (2 in 'age', 1 in 'city') missing")
    assert said[1].startswith("1 cells (1 in 'city') in a category")
    assert features.notes({"age": np.array([1.0]), "city": ["Rome"]}) == []
