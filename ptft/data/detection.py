"""Images with boxes to find: Pascal VOC's files or COCO's, recognised by what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ptft.data.annotated import Box
from ptft.data.box_files import read_box_files
from ptft.data.decoding import FORMATS, orientation
from ptft.data.marked import Found, Marked
from ptft.data.pixels import ImageRows, Report
from ptft.data.rows import Example
from ptft.errors import DataError

LYING = (5, 6, 7, 8)  # EXIF orientations whose height and width are exchanged
Table = dict[str, Any]  # what an example of BoxRows has beside its image


class Boxes(Marked):
    """Images with boxes, each of a class; classes are numbered from 0, and there is none for the background.

    Splits are what files and folders are named after (ImageSets/*/train.txt, train/, instances_train2017.json); images of
    no split are training data, of which some is held out. bad_boxes: whether boxes without area, or of a class that is
    not known, end the run or are left out. What reaches over the border of an image is cut, and crowds (COCO's iscrowd,
    Pascal VOC's difficult) are left out, where it is learned; what is found is compared with all of them, as they are in
    the files. decode_size, channels, inputs: as for all images.
    """

    targets = (None, "boxes")

    def __init__(
        self,
        path: str,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        bad_boxes: Literal["fail", "drop"],
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        self.bad_boxes = bad_boxes
        self.categories: list[str] = []
        self.tables: dict[str, list[Table]] = {}
        fractions = (valid_fraction, test_fraction)
        super().__init__(path, valid_path, test_path, *fractions, split_seed, decode_size, channels, inputs)
        self.leave_out({box: box.fault for box in self.all_boxes() if box.fault})
        crowds = sum(box.crowd for box in self.all_boxes())
        if crowds:
            of = "of crowds (iscrowd) or difficult things (difficult)"
            self.note(f"{crowds:,} boxes {of} are not learned, and what is found in them does not count")
        told = [
            [[(box.corners, box.name, box.area, box.crowd) for box in mark.boxes] for mark in self.marks[split]]
            for split in self.listed
        ]
        self.content_of_boxes = hashlib.sha256(repr(told).encode()).hexdigest()

    def find(self, path: Path, setting: str) -> Found:
        """The images of a path with what is annotated, by split."""
        found = read_box_files(path, setting)
        self.categories += [name for name in found.categories if name not in self.categories]
        return found.by_split

    def all_boxes(self) -> Iterator[Box]:
        return (box for marks in self.marks.values() for mark in marks for box in mark.boxes)

    def leave_out(self, faults: dict[Box, str]) -> None:
        """Drop boxes that have faults, or raise DataError for the first."""
        if not faults:
            return
        first, fault = next(iter(faults.items()))
        told = f"{first.place} ('{first.name}'): {fault}"
        if self.bad_boxes == "fail":
            raise DataError(f"{told}; dataset.bad_boxes=drop leaves such boxes out")
        self.note(f"{len(faults):,} boxes were left out (dataset.bad_boxes=drop); the first: {told}")
        for marks in self.marks.values():
            for mark in marks:
                mark.boxes[:] = [box for box in mark.boxes if box not in faults]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over images, boxes, and all settings that decide what is in which split and how it looks."""
        return hashlib.sha256(f"{super().fingerprint} {self.content_of_boxes}".encode()).hexdigest()

    def prepare(self, target: str | None = None, labels: list[str] | None = None, report: Report | None = None) -> None:
        """Decode all images into the cache, or find them there; number the classes and divide the images into splits.

        labels: the classes of a trained model, in its order; without them COCO's categories, or the sorted ones of the
        training images.
        """
        self.report = report
        training = [box for mark in self.marks["train"] for box in mark.boxes]
        if all(box.crowd for box in training):
            raise DataError(f"{self.where}: no training image has a box")
        labels = labels or self.categories or sorted({box.name for box in training})
        unknown = f"none of the {len(labels)} known classes: {', '.join(labels[:12])}"
        self.leave_out({box: unknown for box in self.all_boxes() if box.name not in labels})
        self.label_facts = {"num_classes": len(labels), "labels": labels}
        self.place({name: index for index, name in enumerate(labels)})
        self.divide(list(self.listed))

    def place(self, code: dict[str, int]) -> None:
        """What is learned: boxes at the size at which images are stored, cut at the border; what is found: as annotated."""
        shapes = self.pixels.shapes[:, 1:].astype(np.float64)
        outside, cut, self.tables = {}, 0, {}
        others: list[str] = []  # images of another size than is annotated
        for split, marks in self.marks.items():
            files, numbers = self.listed[split].sources, self.wholes[split].numbers
            self.tables[split] = []
            for mark, file, size in zip(marks, files, shapes[numbers], strict=True):
                own_size = self.own_size(file, size)
                if mark.size and mark.size != tuple(own_size):
                    others.append(f"{file} is {own_size[1]:g} x {own_size[0]:g}, not {mark.size[1]} x {mark.size[0]}")
                annotated = np.array([box.corners for box in mark.boxes], dtype=np.float64).reshape(-1, 4)
                whole = annotated * np.tile(size[::-1] / own_size[::-1], 2)
                inside = np.clip(whole, 0, np.tile(size[::-1], 2))
                cut += int((np.abs(whole - inside) > 1).any(1).sum())
                empty = (inside[:, 2:] <= inside[:, :2]).any(1)
                outside |= {box: f"lies outside of {file}" for box, gone in zip(mark.boxes, empty, strict=True) if gone}
                classes = np.array([code[box.name] for box in mark.boxes], dtype=np.int64)
                crowd = np.array([box.crowd for box in mark.boxes], dtype=bool)
                area = np.array([box.area or 0 for box in mark.boxes], dtype=np.float64)
                truth = {"boxes": annotated, "labels": classes, "iscrowd": crowd.astype(np.int64), "area": area}
                truth = {name: values[~empty] for name, values in truth.items()}
                learned = {"boxes": inside.astype(np.float32), "classes": classes}
                learned = {name: values[~empty & ~crowd] for name, values in learned.items()}
                self.tables[split].append(learned | {"truth": truth, "own_size": tuple(own_size.tolist())})
        self.leave_out(outside)
        if others:
            told = f"{len(others):,} images are not as large as {self.where} says, and their boxes may not fit"
            self.note(f"{told}; the first: {others[0]}")
        if cut:
            self.note(f"{cut:,} boxes reach over the border of their image and were cut")

    def own_size(self, file: Path, size: np.ndarray) -> np.ndarray:
        """Height and width of an image in its file, given the ones it is stored at."""
        return upright_size(file) if size.min() == self.decode_size else size.astype(np.int64)

    def rows(self, split: str) -> BoxRows | None:
        """The images of a split with their boxes, or None where there is no such split."""
        found = super().rows(split)
        if found is None:
            return None
        part = self.parts[split]
        return BoxRows(found, [self.tables[part.origin][row] for row in part.rows])

    def describe(self) -> dict[str, Any]:
        """What the run card says of these images."""
        boxes = {split: sum(len(table["classes"]) for table in tables) for split, tables in self.tables.items()}
        return super().describe() | {"boxes": boxes}


class BoxRows(ImageRows):
    """The images of one split.

    An example also has what is to be learned, boxes float32 [n, 4] (x1, y1, x2, y2 in pixels) and classes int64 [n];
    truth, what is to be found, in the pixels of the file: boxes float64, labels, iscrowd and area (0: that of the box);
    and own_size, height and width of the image in its file.
    """

    def __init__(self, images: ImageRows, tables: Sequence[Table]):
        super().__init__(images.pixels, images.numbers, images.channels, images.names)
        self.tables = tables

    def take(self, indices: Sequence[int]) -> list[Example]:
        examples = super().take(indices)
        for example in examples:
            example |= self.tables[example["row"]]
        return examples


def upright_size(path: Path) -> np.ndarray:
    """Height and width of an image file as it is to be looked at."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        return np.array([width, height] if orientation(image) in LYING else [height, width])
