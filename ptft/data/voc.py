"""Boxes in Pascal VOC's form: one XML file for each image, and lists of the images of each split."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ptft.data.annotated import SPLIT_NAMES, Annotated, Box, told_size
from ptft.errors import DataError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Annotated:
    """The image and the boxes an XML file tells of; DataError where it is none of that kind.

    Corners are taken as they stand: x2 and y2 are where the box ends. What is difficult counts as a crowd does in COCO's
    files: in Pascal VOC's own scores, too, it does no harm to find it or not.
    """
    root = parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path}: the root is <{root.tag}>, expected <annotation> as in Pascal VOC")
    boxes = []
    for number, item in enumerate(root.iter("object")):
        place = f"{path}: object {number}"
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{place} has no <name>")
        boxes.append(Box(corners(item, place), name, place, crowd=(item.findtext("difficult") or "").strip() == "1"))
    size = told_size(root.findtext("size/height"), root.findtext("size/width"))
    return Annotated((root.findtext("filename") or "").strip() or path.stem, boxes, path, size)


def parse(path: Path) -> ElementTree.Element:
    """An XML file without entities of its own, which could be of any size."""
    try:
        text = path.read_bytes()
        if b"<!ENTITY" in text:
            raise DataError(f"{path}: defines entities, which annotations have no use for")
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not well-formed XML ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def corners(item: ElementTree.Element, place: str) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of an object."""
    found = [item.findtext(f"bndbox/{name}") for name in CORNERS]
    try:
        left, top, right, bottom = (float(text) for text in found)
    except (TypeError, ValueError):
        said = ", ".join(f"{name}={text}" for name, text in zip(CORNERS, found, strict=True))
        raise DataError(f"{place}: expected four numbers in <bndbox>, found {said}") from None
    return left, top, right, bottom


def listed_splits(root: Path, purpose: str) -> dict[str, set[str]]:
    """The names in ImageSets/PURPOSE/{train,val,test}.txt by split, or in another folder where there is none for it.

    train is trainval where there is no list of its own.
    """
    found = sorted(root.glob(f"ImageSets/{purpose}/*.txt")) or sorted(root.glob("ImageSets/*/*.txt"))
    lists = {path.stem: path for path in found}
    if "train" not in lists and "trainval" in lists:
        lists["train"] = lists["trainval"]
    return {SPLIT_NAMES[name]: names_in(path) for name, path in lists.items() if name in SPLIT_NAMES}


def names_in(path: Path) -> set[str]:
    """The first word of each line."""
    try:
        return {line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
