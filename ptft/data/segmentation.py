"""Images with a class for each pixel: folders of images and of masks with equal names."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ptft.data.cache import cached
from ptft.data.decoding import in_parallel
from ptft.data.files import digest, resolve
from ptft.data.image_reader import ImageReader
from ptft.data.images import Images
from ptft.data.listings import Files
from ptft.data.mask_files import read_mask_files
from ptft.data.masks import HINT, MaskRows, Meaning, write_masks
from ptft.data.pixels import Listing, Report
from ptft.data.splits import held_out
from ptft.data.table import SPLITS
from ptft.errors import DataError

MANY = 64  # classes that may be instances instead


class Masks(Images):
    """Images, each with a mask of the classes of its pixels.

    images, masks: names of their folders, None: the usual ones. classes: the names of the classes 0, 1, ...; None: the
    numbers there are; binary: 0 is background, any other number (of an instance, say) is foreground. ignore: the number
    of pixels that are not to be learned, None: there are none; it does not apply to binary masks. decode_size, channels,
    inputs: as for all images.
    """

    targets = (None, "mask")

    def __init__(
        self,
        path: str,
        images: str | None,
        masks: str | None,
        classes: list[str] | Literal["binary"] | None,
        ignore: int | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        self.where, self.classes = f"dataset.path={path}", classes
        self.meaning = Meaning(classes == "binary", None if classes == "binary" else ignore)
        self.files: dict[str, list[Path]] = {}
        listed: dict[str, Listing] = {}
        notes: list[str] = []
        for only, name in ((None, path), ("valid", valid_path), ("test", test_path)):
            if name is not None:
                setting = f"dataset.{only}_path" if only else "dataset.path"
                folder = resolve(name, setting)
                listed |= self.list(folder, read_mask_files(folder, setting, images, masks, notes), only)
        if "train" not in listed:
            raise DataError(f"{self.where}: holds images of {' and '.join(listed)}, and none to train on")
        own = {split: f"{path}:{split}" for split in listed}
        shares = held_out(path, valid_path or own.get("valid"), test_path or own.get("test"), valid_fraction, test_fraction)
        listed = {split: listed[split] for split in SPLITS if split in listed}
        super().__init__(listed, shares, split_seed, None, decode_size, channels, inputs, notes)

    def list(self, folder: Path, found: dict[str | None, list], only: str | None) -> dict[str, Listing]:
        """The images of a folder by split. only: the split that all of them are."""
        by_split: dict[str, list] = {}
        for split, pairs in found.items():
            by_split.setdefault(only or split or "train", []).extend(pairs)
        listed = {}
        for split, pairs in by_split.items():
            paths = [image for image, _ in pairs]
            self.files[split] = [mask for _, mask in pairs]
            names = [path.relative_to(folder).as_posix() for path in paths]
            listed[split] = Listing(names, None, Files(paths), paths, [str(path) for path in paths])
        return listed

    @cached_property
    def content_of_masks(self) -> str:
        """sha256 over the bytes of all masks and over what their numbers mean."""
        found = in_parallel(digest, (path for split in self.listed for path in self.files[split]))
        return hashlib.sha256(b"".join((repr(self.meaning).encode(), *found))).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over images, masks, and all settings that decide what is in which split and how it looks."""
        return hashlib.sha256(repr((super().fingerprint, self.content_of_masks, self.classes)).encode()).hexdigest()

    @cached_property
    def stored(self) -> tuple[Path, dict[str, Any]]:
        """The folder of all masks, written where it is missing, and the highest class in each by split."""
        key = hashlib.sha256(repr((self.content, self.content_of_masks, self.decode_size)).encode()).hexdigest()

        def build(folder: Path) -> dict[str, Any]:
            files = [path for split in self.listed for path in self.files[split]]
            found = iter(write_masks(folder, files, self.pixels.shapes[:, 1:], self.meaning))
            return {"highest": {split: [next(found) for _ in listing.names] for split, listing in self.listed.items()}}

        return cached(f"masks-{key[:40]}", build, self.notes)

    def prepare(self, target: str | None = None, labels: list[str] | None = None, report: Report | None = None) -> None:
        """Decode all images and masks into the cache, or find them there; divide the images into splits.

        labels: the classes of a trained model, in its order; without them, those of the training masks.
        """
        self.report = report
        self.divide(list(self.listed))
        highest = self.stored[1]["highest"]
        labels = labels or self.names(max(highest["train"]))
        self.label_facts = {"num_classes": len(labels), "labels": labels}
        for split, numbers in highest.items():
            for number, file in zip(numbers, self.files[split], strict=True):
                if number >= len(labels):
                    raise DataError(f"{file}: holds class {number}, expected 0 to {len(labels) - 1}{self.meaning.hint}")

    def names(self, highest: int) -> list[str]:
        """What the classes of training masks with numbers up to `highest` are called."""
        if self.meaning.binary:
            return ["background", "foreground"]
        if self.classes is not None:
            return list(self.classes)
        if highest < 1:
            raise DataError(f"{self.where}: all pixels of the training masks are of class 0{self.meaning.hint}")
        if highest >= MANY:
            self.note(f"{self.where}: the masks hold {highest + 1} classes; {HINT}")
        return [str(number) for number in range(highest + 1)]

    def rows(self, split: str) -> MaskRows | None:
        """The images of a split with their masks, or None where there is no such split."""
        found = super().rows(split)
        return None if found is None else MaskRows(found, self.stored[0])

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: dict[str, Any] | None) -> ImageReader:
        """What reads images to predict on, at their own size: that is what masks are told in."""
        return ImageReader(columns.get("image"), None, (inputs or {}).get("channels") or node.get("channels"))
