from __future__ import annotations

import os

import pytest

from ptft.data.splits import held_out
from ptft.errors import UserError


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A folder in which rows.csv has other names too, and more.csv is another file."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "more.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    os.symlink("rows.csv", "link.csv")
    return tmp_path


@pytest.mark.parametrize("name", ["rows.csv", "./rows.csv", "link.csv", "{folder}/rows.csv", "../{folder.name}/rows.csv"])
def test_one_file_for_two_splits_is_refused_however_it_is_written(name, rows):
    name = name.format(folder=rows)
    for split, paths in (("valid", (name, None)), ("test", (None, name))):
        with pytest.raises(UserError, match=rf"^dataset\.{split}_path=.* is the training file; .*$"):
            held_out("rows.csv", *paths, 0.1, 0.1)
    with pytest.raises(UserError, match=r"^dataset\.test_path=rows\.csv is the validation file; .*$"):
        held_out("more.csv", name, "".join(["rows", ".csv"]), 0.1, 0.1)


def test_files_of_their_own_and_what_are_no_files_pass(rows):
    assert held_out("rows.csv", "more.csv", None, 0.1, 0.1) == (0.0, 0.0)
    assert held_out("rows.csv", "more.csv", "missing.csv", 0.1, 0.1) == (0.0, 0.0)
    assert held_out(["rows.csv"], ["more.csv"], None, 0.1, 0.1) == (0.0, 0.0)
    assert held_out("fashion", None, "own", 0.1, 0.1) == (0.1, 0.0)
