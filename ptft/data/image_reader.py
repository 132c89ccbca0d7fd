"""Images to predict on: a file, a folder, a table of paths, or arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ptft.data.arrays import as_images, list_arrays, list_npz, read_idx
from ptft.data.decoding import SUFFIXES, Undecodable, decode, in_parallel
from ptft.data.files import inner_suffix, resolve
from ptft.data.listings import choose_image, images_below, is_table, list_files, list_table
from ptft.data.pixels import Listing, with_channels
from ptft.data.reading import row_id, rows
from ptft.data.rows import Example
from ptft.errors import DataError


class ImageReader:
    """Reads images without labels as the model knows them.

    image: the column of paths in a table. channels: 1 or 3, None as they come.
    """

    def __init__(self, image: str | None, decode_size: int | None, channels: int | None):
        self.image, self.decode_size, self.channels = image, decode_size, channels

    def read(self, source: str) -> Iterator[tuple[Any, Example]]:
        """Each image with its id: a path as the folder or the table has it, or a number in an array.

        One that cannot be decoded has the reason as `error` in place of an image. Raises DataError.
        """
        ids, listing = self.listing(resolve(source, "input"))

        def work(row: int) -> Example:
            try:
                image = torch.from_numpy(decode(listing.raw(row), self.decode_size))
            except Undecodable as error:
                return {"error": str(error)}
            return {"image": with_channels(image, self.channels or len(image))}

        for row, found in enumerate(in_parallel(work, range(len(listing)))):
            yield ids[row], {**found, "row": row, "file": listing.names[row]}

    def listing(self, path: Path) -> tuple[list[Any], Listing]:
        """The ids and the images of what the user named."""
        if is_table(path):
            found = list_table(path, choose_image(path, self.image, None), None)
            return [row_id(row, name) for (_, row), name in zip(rows(path), found.names, strict=True)], found
        if path.is_dir():
            found = list_files(list(images_below(path, Counter())), path)
        elif path.suffix.lower() in SUFFIXES:
            found = list_files([path], path.parent)
        else:
            found = self.arrays(path)
            return list(range(len(found))), found
        if not len(found):
            raise DataError(f"input={path}: no images found; expected files that end in {', '.join(SUFFIXES)}")
        return found.names, found

    def arrays(self, path: Path) -> Listing:
        """The images of an npz file, of its test split where it has several, or of an idx file."""
        if path.suffix.lower() == ".npz":
            found = list_npz(path, "input", None, None)
            return found.get("test") or next(iter(found.values()))
        if inner_suffix(path) not in ("", ".idx") and not path.name.lower().removesuffix(".gz").endswith("ubyte"):
            raise DataError(f"input={path}: expected an image, a folder of images, a table of paths, an npz or an idx file")
        return list_arrays(as_images(read_idx(path), f"input={path}"), None, path, f"input={path}")
