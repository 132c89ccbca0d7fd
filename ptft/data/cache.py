"""Folders of derived files that can be built again: made whole or not at all, checked before use."""

from __future__ import annotations

import atexit
import errno
import json
import os
import secrets
import shutil
import socket
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptft.data.dataset import Dataset
from ptft.errors import MachineError

MANIFEST = "manifest.json"
LAYOUT = 1  # raise it when what is written, or how text becomes ids, changes: old folders are then left alone


def cached(key: str, build: Callable[[Path], dict[str, Any]], notes: list[str]) -> tuple[Path, dict[str, Any]]:
    """The folder of `key` and its facts; `build(folder)` fills a new one and returns the facts.

    A folder that is missing, cut short or changed is built again. Where the cache cannot be written, a temporary folder
    serves this process, and `notes` says so.
    """
    root = writable_root(notes)
    final = root / f"{key}-{LAYOUT}"
    facts = verified(final)
    if facts is None:
        sweep(root)
        facts = build_into(final, build)
    return final, facts


class Derives(Dataset):
    """A dataset whose prepared rows, in `folder`, others can derive more from."""

    folder: Path

    def derived(self, name: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
        """A folder of the cache for something made of the prepared rows; see `cached`."""
        return cached(f"{name}-{self.folder.name}", build, self.notes)


def writable_root(notes: list[str]) -> Path:
    """$PTFT_CACHE or ~/.cache/ptft, if files can be made there."""
    root = Path(os.environ.get("PTFT_CACHE") or Path.home() / ".cache" / "ptft").expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="ptft-cache-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        notes.append(f"the cache {root} cannot be written ({error.strerror}); set PTFT_CACHE to keep encoded data")
        return temporary


def verified(folder: Path) -> dict[str, Any] | None:
    """The facts of a folder whose files are all there and unchanged, else None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        whole = manifest["check"] == checksum_of(manifest["facts"], manifest["files"])
        if whole and all(checksum(folder / name) == value for name, value in manifest["files"].items()):
            return manifest["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def build_into(final: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Fill a temporary folder beside `final` and rename it; whoever renames first wins."""
    temporary = final.parent / f"{temporary_prefix()}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir()
        facts = build(temporary)
        paths = sorted(path for path in temporary.rglob("*") if path.is_file())
        files = {path.relative_to(temporary).as_posix(): checksum(path) for path in paths}
        manifest = {"facts": facts, "files": files, "check": checksum_of(facts, files)}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        replace(temporary, final)
        return json.loads(json.dumps(facts))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MachineError(f"{final.parent}: no room for encoded data; free some or set PTFT_CACHE") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace(temporary: Path, final: Path) -> None:
    """Put a finished folder in place; a good one that another process put there meanwhile stays."""
    if final.exists() and verified(final) is None:
        shutil.rmtree(final)
    try:
        temporary.rename(final)
    except OSError:
        if verified(final) is None:
            raise


def sweep(root: Path) -> None:
    """Remove what killed processes of this machine left half built."""
    for leftover in root.glob(f"{temporary_prefix()}*"):
        owner = leftover.name.removeprefix(temporary_prefix()).split("-")[0]
        if owner.isdigit() and not alive(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def temporary_prefix() -> str:
    """How folders that are being written begin, on this machine: others may share the cache."""
    return f".tmp-{socket.gethostname()}-"


def alive(process: int) -> bool:
    """Whether a process of that number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = code = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            size, code = size + len(block), zlib.crc32(block, code)
    return [size, code]


def checksum_of(*values: Any) -> int:
    """A CRC-32 of plain values."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
