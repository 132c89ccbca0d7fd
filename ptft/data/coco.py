"""Boxes in COCO's form: one JSON file with images, annotations and categories."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from ptft.data.annotated import Annotated, Box, told_size
from ptft.errors import DataError

PARTS = ("images", "annotations", "categories")


def is_coco(content: Any) -> bool:
    """Whether what a JSON file holds are boxes as COCO writes them."""
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in PARTS)


def parse(path: Path) -> Any:
    """What a JSON file holds; DataError where it is none."""
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_coco(path: Path, content: dict[str, Any]) -> tuple[list[Annotated], list[str]]:
    """The images with their boxes, and the categories in the order of their numbers.

    Categories of one name are one class. A box of a category or of an image that is not in the file is a DataError.
    """
    names, files = numbered(content, "categories", "name", path), numbered(content, "images", "file_name", path)
    boxes: dict[Any, list[Box]] = defaultdict(list)
    for number, entry in enumerate(content["annotations"]):
        place = f"{path}: annotation {number}"
        image, category = (field(entry, name, path, "annotations") for name in ("image_id", "category_id"))
        if image not in files:
            raise DataError(f"{place}: there is no image with id {image!r}")
        if category not in names:
            raise DataError(f"{place} of {files[image]}: there is no category with id {category!r}")
        crowd = bool(entry.get("iscrowd"))
        told = names[category], f"{place} of {files[image]}", area(entry, place), crowd
        boxes[image].append(Box(corners(entry, place), *told))
    sizes = {entry["id"]: told_size(entry.get("height"), entry.get("width")) for entry in content["images"]}
    found = [Annotated(name, boxes[image], path, sizes[image]) for image, name in files.items()]
    return found, list(dict.fromkeys(names[number] for number in sorted(names, key=lambda id: (isinstance(id, str), id))))


def numbered(content: dict[str, Any], part: str, name: str, path: Path) -> dict[Any, str]:
    """What the entries of a list are called, by their ids; DataError where two entries have one id."""
    found: dict[Any, str] = {}
    for entry in content[part]:
        number, called = field(entry, "id", path, part), str(field(entry, name, path, part))
        if number in found:
            raise DataError(f"{path}: {found[number]} and {called} of {part} have the same id, {number!r}")
        found[number] = called
    return found


def field(entry: Any, name: str, path: Path, part: str) -> Any:
    """A field that an entry of the file must have; DataError where it is not there."""
    if not isinstance(entry, dict) or name not in entry:
        raise DataError(f"{path}: an entry of {part} has no {name}")
    return entry[name]


def corners(entry: dict[str, Any], place: str) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a bbox [x, y, width, height]."""
    try:
        left, top, width, height = (float(number) for number in entry["bbox"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{place}: expected bbox: [x, y, width, height], found {entry.get('bbox')}") from None
    return left, top, left + width, top + height


def area(entry: dict[str, Any], place: str) -> float | None:
    """The area of what is annotated, often that of its outline, where the file has it."""
    found = entry.get("area")
    if found is not None and not isinstance(found, (int, float)):
        raise DataError(f"{place}: expected area: a number of pixels, found {found}")
    return found
