"""Which images a folder or a table holds, and of which class each is, before any is decoded."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptft.data.decoding import SUFFIXES
from ptft.data.files import SUFFIXES as TABLES
from ptft.data.files import inner_suffix, resolve
from ptft.data.pixels import Listing
from ptft.data.reading import LABEL_NAMES, existing, field, first_row, is_words, named, only_choice, rows
from ptft.errors import DataError

SPELLINGS = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
IMAGE_NAMES = ("image", "image_path", "path", "file", "filename", "file_name", "filepath", "file_path", "img")


class Files:
    """Image files, read when they are asked for."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __call__(self, row: int) -> bytes:
        try:
            return self.paths[row].read_bytes()
        except OSError as error:
            raise DataError(f"{self.paths[row]}: cannot be read ({error.strerror})") from error


def split_folders(folder: Path, notes: list[str]) -> dict[str, Path]:
    """train/, valid/ and test/ of a folder, however they are spelt; none where the folders in it are classes."""
    inside = {item.name.lower(): item for item in visible(folder) if item.is_dir()}
    found = {split: inside[name] for split, names in SPELLINGS.items() for name in reversed(names) if name in inside}
    if "train" not in found or (len(found) == 1 and len(inside) > 1):
        return {}
    others = [item.name for item in inside.values() if item not in found.values()]
    if others:
        notes.append(f"{folder}: beside the splits, folders were left out: {', '.join(others)}")
    return found


def visible(folder: Path) -> list[Path]:
    """What lies in a folder by name, without hidden things."""
    try:
        return sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error


def images_below(folder: Path, others: Counter) -> Iterator[Path]:
    """All image files of a folder and the folders in it, sorted; counts those with other endings in `others`."""
    for here, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                yield Path(here, name)
            else:
                others[suffix or "no ending"] += 1


def list_folder(folder: Path, setting: str, notes: list[str]) -> Listing:
    """The images of a folder; each folder in it is a class. Without such folders there are no labels."""
    others: Counter = Counter()
    paths = list(images_below(folder, others))
    empty = [item.name for item in visible(folder) if item.is_dir() and not any(images_below(item, Counter()))]
    if empty:
        notes.append(f"{folder}: no class, as there is no image in it: {', '.join(empty)}")
    if others:
        kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(others.items()))
        notes.append(f"{folder}: {sum(others.values()):,} files that are no images were skipped ({kinds})")
    parts = [path.relative_to(folder).parts for path in paths]
    inside = [path for path, where in zip(paths, parts, strict=True) if len(where) > 1]
    if inside and len(inside) < len(paths):
        notes.append(f"{folder}: {len(paths) - len(inside):,} images outside of the class folders were left out")
        return list_files(inside, folder)
    if not paths:
        raise DataError(f"{setting}={folder}: no images found; expected files that end in {', '.join(SUFFIXES)}")
    return list_files(paths, folder)


def list_files(paths: list[Path], folder: Path) -> Listing:
    """Image files below a folder, labelled by the folder of the folder that they lie in, if they all do."""
    parts = [path.relative_to(folder).parts for path in paths]
    labels = [where[0] for where in parts] if all(len(where) > 1 for where in parts) else None
    return Listing(["/".join(where) for where in parts], labels, Files(paths), paths, [str(path) for path in paths])


def choose_image(path: Path, wanted: str | None, label: str | None) -> str:
    """The column with the paths of images: the wanted one, the one named so, or the only one of words."""
    first = first_row(path)
    if wanted is not None:
        return existing(path, "dataset.image", wanted, list(first))
    free = [name for name in first if name != label]
    words = [name for name in free if is_words(first[name])]
    return only_choice(path, "dataset.image", list(first), named(free, IMAGE_NAMES) or words)


def choose_label(path: Path, wanted: str | None, image: str) -> str | None:
    """The column with the labels: the wanted one, the one named so, or the only other one; None where that is open."""
    columns = list(first_row(path))
    if wanted is not None:
        return existing(path, "dataset.label", wanted, columns)
    free = [name for name in columns if name != image]
    return next(iter(named(free, LABEL_NAMES)), free[0] if len(free) == 1 else None)


def list_table(path: Path, image: str, label: str | None) -> Listing:
    """The images that a table names, relative to its folder, with their labels as text (an empty cell: "")."""
    names, labels, places, paths, listed = [], [], [], [], None
    for where, row in rows(path):
        name = field(row, where, image)
        paths.append(image_file(path, where, image, name))
        names.append(str(name))
        places.append(f"{where} ({name})")
        if label is not None:
            labels.append(label_text(row, where, label))
            listed = listed or (places[-1] if isinstance(row[label], list) else None)
    if not paths:
        raise DataError(f"{path}: empty; expected a header and at least one row")
    return Listing(names, None if label is None else labels, Files(paths), paths, places, listed)


def label_text(row: dict[str, Any], where: str, column: str) -> str:
    """A label as text, or several of them parted by "|"."""
    cell = field(row, where, column)
    cells = cell if isinstance(cell, list) else [cell]
    return "|".join("" if part is None else str(part).strip() for part in cells)


def image_file(table: Path, where: str, column: str, name: Any) -> Path:
    """The file that a cell of a table names, from the table's folder on; DataError where there is none."""
    found = table.parent / str(name or "")
    if not found.is_file():  # a table that was made on Windows
        found = table.parent / str(name or "").replace("\\", "/")
    if not found.is_file():
        raise DataError(f"{where}: column '{column}' names '{name}', and there is no such file in {table.parent}")
    return found


def is_table(path: Path) -> bool:
    """Whether this is a file of rows that may name images."""
    return path.is_file() and inner_suffix(path) in TABLES


def find(name: str, setting: str) -> Path:
    """A folder or a table of images; DataError for anything else."""
    path = resolve(name, setting)
    if path.is_dir() or is_table(path):
        return path
    raise DataError(f"{setting}={name}: expected a folder of images, or a table of their paths (csv, tsv, jsonl, parquet)")
