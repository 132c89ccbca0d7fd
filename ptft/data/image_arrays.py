"""Images from idx files and npz files."""

from __future__ import annotations

from typing import Literal

from ptft.data.arrays import list_idx, list_npz
from ptft.data.files import resolve
from ptft.data.images import Images
from ptft.data.pixels import Listing
from ptft.data.splits import held_out
from ptft.data.table import SPLITS
from ptft.errors import DataError, UserError


class IdxImages(Images):
    """Images of idx files, each with a second file of labels, plain or gzipped."""

    unlabelled = "dataset.labels is not set"

    def __init__(
        self,
        images: str,
        labels: str | None,
        valid_images: str | None,
        valid_labels: str | None,
        test_images: str | None,
        test_labels: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        per_class: int | None,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        self.where = f"dataset.images={images}"
        shares = held_out(images, valid_images, test_images, valid_fraction, test_fraction)
        pairs = {"": (images, labels), "valid_": (valid_images, valid_labels), "test_": (test_images, test_labels)}
        listed = {}
        for split, (mark, (image_file, label_file)) in zip(SPLITS, pairs.items(), strict=True):
            if image_file is None and label_file is not None:
                raise UserError(f"dataset.{mark}labels={label_file}: dataset.{mark}images must be given as well")
            if image_file is not None:
                listed[split] = list_idx(image_file, label_file, (f"dataset.{mark}images", f"dataset.{mark}labels"))
        super().__init__(listed, shares, split_seed, per_class, decode_size, channels, inputs)


class ImageArrays(Images):
    """Images of an npz file: arrays images and labels, or such of splits (x_train, train_images, ...)."""

    unlabelled = "no array is plainly that of the labels; name it with dataset.labels"

    def __init__(
        self,
        path: str,
        images: str | None,
        labels: str | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        per_class: int | None,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        self.where = f"dataset.path={path}"
        if labels is not None and images is None:
            raise UserError(f"dataset.labels={labels}: dataset.images must be given as well")
        found = list_npz(resolve(path, "dataset.path"), "dataset.path", images, labels)
        if "train" not in found:
            raise DataError(f"{self.where}: holds arrays of {' and '.join(found)}, and none to train on")
        for split, name in (("valid", valid_path), ("test", test_path)):
            if name is not None:
                found[split] = self.only(name, split, images, labels)
        own = {split: {"valid": valid_path, "test": test_path}.get(split) or f"{path}:{split}" for split in found}
        shares = held_out(path, own.get("valid"), own.get("test"), valid_fraction, test_fraction)
        listed = {split: found[split] for split in SPLITS if split in found}
        super().__init__(listed, shares, split_seed, per_class, decode_size, channels, inputs)

    def only(self, name: str, split: str, images: str | None, labels: str | None) -> Listing:
        """The images of a file of one split: those for it, or for none in particular."""
        setting = f"dataset.{split}_path"
        found = list_npz(resolve(name, setting), setting, images, labels)
        return found.get(split) or next(iter(found.values()))
