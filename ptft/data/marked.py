"""What images with boxes and images with masks share: files that belong together, and the splits they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptft.data.files import resolve
from ptft.data.image_reader import ImageReader
from ptft.data.images import Images
from ptft.data.listings import Files
from ptft.data.pixels import Listing
from ptft.data.splits import held_out
from ptft.data.table import SPLITS
from ptft.errors import DataError

Found = dict[str | None, list[tuple[Path, Any]]]  # images with their marks by split, None where nothing names one


class Marked(Images):
    """Images with something to find in each; a subclass says how files are found (`find`) and what becomes of marks.

    Images of no split are training data, of which some is held out. marks: what belongs to each image, by split.
    """

    def __init__(
        self,
        path: str,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        decode_size: int | None,
        channels: int | None,
        inputs: dict | None,
    ):
        self.where, self.notes = f"dataset.path={path}", []
        self.marks: dict[str, list[Any]] = {}
        listed = self.list(path, "dataset.path", None)
        for split, name in (("valid", valid_path), ("test", test_path)):
            listed |= self.list(name, f"dataset.{split}_path", split) if name is not None else {}
        if "train" not in listed:
            raise DataError(f"{self.where}: holds images of {' and '.join(listed)}, and none to train on")
        own = {split: f"{path}:{split}" for split in listed}
        shares = held_out(path, valid_path or own.get("valid"), test_path or own.get("test"), valid_fraction, test_fraction)
        listed = {split: listed[split] for split in SPLITS if split in listed}
        super().__init__(listed, shares, split_seed, None, decode_size, channels, inputs, self.notes)

    def find(self, path: Path, setting: str) -> Found:
        """The images of a path with their marks, by split."""
        raise TypeError(f"{type(self).__name__} defines no find")

    def list(self, name: str, setting: str, only: str | None) -> dict[str, Listing]:
        """The images of a path by split; only: the split that all of them are."""
        path = resolve(name, setting).absolute()
        by_split: dict[str, list[tuple[Path, Any]]] = {}
        for split, pairs in self.find(path, setting).items():
            by_split.setdefault(only or split or "train", []).extend(pairs)
        root, listed = path if path.is_dir() else path.parent.parent, {}
        for split, pairs in by_split.items():
            files = [file for file, _ in pairs]
            names = [file.relative_to(root).as_posix() for file in files]
            listed[split] = Listing(names, None, Files(files), files, [str(file) for file in files])
            self.marks[split] = [mark for _, mark in pairs]
        return listed

    @classmethod
    def reader(cls, node: dict[str, Any], columns: dict[str, Any], inputs: dict[str, Any] | None) -> ImageReader:
        """What reads images to predict on, at their own size: that is what answers are told in."""
        return ImageReader(columns.get("image"), None, (inputs or {}).get("channels") or node.get("channels"))
