import os
import resource
import stat
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from ptft import checkpoint, manifest
from ptft.checkpoint import read, read_asset, read_config, read_state, save
from ptft.errors import CheckpointError, Diverged, MachineError
from ptft.manifest import GROUPS, MANIFEST, newest, verify

STATE = {"progress": {"step": 3, "best": None, "loss": 0.1 + 0.2}, "scaler": {}}
ASSETS = {"tokenizer.json": b"{}", "data.json": b'{"facts": {}}'}


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {"embed": torch.randn(7, 4, generator=generator), "bias": torch.randn(4, generator=generator)}


def commit(folder, step=3, tensors=None, run_id="one", **more):
    return save(folder, step, tensors or {"model": weights()}, STATE, "seed: 1\n", ASSETS, {"run_id": run_id}, **more)


def reseal(path, **changes):
    """Write a manifest that matches its own hash, as someone hostile would."""
    fields = {**manifest.read_manifest(path), **changes}
    (path / MANIFEST).write_bytes(manifest.seal(fields))


def replace_file(path, name, content):
    """Put other content into a checkpoint and make the manifest vouch for it."""
    (path / name).write_bytes(content)
    with open(path / name, "rb") as file:
        entry = {"bytes": len(content), "blake2b": manifest.digest(file)}
    reseal(path, files={**manifest.read_manifest(path)["files"], name: entry})


def test_everything_saved_comes_back_equal(tmp_path):
    tensors = {group: weights(seed) for seed, group in enumerate(GROUPS)}
    path = commit(tmp_path, tensors=tensors)
    assert path.name == "step-0000000003"
    for group, named in tensors.items():
        again = read(path, group, like=named)
        assert all(torch.equal(again[name], value) for name, value in named.items())
    assert read_state(path) == STATE
    assert read_config(path) == "seed: 1\n"
    assert read_asset(path, "tokenizer.json") == b"{}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_every_dtype_and_shape_survives(tmp_path, dtype):
    tensors = {"scalar": torch.tensor(1).to(dtype), "empty": torch.zeros(0, 3).to(dtype), "grid": torch.ones(2, 3).to(dtype)}
    again = read(commit(tmp_path, tensors={"model": tensors}), "model", like=tensors)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


def test_the_files_are_plain_safetensors(tmp_path):
    again = load_file(commit(tmp_path) / "model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights().items())


def test_shared_tensors_are_stored_once_and_come_back_under_both_names(tmp_path):
    table = torch.randn(50, 8)
    tensors = {"head": table, "embed": table, "more": table, "transposed": table.T, "rows": table[3:5]}
    path = commit(tmp_path, tensors={"model": tensors})
    again = read(path, "model", like=tensors)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert set(load_file(path / "model.safetensors")) == {"embed", "rows", "transposed"}


def test_the_same_state_gives_the_same_bytes(tmp_path):
    table = torch.ones(3, 3)
    tensors = {"model": {"a": table, "b": table, "c": table, "d": table, **weights()}}
    first, second = (commit(tmp_path / name, tensors=tensors) for name in ("first", "second"))
    assert (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes()


def test_a_group_without_tensors_leaves_no_file(tmp_path):
    path = commit(tmp_path, tensors={"model": weights(), "tuning": {}})
    assert not (path / "tuning.safetensors").exists()
    assert read(path, "tuning") == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tensors_that_are_not_finite_are_never_committed(tmp_path, bad, dtype):
    tensors = weights()
    tensors["bias"] = torch.tensor([0.0, bad, 1.0], dtype=dtype)
    with pytest.raises(Diverged, match="bias in model.safetensors"):
        commit(tmp_path, tensors={"model": tensors})
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"state\.hook"):
        save(tmp_path, 1, {"model": weights()}, {"hook": print}, "", {}, {"run_id": "one"})
    assert list(tmp_path.iterdir()) == []


def test_a_step_saved_twice_keeps_both_and_the_later_one_is_newest(tmp_path):
    first = commit(tmp_path)
    second = commit(tmp_path)
    assert second.name == "step-0000000003-2"
    assert verify(first)["seq"] == 1 and verify(second)["seq"] == 2
    assert newest(tmp_path) == (second, [])


def test_order_is_the_sequence_of_saves_not_step_or_clock(tmp_path):
    late, early = commit(tmp_path, step=900), commit(tmp_path, step=5)
    os.utime(late, (2e9, 2e9))
    os.utime(early, (1e9, 1e9))
    assert newest(tmp_path)[0] == early


@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_have_the_modes_the_umask_leaves(tmp_path, mask, file_mode, folder_mode):
    before = os.umask(mask)
    try:
        path = commit(tmp_path / "checkpoints")
    finally:
        os.umask(before)
    for entry in [path, *path.rglob("*")]:
        assert stat.S_IMODE(entry.stat().st_mode) == (folder_mode if entry.is_dir() else file_mode), entry


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch):
    commit(tmp_path, step=1)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: checkpoint.shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(MachineError, match=r"No space left.*\d+ bytes needed, 10 free") as refused:
        commit(tmp_path, step=2)
    assert refused.value.exit_code == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-0000000001"]


