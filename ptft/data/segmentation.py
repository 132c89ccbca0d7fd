"""Images with a class for each pixel: folders of images and of masks with equal names."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ptft.data.cache import cached
from ptft.data.decoding import in_parallel
from ptft.data.files import digest
from ptft.data.marked import Found, Marked
from ptft.data.mask_files import read_mask_files
from ptft.data.masks import HINT, MaskRows, Meaning, write_masks
from ptft.data.pixels import LAYOUT, Report
from ptft.errors import DataError

MANY = 64  # classes that may be instances instead


class Masks(Marked):
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
        self.classes, self.images_folder, self.masks_folder = classes, images, masks
        self.meaning = Meaning(classes == "binary", None if classes == "binary" else ignore)
        fractions = (valid_fraction, test_fraction)
        super().__init__(path, valid_path, test_path, *fractions, split_seed, decode_size, channels, inputs)

    def find(self, path: Path, setting: str) -> Found:
        """The images of a folder with their masks, by split."""
        return read_mask_files(path, setting, self.images_folder, self.masks_folder, self.notes)

    @cached_property
    def content_of_masks(self) -> str:
        """sha256 over the bytes of all masks and over what their numbers mean."""
        found = in_parallel(digest, (path for split in self.listed for path in self.marks[split]))
        return hashlib.sha256(b"".join((repr(self.meaning).encode(), *found))).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over images, masks, and all settings that decide what is in which split and how it looks."""
        return hashlib.sha256(repr((super().fingerprint, self.content_of_masks, self.classes)).encode()).hexdigest()

    @cached_property
    def stored(self) -> tuple[Path, dict[str, Any]]:
        """The folder of all masks, written where it is missing, and the highest class in each by split."""
        known = (LAYOUT, self.content, self.content_of_masks, self.decode_size)
        key = hashlib.sha256(repr(known).encode()).hexdigest()

        def build(folder: Path) -> dict[str, Any]:
            pairs = [pair for split in self.listed for pair in zip(self.listed[split].sources, self.marks[split], strict=True)]
            found = iter(write_masks(folder, pairs, self.pixels.shapes[:, 1:], self.meaning))
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
            for number, file in zip(numbers, self.marks[split], strict=True):
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
