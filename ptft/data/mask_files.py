"""Folders of images and of masks with equal names: which belong together, and of which split they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ptft.data.annotated import split_of
from ptft.data.listings import images_below, split_folders, visible
from ptft.data.voc import listed_splits
from ptft.errors import DataError

Pair = tuple[Path, Path]  # an image and its mask
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "photos")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentationclass", "annotations", "gtfine", "gt", "groundtruth")


def read_mask_files(
    folder: Path, setting: str, images: str | None, masks: str | None, notes: list[str]
) -> dict[str | None, list[Pair]]:
    """Images with their masks by split (None: the folders do not say). images, masks: names of folders, None: the usual.

    Raises DataError where folders or masks are missing.
    """
    if not folder.is_dir():
        raise DataError(f"{setting}={folder}: expected a folder with a folder of images and one of masks in it")
    inside = split_folders(folder, notes) if named_folder(folder, images, IMAGE_FOLDERS) is None else {}
    if inside:
        found = {split: read_mask_files(place, setting, images, masks, notes) for split, place in inside.items()}
        return {split: [pair for pairs in parts.values() for pair in pairs] for split, parts in found.items()}
    places = []
    for what, name, usual in (("images", images, IMAGE_FOLDERS), ("masks", masks, MASK_FOLDERS)):
        place = named_folder(folder, name, usual)
        if place is None:
            wanted = f"'{name}'" if name else f"one of {', '.join(usual)}"
            raise DataError(f"{setting}={folder}: there is no folder of {what} ({wanted}); name it with dataset.{what}=")
        places.append(place)
    return paired(folder, *places)


def named_folder(folder: Path, name: str | None, usual: tuple[str, ...]) -> Path | None:
    """The folder that was named, else the first of the usual ones."""
    inside = {item.name.lower(): item for item in visible(folder) if item.is_dir()}
    return next((inside[each] for each in ((name.lower(),) if name else usual) if each in inside), None)


def paired(root: Path, images: Path, masks: Path) -> dict[str | None, list[Pair]]:
    """Each image with the mask of its name; the folders of both, or lists in ImageSets, tell of which split it is."""
    lists = listed_splits(root, "Segmentation")
    mask_of = {path.relative_to(masks).with_suffix("").as_posix(): path for path in images_below(masks, Counter())}
    pictures = list(images_below(images, Counter()))
    counts = [Counter(path.stem for path in paths) for paths in (pictures, mask_of.values())]
    # in folders of another shape than those of the images, a mask is found by its name where that names one image only
    mask_of = {path.stem: path for path in mask_of.values() if all(count[path.stem] == 1 for count in counts)} | mask_of
    found: dict[str | None, list[Pair]] = {}
    for path in pictures:
        name = path.relative_to(images)
        splits = [split for split, names in lists.items() if path.stem in names] if lists else [split_of(name)]
        mask = mask_of.get(name.with_suffix("").as_posix()) or mask_of.get(path.stem)
        if mask is None and splits:
            raise DataError(f"{path}: there is no mask '{path.stem}.png' in {masks}")
        for split in splits:
            found.setdefault(split, []).append((path, mask))
    if not found:
        raise DataError(f"{images}: holds no images")
    return found
