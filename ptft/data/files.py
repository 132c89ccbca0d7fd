"""Which files a path means: a file, a folder, or a sample that ships with ptft."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ptft.errors import DataError, nearest

SUFFIXES = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "delimited",
    ".tsv": "delimited",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
COMPRESSED = (".gz", ".zst")
SAMPLES = Path(__file__).parent / "samples"


def inner_suffix(path: Path) -> str:
    """The suffix that tells the format: .csv of rows.csv.gz."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return Path(name).suffix


def resolve(name: str, setting: str) -> Path:
    """The path a user gave; `sample:NAME` is a file that ships with ptft. DataError where nothing is there."""
    path = SAMPLES / name.removeprefix("sample:") if name.startswith("sample:") else Path(name).expanduser()
    try:
        if path.exists():
            return path
    except OSError as error:  # a name that is too long, or a folder above it that may not be entered
        raise DataError(f"{setting}={name[:100]}: {error.strerror}") from error
    if name == "-":
        raise DataError(f"{setting}=-: standard input is read by predict and generate only (input=-); give a file or a folder")
    siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(path.name, siblings)
    hint = f"; did you mean '{path.parent / close}'?" if close else ""
    raise DataError(f"{setting}={name}: no such file or folder{hint}")


def find_files(name: str, setting: str) -> list[Path]:
    """The data files a path means, sorted: itself, or all files of known formats below a folder."""
    path = resolve(name, setting)
    if not path.is_dir():
        return [path]
    try:
        inside = [item for item in path.rglob("*") if inner_suffix(item) in SUFFIXES and item.is_file()]
    except OSError as error:
        raise DataError(f"{setting}={name}: {error.filename}: cannot be read ({error.strerror})") from error
    found = sorted(item for item in inside if not any(part.startswith(".") for part in item.relative_to(path).parts))
    if not found:
        raise DataError(f"{setting}={name}: the folder holds no data file; expected {', '.join(sorted(SUFFIXES))}")
    return found


def fingerprint(groups: Iterable[Iterable[Path]], *settings: object) -> str:
    """sha256 over the bytes of groups of files and over settings; names and dates do not count."""
    total = hashlib.sha256(repr(settings).encode())
    for group in groups:
        total.update(b"group")
        for path in group:
            total.update(digest(path))
    return total.hexdigest()


def digest(path: Path) -> bytes:
    """sha256 of one file."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return found.digest()