@pytest.mark.parametrize("limit", [10, 700, 900])
def test_a_disk_that_fills_while_writing_leaves_older_checkpoints_and_no_trace(tmp_path, limit):
    older = commit(tmp_path, step=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(MachineError, match="cannot save: .*too large.* bytes needed"):
            commit(tmp_path, step=2, tensors={"model": weights(), "optimizer": {"m": torch.ones(200)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [older]
    verify(older)


def test_a_model_of_another_shape_is_refused_by_name(tmp_path):
    path = commit(tmp_path)
    with pytest.raises(CheckpointError, match="bias is missing"):
        read(commit(tmp_path, tensors={"model": {"embed": torch.ones(7, 4)}}), "model", like=weights())
    with pytest.raises(CheckpointError, match="embed is unknown"):
        read(path, "model", like={"bias": torch.ones(4)})
    with pytest.raises(CheckpointError, match=r"bias is \[4\] torch.float32, \[5\] torch.float32"):
        read(path, "model", like={**weights(), "bias": torch.ones(5)})
    with pytest.raises(CheckpointError, match=r"bias is \[4\] torch.float32, \[4\] torch.float16"):
        read(path, "model", like={**weights(), "bias": torch.ones(4).half()})


def test_weights_that_are_not_finite_are_refused_though_the_manifest_vouches_for_them(tmp_path):
    path = commit(tmp_path)
    save_file({"w": torch.tensor([float("nan")])}, tmp_path / "bad")
    replace_file(path, "model.safetensors", (tmp_path / "bad").read_bytes())
    with pytest.raises(CheckpointError, match="w is not finite"):
        read(path, "model")


def header(text):
    return struct.pack("<Q", len(text)) + text


LIES = {
    "header of 1 EiB": struct.pack("<Q", 1 << 60) + b"{}",
    "header beyond the limit": struct.pack("<Q", checkpoint.HEADER_LIMIT + 1) + b" " * 64,
    "no header": b"",
    "not JSON": header(b"\x80\x04pickle"),
    "a terabyte of nothing": header(b'{"w":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}}'),
    "a shape larger than its data": header(b'{"w":{"dtype":"F32","shape":[1024],"data_offsets":[0,4]}}') + b"\0" * 4,
    "a dtype that lies": header(b'{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}') + b"\0" * 4,
    "overlapping tensors": header(
        b'{"v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    + b"\0" * 4,
    "data nobody owns": header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + b"\0" * 64,
    "an alias of nothing": header(b'{"__metadata__":{"aliases":"{\\"a\\": \\"b\\"}"}}'),
    "aliases that are a list": header(b'{"__metadata__":{"aliases":"[1]"}}'),
    "aliases that are not JSON": header(b'{"__metadata__":{"aliases":"{"}}'),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_is_refused_though_the_manifest_vouches_for_it(tmp_path, content):
    path = commit(tmp_path)
    replace_file(path, "model.safetensors", content)
    with pytest.raises(CheckpointError, match="model.safetensors"):
        read(path, "model")


def test_a_checkpoint_of_a_newer_ptft_is_refused_by_both_versions(tmp_path):
    path = commit(tmp_path)
    reseal(path, schema=manifest.SCHEMA + 1, ptft="99.0")
    with pytest.raises(CheckpointError, match=r"written by ptft 99\.0, this is 0\."):
        verify(path)


def test_a_checkpoint_of_an_older_ptft_is_migrated_in_memory(tmp_path, monkeypatch):
    path = commit(tmp_path)
    before = {file.name: file.read_bytes() for file in path.glob("*.*")}
    for module in (checkpoint, manifest):
        monkeypatch.setattr(module, "SCHEMA", 3)
    monkeypatch.setitem(checkpoint.MIGRATIONS, 1, lambda state: {**state, "epochs": state["progress"]["step"]})
    monkeypatch.setitem(checkpoint.MIGRATIONS, 2, lambda state: {**state, "epochs": state["epochs"] / 2})
    assert read_state(path)["epochs"] == 1.5
    assert {file.name: file.read_bytes() for file in path.glob("*.*")} == before
