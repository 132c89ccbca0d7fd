"""Your own images: a folder for each class, or a table of paths and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ptft.data.images import Images
from ptft.data.listings import choose_image, choose_label, find, list_folder, list_table, split_folders
from ptft.data.pixels import Listing
from ptft.data.reading import existing, first_row
from ptft.data.splits import held_out
from ptft.data.table import SPLITS
from ptft.errors import UserError


class ImageFolder(Images):
    """Images of a folder, classes being the folders in it, or of a table with a column of paths and one of labels.

    Folders train, valid and test in a folder are its splits. on_error: what an image that cannot be decoded does: raise,
    or skip, as long as the share of such images is no more than error_budget.
    """

    unlabelled = "there are no folders in it that would be classes"

    def __init__(
        self,
        path: str,
        image: str | None,
        label: str | None,
        valid_path: str | None,
        test_path: str | None,
        valid_fraction: float,
        test_fraction: float,
        split_seed: int,
        per_class: int | None,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        on_error: Literal["raise", "skip"],
        error_budget: float,
        inputs: dict | None = None,
    ):
        if not 0 <= error_budget <= 1:
            raise UserError(f"dataset.error_budget={error_budget}: expected a share from 0 to 1")
        self.on_error, self.error_budget, self.where = on_error, error_budget, f"dataset.path={path}"
        notes: list[str] = []
        train = find(path, "dataset.path")
        places = {"train": train, **(split_folders(train, notes) if train.is_dir() else {})}
        for split, name in (("valid", valid_path), ("test", test_path)):
            if name is not None:
                places[split] = find(name, f"dataset.{split}_path")
        own = {split: str(place) for split, place in places.items()}
        shares = held_out(str(train), own.get("valid"), own.get("test"), valid_fraction, test_fraction)
        self.image, self.label = image, label
        self.choose_columns([place for place in places.values() if not place.is_dir()])
        listed = {split: self.list(places[split], split, notes) for split in SPLITS if split in places}
        super().__init__(listed, shares, split_seed, per_class, decode_size, channels, inputs, notes)

    def choose_columns(self, tables: list[Path]) -> None:
        """Settle the columns of paths and labels: named or obvious, and in all tables."""
        if not tables:
            given = {"image": self.image, "label": self.label}
            for name in (name for name, column in given.items() if column is not None):
                raise UserError(f"dataset.{name}={given[name]} names a column, and {self.where} is no table; leave it out")
            return
        first = tables[0]
        self.image = choose_image(first, self.image, self.label)
        self.label = choose_label(first, self.label, self.image)
        for setting, column in (("dataset.image", self.image), ("dataset.label", self.label)):
            for table in tables:
                if column is not None:
                    existing(table, setting, column, list(first_row(table)))
        if self.label is None:
            columns = ", ".join(first_row(first))
            self.unlabelled = f"dataset.label is not set, and no column is plainly the label; columns: {columns}"

    def list(self, place: Path, split: str, notes: list[str]) -> Listing:
        """The images of one split."""
        if place.is_dir():
            return list_folder(place, f"dataset.{'path' if split == 'train' else f'{split}_path'}", notes)
        return list_table(place, self.image, self.label)
