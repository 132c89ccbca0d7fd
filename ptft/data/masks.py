"""Masks on disk: the class of each pixel, as large as the image is stored, written once and read by number."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ptft.data.decoding import FORMATS, LARGEST, in_parallel
from ptft.data.pixels import ImageRows
from ptft.data.rows import Example, Flat
from ptft.errors import DataError
from ptft.nn.decoder import IGNORED  # how a pixel without a class is stored, whatever number it has in the files

INDEXED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # modes whose pixels are whole numbers
HINT = "where any number above 0 means foreground, use dataset.classes=binary"


@dataclass(frozen=True)
class Meaning:
    """What the numbers in masks stand for: binary: 0 or anything else. ignore: the number of no class; None: there is none."""

    binary: bool
    ignore: int | None

    def classes(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers as classes uint8 with IGNORED among them. Raises ValueError for numbers too large or too small."""
        if self.binary:
            return (numbers != 0).astype(np.uint8)
        ignored = numbers == self.ignore
        held = numbers[~ignored]
        if held.max(initial=0) >= IGNORED or held.min(initial=0) < 0:
            raise ValueError(f"holds class {held.max()}, expected 0 to {IGNORED - 1}{self.hint}")
        return np.where(ignored, IGNORED, numbers).astype(np.uint8)

    @property
    def hint(self) -> str:
        """What else a number may be that is no class."""
        return f"{'' if self.ignore is None else f' or {self.ignore} for pixels to ignore'}; {HINT}"


def read_mask(path: Path) -> np.ndarray:
    """The number of each pixel, int64 [H, W], from a file with a palette, in grey or with 16 bits. Raises DataError."""
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels are more than ptft reads ({LARGEST:,})")
            if image.mode not in INDEXED:
                raise ValueError(f"its pixels are {image.mode} colours, expected a palette or class numbers in grey")
            return np.array(image).astype(np.int64)
    except Exception as error:  # what decoders raise on damaged files has no common type
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: {said}") from error


def resized(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A mask at another size of the same shape, each pixel the one at its centre."""
    height, width = size
    rows = (np.arange(height) * 2 + 1) * mask.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * mask.shape[1] // (2 * width)
    return mask[rows][:, columns]


def check_size(mask: np.ndarray, image: Path, stored: Sequence[int]) -> None:
    """Refuse a mask that is not as large as its image, which is stored upright at another size [H, W]; ValueError."""
    with Image.open(image, formats=FORMATS) as opened:
        width, height = opened.size
    turned = (stored[0] - stored[1]) * (height - width)  # below 0 where the camera was held on its side
    allowed = [(height, width)] * (turned >= 0) + [(width, height)] * (turned <= 0)
    if mask.shape not in allowed:
        found = f"has {mask.shape[1]} x {mask.shape[0]} pixels, and its image {image} {allowed[0][1]} x {allowed[0][0]}"
        raise ValueError(f"{found}; expected masks as large as their images")


def write_masks(folder: Path, pairs: Sequence[tuple[Path, Path]], sizes: np.ndarray, meaning: Meaning) -> list[int]:
    """Write the masks of images behind one another, each at the size [H, W] its image is stored at.

    pairs: the files of image and mask. Returns the highest class of each, -1 where there is none. Raises DataError.
    """

    def work(job: tuple[tuple[Path, Path], np.ndarray]) -> np.ndarray:
        (image, path), size = job
        try:
            mask = read_mask(path)
            check_size(mask, image, size.tolist())
            return resized(meaning.classes(mask), size.tolist())
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error

    highest = []
    with (folder / "masks").open("wb") as file:
        for mask in in_parallel(work, zip(pairs, sizes, strict=True)):
            file.write(mask.tobytes())
            highest.append(int(mask[mask != IGNORED].astype(np.int64).max(initial=-1)))
    return highest


class MaskRows(ImageRows):
    """The images of one split; an example also has mask uint8 [H, W], where 255 is to be ignored."""

    def __init__(self, images: ImageRows, folder: Path):
        super().__init__(images.pixels, images.numbers, images.channels, images.names)
        self.masks = Flat(folder / "masks", "uint8")
        self.ends = images.pixels.shapes[:, 1:].prod(1, dtype=np.int64).cumsum()

    def take(self, indices: Sequence[int]) -> list[Example]:
        examples = super().take(indices)
        for example in examples:
            height, width = example["image"].shape[1:]
            end = int(self.ends[self.numbers[example["row"]]])
            raw = self.masks.raw(end - height * width, end)
            example["mask"] = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(height, width)
        return examples
