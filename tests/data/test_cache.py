"""The cache of encoded data: whole or not at all."""

import json
import os
import subprocess
import sys

import pytest

from ptft.data.cache import cached
from ptft.errors import MachineError


@pytest.fixture
def build():
    """Fills a folder with a file, and counts how often."""

    def fill(folder):
        fill.calls += 1
        (folder / "data.bin").write_bytes(bytes(range(200)))
        return {"rows": 3}

    fill.calls = 0
    return fill


def test_what_was_built_is_found_again(build):
    first = cached("a", build, [])
    assert cached("a", build, []) == first
    assert build.calls == 1
    assert first[1] == {"rows": 3}


def test_files_in_folders_below_count_too(build):
    def fill(folder):
        (folder / "below").mkdir()
        build(folder / "below")
        return {}

    folder, _ = cached("deep", fill, [])
    assert (folder / "below" / "data.bin").stat().st_size == 200
    (folder / "below" / "data.bin").write_bytes(b"")
    cached("deep", fill, [])
    assert build.calls == 2


def damage_content(folder):
    content = bytearray((folder / "data.bin").read_bytes())
    content[77] ^= 4
    (folder / "data.bin").write_bytes(content)


def damage_facts(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"rows": 3', '"rows": 4'))


DAMAGE = {
    "flipped bit": damage_content,
    "cut short": lambda folder: os.truncate(folder / "data.bin", 50),
    "file gone": lambda folder: (folder / "data.bin").unlink(),
    "other facts": damage_facts,
    "cut manifest": lambda folder: os.truncate(folder / "manifest.json", 30),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "manifest of another kind": lambda folder: (folder / "manifest.json").write_text(json.dumps([1])),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_built_again(name, build):
    folder, _ = cached("a", build, [])
    DAMAGE[name](folder)
    again, facts = cached("a", build, [])
    assert (build.calls, again, facts) == (2, folder, {"rows": 3})
    assert (folder / "data.bin").read_bytes() == bytes(range(200))


def test_a_failed_build_leaves_nothing(own_cache):
    def fail(folder):
        (folder / "half").write_text("x")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        cached("a", fail, [])
    assert not list(own_cache.iterdir())


def test_a_full_disk_is_the_machines_fault(build):
    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match="no room for encoded data"):
        cached("a", full, [])


def test_what_a_killed_process_left_is_swept_away(build, own_cache):
    script = (
        "import os, signal; from ptft.data.cache import cached\n"
        "cached('a', lambda folder: os.kill(os.getpid(), signal.SIGKILL), [])"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list(own_cache.glob(".tmp-*"))) == 1
    cached("a", build, [])
    assert [item.name for item in own_cache.iterdir()] == ["a-1"]


def test_an_unwritable_cache_is_replaced_by_a_temporary_one_and_said(build, own_cache, monkeypatch):
    own_cache.write_text("a file where the folder should be")
    notes = []
    folder, _ = cached("a", build, notes)
    assert (folder / "data.bin").exists()
    assert "cannot be written" in notes[0]


def test_the_folder_another_process_finished_first_is_kept(build):
    def build_slowly(folder):
        facts = build(folder)
        cached("a", build, [])  # meanwhile, elsewhere
        return facts

    folder, facts = cached("a", build_slowly, [])
    assert facts == {"rows": 3}
    assert [item.name for item in folder.parent.iterdir()] == ["a-1"]
