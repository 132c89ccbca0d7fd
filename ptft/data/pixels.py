"""Decoded images on disk: written once, read by number, as fast as the disk's cache gives them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptft.data.decoding import Raw, Undecodable, as_shown, in_parallel, luminance
from ptft.data.rows import Example, Flat, Rows
from ptft.errors import DataError

Report = Callable[[str, int, int], None]  # what is done, how much of it, out of how much
Skipped = dict[str, list[tuple[int, str]]]  # per split: rows that cannot be decoded, and why
DIGEST = 16  # bytes
LAYOUT = 4  # raise it when what `write` makes of an image changes: old folders are then left alone


@dataclass
class Listing:
    """The images of one split before they are decoded.

    names: what predictions and pictures call each. labels: each one's as text, or None. raw(row): its file or pixels, read
    now. sources: the files that hold them. places: what a message names, by default the names. listed: the place of the first
    label that is a list, or None.
    """

    names: list[str]
    labels: list[str] | None
    raw: Callable[[int], Raw] | None
    sources: list[Path]
    places: list[str]
    listed: str | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class Decoded:
    """One image and what is kept of it: digests of source and pixels (bytes), sums int64 [3, 2] (see moments).

    transparent: parts of it were, and are white now.
    """

    pixels: np.ndarray
    digests: bytes
    sums: np.ndarray
    transparent: bool


def write(
    folder: Path, listings: dict[str, Listing], size: int | None, stop: bool, report: Report | None
) -> tuple[Skipped, int]:
    """Decode all images into files of `folder`; return which could not be decoded, and how many were transparent in parts.

    stop: end at the first that cannot be decoded.
    """
    skipped: Skipped = {split: [] for split in listings}
    transparent = 0
    shapes, digests, sums = [], [], []
    with (folder / "pixels").open("wb") as file, closing(decoded(listings, size, report)) as images:
        for split, row, image in images:
            if isinstance(image, str):
                skipped[split].append((row, image))
                if stop:
                    break
                continue
            file.write(image.pixels.data)
            shapes.append(image.pixels.shape)
            digests.append(image.digests)
            sums.append(image.sums)
            transparent += image.transparent
    (folder / "digests").write_bytes(b"".join(digests))
    np.array(shapes, dtype=np.int32).reshape(-1, 3).tofile(folder / "shapes")
    np.array(sums, dtype=np.int64).reshape(-1, 3, 2).tofile(folder / "sums")
    return skipped, transparent


def decoded(listings: dict[str, Listing], size: int | None, report: Report | None) -> Iterator[tuple[str, int, Decoded | str]]:
    """Each image with its split and row there, or what is wrong with it."""

    def work(job: tuple[str, int]) -> tuple[str, int, Decoded | str]:
        split, row = job
        try:
            return split, row, examined(listings[split].raw(row), size)
        except Undecodable as error:
            return split, row, str(error)

    total = sum(map(len, listings.values()))
    jobs = ((split, row) for split, listing in listings.items() for row in range(len(listing)))
    for done, answer in enumerate(in_parallel(work, jobs), 1):
        yield answer
        if report and (done % 64 == 0 or done == total):
            report("decoding", done, total)


def examined(raw: Raw, size: int | None) -> Decoded:
    """An image as it is kept, with what tells it from others and what is summed over all."""
    pixels, transparent = as_shown(raw, size)
    source = raw if isinstance(raw, bytes) else np.ascontiguousarray(raw).data
    told = repr(pixels.shape).encode()
    return Decoded(pixels, digest(source) + digest(told, pixels.data), np.broadcast_to(moments(pixels), (3, 2)), transparent)


def digest(*parts: Any) -> bytes:
    """A hash of the bytes of all parts."""
    found = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        found.update(part)
    return found.digest()


def moments(pixels: np.ndarray) -> np.ndarray:
    """Sum and sum of squares of each channel, int64 [C, 2]."""
    flat = pixels.reshape(len(pixels), -1)
    return np.stack([flat.sum(1, dtype=np.int64), np.square(flat, dtype=np.uint16).sum(1, dtype=np.int64)], 1)


class Bytes(Flat):
    """Bytes in a file, of which many ranges are read at once into one tensor."""

    def gather(self, starts: list[int], sizes: list[int]) -> Tensor:
        """The bytes of some ranges one after the other, uint8."""
        file, place = self.open(), 0
        found = torch.empty(sum(sizes), dtype=torch.uint8)
        room = memoryview(found.numpy())
        for start, size in zip(starts, sizes, strict=True):
            if os.preadv(file, [room[place : place + size]], start) != size:
                raise DataError(f"{self.path}: shorter than it was; the cache was changed while it was read")
            place += size
        return found

    def open(self) -> int:
        if self.file is None:
            self.file = os.open(self.path, os.O_RDONLY)
        return self.file


class Pixels:
    """The images of a folder that `write` filled, by number."""

    def __init__(self, folder: Path):
        self.values = Bytes(folder / "pixels", "uint8")
        self.shapes = np.fromfile(folder / "shapes", dtype=np.int32).reshape(-1, 3)
        self.bounds = np.concatenate([[0], self.shapes.prod(1, dtype=np.int64).cumsum()])
        self.folder = folder

    def __len__(self) -> int:
        return len(self.shapes)

    def take(self, numbers: np.ndarray, channels: int) -> list[Tensor]:
        """Images uint8 [channels, H, W]."""
        shapes, starts = self.shapes[numbers], self.bounds[numbers]
        sizes = (self.bounds[numbers + 1] - starts).tolist()
        whole = self.values.gather(starts.tolist(), sizes)
        if (shapes == shapes[0]).all():
            return list(with_channels(whole.view(len(sizes), *shapes[0].tolist()), channels).unbind())
        images = zip(whole.split(sizes), shapes.tolist(), strict=True)
        return [with_channels(image.view(shape), channels) for image, shape in images]

    def identities(self) -> list[str]:
        """One text for each image, the same for equal images whatever file they came from, and whatever size is stored."""
        pairs = np.fromfile(self.folder / "digests", dtype=f"V{DIGEST}").reshape(-1, 2)
        sources, pixels = ([item.tobytes().hex() for item in column] for column in pairs.T)
        first: dict[str, str] = {}
        for source, look in zip(sources, pixels, strict=True):
            first[look] = min(source, first.get(look, source))
        return [first[look] for look in pixels]

    def spread(self, numbers: np.ndarray, channels: int) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over some images, in 0..1."""
        if channels == 1 and (self.shapes[numbers, 0] > 1).any():
            sums = sum(moments(image.numpy()) for number in numbers for image in self.take(np.array([number]), 1))
        else:
            sums = np.fromfile(self.folder / "sums", dtype=np.int64).reshape(-1, 3, 2)[numbers].sum(0)[:channels]
        count = int(self.shapes[numbers, 1:].prod(1, dtype=np.int64).sum())
        mean = [int(first) / count for first, _ in sums]
        variance = [int(second) / count - middle**2 for (_, second), middle in zip(sums, mean, strict=True)]
        return [middle / 255 for middle in mean], [max(value, 1.0) ** 0.5 / 255 for value in variance]


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images [..., C, H, W] as grey or in colours."""
    if images.shape[-3] == channels:
        return images
    if channels == 1:
        return torch.from_numpy(luminance(images.numpy()))
    return images.expand(*images.shape[:-3], channels, -1, -1)


class ImageRows(Rows):
    """The images of one split.

    An example has image uint8 [C, H, W]; row; file, its name; and label, where there are labels: int, float or uint8
    [num_classes] of 0 and 1.
    """

    def __init__(
        self, pixels: Pixels, numbers: np.ndarray, channels: int, names: Sequence[str], labels: np.ndarray | None = None
    ):
        self.pixels, self.numbers, self.channels, self.names = pixels, numbers, channels, names
        self.labels = labels if labels is None or labels.ndim > 1 else labels.tolist()

    def __len__(self) -> int:
        return len(self.numbers)

    def lengths(self) -> np.ndarray:
        return self.pixels.shapes[self.numbers, 1:].prod(1, dtype=np.int64)

    def take(self, indices: Sequence[int]) -> list[Example]:
        images = self.pixels.take(self.numbers[np.asarray(indices, dtype=np.int64)], self.channels)
        examples = [{"image": image, "row": row, "file": self.names[row]} for image, row in zip(images, indices, strict=True)]
        if self.labels is not None:
            for example in examples:
                example["label"] = self.labels[example["row"]]
        return examples
