"""Folders of images with boxes: whose form the annotations have, of which split each image is, and where its file lies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptft.data.annotated import Annotated, split_of
from ptft.data.coco import PARTS, is_coco, parse, read_coco
from ptft.data.listings import images_below
from ptft.data.voc import listed_splits, read_voc
from ptft.errors import DataError

Split = str | None  # None: the annotations do not say


@dataclass
class BoxFiles:
    """by_split: image files with what is annotated. categories: COCO's classes in its order."""

    by_split: dict[Split, list[tuple[Path, Annotated]]] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)


def read_box_files(path: Path, setting: str) -> BoxFiles:
    """All images with boxes of a folder, or of one JSON file with the images beside it. Raises DataError."""
    root = path if path.is_dir() else path.parent
    files, found = ImageFiles(root), BoxFiles()
    if path.is_file() and not files.by_stem:
        files = ImageFiles(root.parent)  # annotations/train.json beside images/
    annotated = read_voc_files(path) if path.is_dir() else []
    for json_file, content in coco_files(path).items():
        images, categories = read_coco(json_file, content)
        split = split_of(json_file.relative_to(path)) if path.is_dir() else None
        annotated += [(split, image) for image in images]
        found.categories += [name for name in categories if name not in found.categories]
    if not annotated:
        raise DataError(f"{setting}={path}: no boxes found; expected XML files as Pascal VOC has them, or COCO's JSON")
    for split, image in annotated:
        found.by_split.setdefault(split, []).append((files.find(image, split), image))
    return found


def coco_files(path: Path) -> dict[Path, dict[str, Any]]:
    """The JSON files with boxes and what they hold; instances_*.json only where there are others beside them."""
    contents = {file: parse(file) for file in ([path] if path.is_file() else below(path, "*.json"))}
    found = {file: content for file, content in contents.items() if is_coco(content)}
    if path.is_file() and not found:
        raise DataError(f"{path}: expected lists {', '.join(PARTS)}, as in COCO")
    return {file: content for file, content in found.items() if file.name.startswith("instances")} or found


def below(root: Path, pattern: str) -> list[Path]:
    """The files of that name below a folder, without hidden ones."""
    return sorted(
        file for file in root.rglob(pattern) if not any(part.startswith(".") for part in file.relative_to(root).parts)
    )


def read_voc_files(root: Path) -> list[tuple[Split, Annotated]]:
    """What all XML files tell; lists in ImageSets decide which count and of which splits they are."""
    lists, found = listed_splits(root, "Main"), []
    for file in below(root, "*.xml"):
        listed = [split for split, names in lists.items() if file.stem in names]
        splits = listed if lists else [split_of(file.relative_to(root))]
        found += [(split, read_voc(file)) for split in splits]
    return found


class ImageFiles:
    """All image files below a folder, to be found by what annotations call them."""

    def __init__(self, root: Path):
        self.root = root
        self.by_stem: dict[str, list[Path]] = {}
        for path in images_below(root, Counter()):
            self.by_stem.setdefault(path.stem, []).append(path)

    def find(self, wanted: Annotated, split: Split) -> Path:
        """The file of an image; of several with its name, the one in folders most like those that are named.

        An XML file is called like its image, whatever it says the image is called.
        """
        name = Path(wanted.image.replace("\\", "/"))
        stems = [wanted.source.stem] * (wanted.source.suffix == ".xml") + [name.stem]
        candidates = next((self.by_stem[stem] for stem in stems if stem in self.by_stem), None)
        if not candidates:
            raise DataError(f"{wanted.source}: there is no image '{name.name}' below {self.root}")

        def likeness(path: Path) -> tuple[int, ...]:
            folders = zip(reversed(path.parent.parts), reversed(name.parent.parts), strict=False)
            in_split = split_of(path.relative_to(self.root)) == split
            near = len(set(path.parents) & set(wanted.source.parents))
            return path.name == name.name, sum(one == other for one, other in folders), in_split, near

        return max(candidates, key=likeness)
