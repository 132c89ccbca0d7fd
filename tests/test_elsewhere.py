"""Which texts name weights from elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ptft import elsewhere
from ptft.errors import UserError


@pytest.mark.parametrize("text", ["runs/a", "/tmp/hf:x/y", "RUN/best", "a b:c", "Hf:x"])
def test_a_path_is_none(text):
    assert elsewhere.split(text) is None


def test_a_folder_of_such_a_name_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf:mine").mkdir()
    assert elsewhere.split("hf:mine") is None
    assert elsewhere.split("hf:yours") == ("hf", "yours")


@pytest.mark.parametrize(
    ("text", "told"), [("hff:bert", "there is no scheme 'hff:'; did you mean 'hf'"), ("hf:", "hf: names nothing")]
)
def test_a_slip_is_refused_in_one_line(text, told):
    with pytest.raises(UserError, match=told):
        elsewhere.split(text)


def test_knowing_a_scheme_needs_no_torch():
    code = "import sys; from ptft.elsewhere import split; split('hf:x'); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
