"""Where checkpoints lie, and what their configuration may say."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from ptft.checkpoint import save
from ptft.errors import CheckpointError, UserError
from ptft.locate import locate, read_yaml, saved_config
from ptft.manifest import read_manifest

CONFIG = "model: {_target_: ptft.models.gpt.GPT, dim: 32}\n"


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with three checkpoints; the one with the highest step was not saved last."""
    for step in (100, 300, 200):
        save(tmp_path / "bert" / "checkpoints", step, {}, {}, CONFIG, {}, {})
    point(tmp_path / "bert", "last", "step-0000000200")
    point(tmp_path / "bert", "best", "step-0000000100")
    return tmp_path / "bert"


def point(run: Path, pointer: str, text: str) -> None:
    (run / "checkpoints" / pointer).write_text(text + "\n")


def test_a_run_means_its_best_checkpoint(run):
    assert locate(run).name == "step-0000000100"
    assert locate(f"{run}/best") == locate(run)


def test_a_run_that_was_never_evaluated_means_its_last_checkpoint(run):
    (run / "checkpoints" / "best").unlink()
    assert locate(run).name == "step-0000000200"
    assert locate(f"{run}/last") == locate(run)


def test_a_checkpoint_that_is_retired_while_it_is_looked_up_makes_way_for_its_successor(run, monkeypatch):
    first = run / "checkpoints" / "step-0000000100"

    def retired(manifest):
        if first.exists():  # between finding it and reading it
            shutil.rmtree(first)
            point(run, "best", "step-0000000200")
            return False
        return True

    monkeypatch.setattr("ptft.locate.hold", retired)
    assert locate(run).name == "step-0000000200"


def test_a_checkpoint_folder_means_itself(run):
    folder = run / "checkpoints" / "step-0000000300"
    assert locate(folder) == folder


def test_a_home_directory_is_expanded(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert locate("~/bert/last").name == "step-0000000200"


@pytest.mark.parametrize("text", ["step-0000000999", "step-", "\xff\xfe", "", "step-0000000100 step-0000000200"])
def test_a_damaged_pointer_falls_back_to_the_checkpoint_saved_last_not_to_the_highest_step(run, text):
    point(run, "last", text)
    assert locate(f"{run}/last").name == "step-0000000200"


def test_best_is_never_guessed(run):
    (run / "checkpoints" / "best").unlink()
    with pytest.raises(CheckpointError, match="has no best checkpoint"):
        locate(f"{run}/best")


@pytest.mark.parametrize("text", ["../../evil", "/etc", "step-0000000100/..", "..", "a\\b"])
def test_a_pointer_out_of_its_folder_is_refused(run, text):
    point(run, "last", text)
    with pytest.raises(CheckpointError, match="not a folder beside it"):
        locate(f"{run}/last")


def test_a_pointer_that_is_a_link_is_refused(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("step-0000000100")
    (run / "checkpoints" / "last").unlink()
    (run / "checkpoints" / "last").symlink_to(secret)
    with pytest.raises(CheckpointError, match="cannot be read"):
        locate(f"{run}/last")


def broken(manifest: Path, how: str) -> None:
    if how == "missing":
        manifest.unlink()
    else:
        content = manifest.read_bytes()
        manifest.write_bytes(content[:-3] if how == "cut" else content.replace(b"1", b"3", 1))


@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
@pytest.mark.parametrize(("given", "step"), [("", 100), ("/best", 100), ("/last", 200)])
def test_no_other_checkpoint_stands_in_for_a_damaged_one(run, given, step, how):
    manifest = run / "checkpoints" / f"step-{step:010}" / "manifest.json"
    broken(manifest, how)
    with pytest.raises(CheckpointError, match=re.escape(str(manifest))):
        read_manifest(locate(f"{run}{given}"))


@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
def test_without_a_pointer_a_damaged_checkpoint_may_be_the_last(run, how):
    (run / "checkpoints" / "last").unlink()
    broken(run / "checkpoints" / "step-0000000300" / "manifest.json", how)
    with pytest.raises(CheckpointError, match=r"step-0000000300/manifest\.json"):
        locate(f"{run}/last")


def test_a_run_without_checkpoints_is_refused(run):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        locate(run)


def test_a_missing_run_names_the_nearest_one(run):
    with pytest.raises(UserError, match=f"does not exist; did you mean ckpt={run}?"):
        locate(run.parent / "brt")


def test_a_misspelt_checkpoint_of_a_run_is_answered_with_those_it_has(run):
    with pytest.raises(UserError, match=f"does not exist; did you mean ckpt={run}/best"):
        locate(f"{run}/bset")
    with pytest.raises(UserError, match=f"does not exist; {run} has: best, last, checkpoints"):
        locate(f"{run}/second")
    with pytest.raises(UserError, match="does not exist; checkpoints there: step-0000000100, step-0000000200, step-0000000300"):
        locate(run / "checkpoints" / "new")


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere either"):
        locate(tmp_path / "nowhere" / "bert")


def test_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(CheckpointError, match="is a file; ckpt takes a run folder.*; .*: ckpt=weights:MODEL:.*evil.pt"):
        locate(tmp_path / "evil.pt")


def test_the_saved_configuration_is_plain_values(run):
    assert saved_config(locate(run)) == {"model": {"_target_": "ptft.models.gpt.GPT", "dim": 32}}


def test_an_interpolation_in_a_checkpoint_is_never_resolved(run, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    (locate(run) / "config.yaml").write_text('model: {name: "${oc.env:SECRET}", sizes: [1, "${a}"]}')
    assert saved_config(locate(run)) == {"model": {"name": "???", "sizes": [1, "???"]}}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "aliases"),
        ("a: " + "[" * 100 + "]" * 100, "levels"),
        ("a: " + "[" * 1000 + "]" * 1000, "levels|nesting depth"),  # PyYAML 6.0.4 has a cap of its own, met before ours
        ("a: [" + "1," * 50_000 + "1]", "values"),
        ("a: " + "x" * 2_000_000, "larger than"),
        ("a: !!python/object/apply:os.system [true]", "tags"),
        ("a: !new {}", "tags"),
        ("- 1", "not a mapping"),
        ("a: [1", "not valid YAML"),
        ("a: \xff".encode("latin-1"), "not valid YAML"),
    ],
    ids=["aliases", "depth", "great depth", "nodes", "bytes", "python tag", "tag", "list", "syntax", "encoding"],
)
def test_hostile_yaml_is_refused_at_once(run, text, why):
    (locate(run) / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.process_time()
    with pytest.raises(CheckpointError, match=why):
        saved_config(locate(run))
    assert time.process_time() - started < 1


def test_a_pipe_in_place_of_a_file_does_not_hang(run):
    path = locate(run) / "config.yaml"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        saved_config(path.parent)


def test_own_yaml_under_the_same_caps_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "mine.yaml").write_text(BOMB)
    with pytest.raises(UserError, match="line 2: aliases") as error:
        read_yaml(tmp_path / "mine.yaml")
    assert error.value.exit_code == 2
