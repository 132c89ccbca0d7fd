"""Checkpoints: named groups of tensors and a state of plain values, committed to disk by one rename.

Until that rename a checkpoint is a `.tmp-` folder that nobody reads; after it, it is a folder whose manifest verifies.
It is safetensors, JSON and text: no pickle, nothing that can run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ptft import __version__
from ptft.durable import sync
from ptft.errors import CheckpointError, Diverged, MachineError
from ptft.exactjson import dump, load
from ptft.manifest import GROUPS, MANIFEST, MIB, SCHEMA, digest, manifests, proven, read_file, read_manifest, seal

WEIGHTS = {name for group, name in GROUPS.items() if group != "optimizer"}  # what must be finite
HEADER_LIMIT = 16 * MIB
MARGIN = 1.05  # of free space beyond the tensors, for headers and the file system
# schema -> what turns a state of that schema into one of the next
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    config: str,
    assets: Mapping[str, bytes],
    identity: Mapping[str, Any],
    best: bool = False,
) -> Path:
    """Commit a checkpoint to RUN/checkpoints; returns its folder.

    tensors: group (model, objective, tuning, optimizer, ema) -> name -> tensor; empty groups leave no file. assets:
    content of tokenizer.json, labels.json, data.json. identity: run_id, and hashes of what must not change. Raises
    Diverged where a weight is not finite, MachineError where the disk refuses; either way nothing is left behind.
    """
    groups = {GROUPS[group]: _unshared(named) for group, named in tensors.items() if named}
    for name, (named, _) in groups.items():
        if name in WEIGHTS and (culprit := _not_finite(named)):
            raise Diverged(f"step {step}: {culprit} in {name} is not finite: no checkpoint is written")
    texts = {"state.json": dump(state), "config.yaml": config.encode(), **{f"assets/{n}": c for n, c in assets.items()}}
    needed = sum(t.nbytes for named, _ in groups.values() for t in named.values()) + sum(map(len, texts.values()))
    fields = {"schema": SCHEMA, "ptft": __version__, "identity": dict(identity), "step": step, "best": best}
    fields["environment"] = environment()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".tmp-{step}-{os.getpid()}-{uuid4().hex[:8]}"
    with _nothing_left_behind(temporary, int(needed * MARGIN)):
        (temporary / "assets").mkdir(parents=True)
        fields["files"] = _write(temporary, groups, texts)
        fields["seq"] = 1 + max((found["seq"] for found in manifests(folder).values()), default=0)
        (temporary / MANIFEST).write_bytes(seal(fields))
        for path in (temporary / MANIFEST, temporary / "assets", temporary):
            sync(path)
        final = _free_name(folder, step)
        os.rename(temporary, final)
        sync(folder)
    return final


def environment() -> dict[str, Any]:
    """What the bits of a result depend on, beside configuration and data."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    return {**versions, "threads": torch.get_num_threads()}


