import os
import random
import shutil
from hashlib import blake2b

import pytest
import torch

from ptft import manifest
from ptft.checkpoint import read, save
from ptft.errors import CheckpointError
from ptft.manifest import MANIFEST, digest, newest, read_manifest, seal, verify

NAMES = ["model.safetensors", "optim.safetensors", "state.json", "config.yaml", "assets/tokenizer.json", MANIFEST]


@pytest.fixture
def checkpoints(tmp_path):
    """RUN/checkpoints with two of them."""
    for step in (1, 2):
        tensors = {"model": {"w": torch.randn(30)}, "optimizer": {"w::exp_avg": torch.randn(30)}}
        state = {"progress": {"step": step}}
        save(tmp_path, step, tensors, state, f"seed: {step}\n", {"tokenizer.json": b'{"model": "bpe"}'}, {"run_id": "one"})
    return tmp_path


def steps(folder):
    """The step that would be resumed, and how many checkpoints were skipped to get there."""
    path, faults = newest(folder)
    return (verify(path)["step"] if path else None), len(faults)


def test_the_hash_of_a_file_is_the_hash_of_the_hashes_of_its_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "PIECE", 400)
    content = random.Random(0).randbytes(1000)
    (tmp_path / "file").write_bytes(content)
    pieces = [blake2b(content[start : start + 400], digest_size=32).digest() for start in (0, 400, 800)]
    with open(tmp_path / "file", "rb") as file:
        assert digest(file) == blake2b(b"".join(pieces), digest_size=32).hexdigest()


@pytest.mark.parametrize("name", [*NAMES[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[2:])])
def test_every_flipped_bit_is_refused_by_the_name_of_its_file(checkpoints, name):
    path = checkpoints / "step-0000000002"
    good = (path / name).read_bytes()
    dice = random.Random(name)
    for position in dice.sample(range(8 * len(good)), k=min(200, 8 * len(good))):
        bad = bytearray(good)
        bad[position // 8] ^= 1 << position % 8
        (path / name).write_bytes(bad)
        with pytest.raises(CheckpointError, match=name):
            verify(path)
    assert steps(checkpoints) == (1, 1)
    (path / name).write_bytes(good)
    assert steps(checkpoints) == (2, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused_even_where_only_sizes_are_compared(checkpoints, name):
    path = checkpoints / "step-0000000002"
    good = (path / name).read_bytes()
    for size in random.Random(name).sample(range(len(good)), k=min(50, len(good))):
        (path / name).write_bytes(good[:size])
        with pytest.raises(CheckpointError, match=name):
            verify(path, level="size")
    assert steps(checkpoints) == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_refused_by_name(checkpoints, name):
    path = checkpoints / "step-0000000002"
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: No such file"):
        verify(path)
    assert steps(checkpoints) == (1, 1)


def test_what_is_read_is_verified_though_nobody_asked(checkpoints):
    path = checkpoints / "step-0000000002"
    with open(path / "model.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    with pytest.raises(CheckpointError, match="not what was written"):
        read(path, "model")


def test_files_swapped_between_checkpoints_are_refused(checkpoints):
    shutil.copy(checkpoints / "step-0000000001" / "model.safetensors", checkpoints / "step-0000000002")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        verify(checkpoints / "step-0000000002")


def test_unfinished_and_removed_folders_are_no_candidates(checkpoints):
    for name in (".tmp-3-77-abc", ".trash-step-0000000003", "step-3", "step-0000000003.bak"):
        shutil.copytree(checkpoints / "step-0000000002", checkpoints / name)
    assert sorted(manifest.names(checkpoints)) == ["step-0000000001", "step-0000000002"]


def test_another_runs_checkpoints_are_left_aside(checkpoints):
    save(checkpoints, 900, {"model": {"w": torch.ones(2)}}, {}, "", {}, {"run_id": "two"})
    assert newest(checkpoints, "one")[0].name == "step-0000000002"
    assert newest(checkpoints, "three") == (None, [])


def rewrite(path, change):
    """A manifest that lies but matches its own hash."""
    fields = read_manifest(path)
    change(fields)
    (path / MANIFEST).write_bytes(seal(fields))


OUTSIDE = ["../secret", "/etc/hostname", "assets/../../secret", "model.safetensors\0", "MODEL.safetensors", "code.py", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_cannot_name_a_file_of_its_own_choice(checkpoints, name):
    path = checkpoints / "step-0000000002"
    rewrite(path, lambda fields: fields["files"].update({name: {"bytes": 1, "blake2b": "0"}}))
    with pytest.raises(CheckpointError, match=MANIFEST):
        verify(path)


def damage_type(fields):
    fields["files"] = []


def damage_entry(fields):
    fields["files"]["model.safetensors"] = {"bytes": "many", "blake2b": 3}


def damage_names(fields):
    fields["more"] = 1


def damage_flag(fields):
    fields["best"] = 1


def damage_schema(fields):
    fields["schema"] = 0


@pytest.mark.parametrize("damage", [damage_type, damage_entry, damage_names, damage_flag, damage_schema])
def test_a_manifest_of_another_form_is_refused(checkpoints, damage):
    path = checkpoints / "step-0000000002"
    rewrite(path, damage)
    with pytest.raises(CheckpointError, match=MANIFEST):
        verify(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{" * 10_000, b'{"schema": true}', b'{"schema": "1"}'])
def test_what_is_no_manifest_is_refused(checkpoints, content):
    (checkpoints / "step-0000000002" / MANIFEST).write_bytes(content)
    assert steps(checkpoints) == (1, 1)


def test_an_endless_manifest_is_not_read_to_its_end(checkpoints):
    with open(checkpoints / "step-0000000002" / MANIFEST, "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="larger than"):
        verify(checkpoints / "step-0000000002")


@pytest.mark.parametrize("name", NAMES)
def test_no_file_may_be_a_link(checkpoints, name, tmp_path):
    path = checkpoints / "step-0000000002"
    (path / name).rename(tmp_path / "elsewhere")
    (path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=name):
        verify(path)


def test_no_folder_may_be_a_link(checkpoints, tmp_path):
    path = checkpoints / "step-0000000002"
    (path / "assets").rename(tmp_path / "elsewhere")
    (path / "assets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="assets"):
        verify(path)
    (checkpoints / "step-0000000003").symlink_to(checkpoints / "step-0000000001")
    with pytest.raises(CheckpointError, match=MANIFEST):
        verify(checkpoints / "step-0000000003")


@pytest.mark.parametrize("name", NAMES)
def test_no_file_may_be_a_pipe_that_never_ends(checkpoints, name):
    path = checkpoints / "step-0000000002"
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(CheckpointError, match=f"{name}: not a regular file"):
        verify(path)
