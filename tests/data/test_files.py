"""Which files a path means, and what is said of one that cannot be looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptft.data.files import find_files
from ptft.errors import DataError


def test_a_folder_means_all_files_of_known_formats_below_it_but_hidden_ones(tmp_path):
    for name in ("b.csv", "a/c.txt.gz", "a/d.PNG", ".git/e.txt", "a/.f.txt", "g"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert find_files(str(tmp_path), "dataset.path") == [tmp_path / "a" / "c.txt.gz", tmp_path / "b.csv"]


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^dataset\.path=x{100}: File name too long$"):
        find_files("x" * 300, "dataset.path")


def test_a_folder_with_something_that_may_not_be_looked_at_is_refused_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    ask = Path.is_file

    def denied(path):
        if path.name == "a.txt":
            raise PermissionError(13, os.strerror(13), str(path))
        return ask(path)

    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(DataError) as refused:
        find_files(str(tmp_path), "dataset.path")
    assert str(refused.value) == f"dataset.path={tmp_path}: {tmp_path / 'a.txt'}: cannot be read (Permission denied)"