def _unshared(named: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous tensors on the CPU that share no memory, and the names that are aliases: alias -> name."""
    kept: dict[str, Tensor] = {}
    aliases, views, storages = {}, {}, set()
    for name, tensor in sorted(named.items()):
        tensor = tensor.detach()
        place = (tensor.device, tensor.untyped_storage().data_ptr())
        view = (*place, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and view in views:
            aliases[name] = views[view]
            continue
        kept[name] = (tensor.clone() if place in storages else tensor).cpu().contiguous()
        views[view] = name
        storages.add(place)
    return kept, aliases


def _not_finite(named: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds a NaN or an infinity."""
    for name, tensor in named.items():
        if tensor.is_floating_point() and tensor.numel():
            low, high = tensor.aminmax()  # one pass and no copy, where isfinite() would make one
            if not (math.isfinite(low) and math.isfinite(high)):
                return name
    return None


@contextlib.contextmanager
def _nothing_left_behind(temporary: Path, needed: int) -> Iterator[None]:
    """Writing inside either reaches the rename or leaves no trace."""
    free = shutil.disk_usage(temporary.parent).free
    try:
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{temporary.parent}: cannot save: {reason}; {needed:,} bytes needed, {free:,} free"
        raise MachineError(message) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, groups: Mapping[str, tuple], texts: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Write every file, then flush and hash them all at once, while they are still in memory."""
    mode = folder.stat().st_mode & 0o666  # what the umask leaves of 0666: safetensors does not ask it
    for name, (named, aliases) in groups.items():
        save_file(named, folder / name, {"aliases": json.dumps(aliases)} if aliases else None)
        os.chmod(folder / name, mode)
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    names = [*groups, *texts]
    with ThreadPoolExecutor() as pool:
        flushed = pool.map(sync, [folder / name for name in names])
        entries = pool.map(_entry, [folder / name for name in names])
        list(flushed)
        return dict(zip(names, entries, strict=True))


def _entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "blake2b": digest(file)}


def _free_name(folder: Path, step: int) -> Path:
    """step-0000000100, or with -2, -3, ... where the folder already holds that step: nothing is overwritten."""
    name = f"step-{step:010d}"
    count = 1
    while os.path.lexists(folder / (name if count == 1 else f"{name}-{count}")):
        count += 1
    return folder / (name if count == 1 else f"{name}-{count}")


def read(path: Path, group: str, like: Mapping[str, Tensor] | None = None, level: str = "full") -> dict[str, Tensor]:
    """The tensors of a group, memory-mapped; none where the checkpoint has no such group.

    like: tensors whose names, shapes and dtypes they must have, compared before memory is touched. level: "size" where
    `verify` has just hashed the file. Raises CheckpointError.
    """
    manifest = read_manifest(path)
    name = GROUPS[group]
    found = _load(path, name, manifest, level) if name in manifest["files"] else {}
    if like is not None:
        _check_alike(path / name, found, like)
    if name in WEIGHTS and (culprit := _not_finite(found)):
        raise CheckpointError(f"{path / name}: {culprit} is not finite")
    return found


def _load(path: Path, name: str, manifest: dict[str, Any], level: str) -> dict[str, Tensor]:
    with proven(path, name, manifest, level) as file:
        _check_header(file, path / name)
        try:
            with safe_open(path / name, framework="pt") as content:
                tensors = {key: content.get_tensor(key) for key in sorted(content.keys())}
                aliases = json.loads((content.metadata() or {}).get("aliases", "{}"))
            return {**tensors, **{alias: tensors[key] for alias, key in aliases.items()}}
        except (SafetensorError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise CheckpointError(f"{path / name}: not a valid safetensors file ({error})") from None


def _check_header(file: BinaryIO, where: Path) -> None:
    """Refuse a header that would take long, or much memory, to parse."""
    size = int.from_bytes(os.pread(file.fileno(), 8, 0), "little")
    if size > HEADER_LIMIT:
        raise CheckpointError(f"{where}: a header of {size} bytes, at most {HEADER_LIMIT} are allowed")


def _check_alike(where: Path, found: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    for name in sorted(found.keys() ^ like.keys()):
        raise CheckpointError(f"{where}: {name} is {'missing' if name in like else 'unknown to what is being built'}")
    for name, tensor in found.items():
        have, want = (f"{list(side.shape)} {side.dtype}" for side in (tensor, like[name]))
        if have != want:
            raise CheckpointError(f"{where}: {name} is {have}, {want} is being built")


def read_state(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint, in today's schema."""
    manifest = read_manifest(path)
    state = load(read_file(path, "state.json", manifest), path / "state.json")
    for schema in range(manifest["schema"], SCHEMA):
        state = MIGRATIONS[schema](state)
    return state


def read_config(path: Path) -> str:
    """The configuration a checkpoint was trained with, as YAML."""
    return read_file(path, "config.yaml", read_manifest(path)).decode(errors="replace")


def read_asset(path: Path, name: str) -> bytes:
    """tokenizer.json, labels.json or data.json of a checkpoint."""
    return read_file(path, f"assets/{name}", read_manifest(path))
