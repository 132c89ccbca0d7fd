import math

import pytest

from ptft.errors import CheckpointError
from ptft.exactjson import dump, load


def test_floats_come_back_to_the_last_bit():
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2.0]
    again = load(dump(values), "here")
    assert [value.hex() for value in again] == [value.hex() for value in values]


def test_infinities_and_nan_come_back_though_json_has_no_word_for_them():
    text = dump({"best": math.inf, "worst": -math.inf, "none": math.nan})
    assert b"NaN" not in text and b"Infinity" not in text
    again = load(text, "here")
    assert again["best"] == math.inf and again["worst"] == -math.inf and math.isnan(again["none"])


def test_text_that_looks_like_a_number_stays_text():
    assert load(dump(["inf", "nan", "1"]), "here") == ["inf", "nan", "1"]


def test_equal_values_are_equal_bytes_whatever_their_order():
    assert dump({"b": 1, "a": (1, 2)}) == dump({"a": [1, 2], "b": 1})


@pytest.mark.parametrize("value", [object(), {1: "one"}, {1, 2}, b"bytes"])
def test_what_json_would_bend_or_drop_is_refused_by_place(value):
    with pytest.raises(CheckpointError, match=r"state\.inner\[0\]"):
        dump({"inner": [value]})


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"1e999", b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b"9" * 5000])
def test_anything_else_is_refused(text):
    with pytest.raises(CheckpointError, match="here: not valid JSON"):
        load(text, "here")
