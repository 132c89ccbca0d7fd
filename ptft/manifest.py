"""What makes a folder a checkpoint: a manifest, written last, that names every file with its size and hash.

    step-0000000100/  model.safetensors, ..., state.json, config.yaml, assets/tokenizer.json, ..., manifest.json

Nothing here trusts what it reads: only files of fixed names, never through a link, never larger than a limit, and never
one whose bytes are not those that were written. All faults are CheckpointErrors that name the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from ptft import __version__
from ptft.errors import CheckpointError
from ptft.exactjson import dump, load

SCHEMA = 1
GROUPS = {
    "model": "model.safetensors",  # what survives a stage, under the model's own names
    "objective": "objective.safetensors",  # the heads
    "tuning": "tuning.safetensors",  # what merging into plain weights loses
    "optimizer": "optim.safetensors",
    "ema": "ema.safetensors",
}
ASSETS = ("tokenizer.json", "labels.json", "data.json")
MIB = 1 << 20
LIMITS = {"state.json": 64 * MIB, "config.yaml": MIB, **{f"assets/{name}": 256 * MIB for name in ASSETS}}
FILES = frozenset(LIMITS) | frozenset(GROUPS.values())
MANIFEST = "manifest.json"
MANIFEST_LIMIT = MIB
FIELDS = {
    "schema": int,
    "ptft": str,  # the version that wrote it
    "identity": dict,  # run_id; hashes of the data and the tokenizer
    "seq": int,  # counts the checkpoints of a run folder: their order, whatever clocks and steps say
    "step": int,
    "best": bool,
    "environment": dict,
    "files": dict,  # name -> {bytes, blake2b}
    "self": str,  # the hash of all other fields
}
NAME = re.compile(r"step-\d{10}(-\d+)?")
PIECE = 4 * MIB


def digest(file: BinaryIO) -> str:
    """BLAKE2b over the BLAKE2b hashes of a file's 4 MiB pieces.

    Pieces, because they are hashed on all cores at once; BLAKE2b, because SHA-256 takes 1.7 times as long on processors
    without instructions for it.
    """
    from concurrent.futures import ThreadPoolExecutor  # a mistake in a setting is answered without it

    starts = range(0, os.fstat(file.fileno()).st_size, PIECE)
    with ThreadPoolExecutor() as pool:
        pieces = pool.map(lambda start: _hash(os.pread(file.fileno(), PIECE, start)).digest(), starts)
        return _hash(b"".join(pieces)).hexdigest()


def _hash(content: bytes) -> blake2b:
    return blake2b(content, digest_size=32)


def seal(fields: dict[str, Any]) -> bytes:
    """The bytes of manifest.json: the fields and their own hash."""
    return dump({**fields, "self": _hash(dump(fields)).hexdigest()})


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[BinaryIO]:
    """A regular file of a checkpoint; no link is followed, at the folder or below it. Raises CheckpointError."""
    try:
        descriptor = _descend(path, name)
    except OSError as error:
        raise CheckpointError(f"{path / name}: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckpointError(f"{path / name}: not a regular file")
        yield file


def _descend(path: Path, name: str) -> int:
    *folders, last = name.split("/")
    here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder, proven to be as it was written. Raises CheckpointError."""
    where = path / MANIFEST
    with opened(path, MANIFEST) as file:
        content = file.read(MANIFEST_LIMIT + 1)
    if len(content) > MANIFEST_LIMIT:
        raise CheckpointError(f"{where}: larger than {MANIFEST_LIMIT} bytes")
    found = load(content, where)
    if not isinstance(found, dict) or type(found.get("schema")) is not int or found["schema"] < 1:
        raise CheckpointError(f"{where}: not a manifest")
    if found["schema"] > SCHEMA:
        raise CheckpointError(f"{where}: written by ptft {found.get('ptft')}, this is {__version__}: use the newer one")
    written = found.pop("self", None)
    if content != seal(found) or not _is_well_formed({**found, "self": written}):
        raise CheckpointError(f"{where}: damaged: it does not match its own hash")
    return found


def _is_well_formed(found: dict[str, Any]) -> bool:
    """Whether the fields are those of a manifest: a hash proves only that whoever wrote them wrote them."""
    if found.keys() != FIELDS.keys() or any(type(found[name]) is not kind for name, kind in FIELDS.items()):
        return False
    entries = found["files"]
    return entries.keys() <= FILES and all(
        isinstance(entry, dict) and type(entry.get("bytes")) is int and type(entry.get("blake2b")) is str
        for entry in entries.values()
    )


@contextlib.contextmanager
def proven(path: Path, name: str, manifest: dict[str, Any], level: str = "full") -> Iterator[BinaryIO]:
    """A file of a checkpoint that is the one its manifest describes: by size, and unless `level` is "size" by hash."""
    if name not in manifest["files"]:
        raise CheckpointError(f"{path / name}: not part of this checkpoint")
    entry = manifest["files"][name]
    with opened(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["bytes"]:
            raise CheckpointError(f"{path / name}: damaged: {size} bytes, {entry['bytes']} were written")
        if level != "size" and digest(file) != entry["blake2b"]:
            raise CheckpointError(f"{path / name}: damaged: its content is not what was written")
        yield file


def read_file(path: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The bytes of one of the small files. Raises CheckpointError."""
    with proven(path, name, manifest) as file:
        content = file.read(LIMITS[name] + 1)
    if len(content) > LIMITS[name]:
        raise CheckpointError(f"{path / name}: larger than {LIMITS[name]} bytes")
    return content


def verify(path: Path, level: str = "full") -> dict[str, Any]:
    """Prove that a whole checkpoint is as it was written; returns its manifest.

    level: "full" hashes every byte, "size" compares sizes only. Raises CheckpointError naming the first bad file.
    """
    manifest = read_manifest(path)
    for name in sorted(manifest["files"]):
        with proven(path, name, manifest, level):
            pass
    return manifest


def names(folder: Path) -> list[str]:
    """The names of the committed checkpoints in RUN/checkpoints, in no order."""
    try:
        return [entry.name for entry in os.scandir(folder) if NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    """The checkpoints of RUN/checkpoints by name, oldest first, without those whose manifest cannot be trusted."""
    found = {}
    for name in names(folder):
        with contextlib.suppress(CheckpointError):
            found[name] = read_manifest(folder / name)
    return dict(sorted(found.items(), key=lambda item: item[1]["seq"]))


def newest(folder: Path, run_id: str | None = None) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in RUN/checkpoints that is whole, and why each newer one is not.

    run_id: leave the checkpoints of other runs aside.
    """
    known = manifests(folder)
    unreadable = sorted(set(names(folder)) - known.keys(), reverse=True)
    mine = [name for name in known if run_id in (None, known[name]["identity"].get("run_id"))]
    faults = []
    for name in [*unreadable, *reversed(mine)]:
        try:
            verify(folder / name)
        except CheckpointError as error:
            faults.append(str(error))
        else:
            return folder / name, faults
    return None, faults
