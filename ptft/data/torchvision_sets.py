"""Image sets that torchvision knows by name, fetched from their own places where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptft.data.decoding import Undecodable
from ptft.data.images import Images
from ptft.data.pixels import Listing
from ptft.data.splits import held_out
from ptft.errors import DataError, MachineError, UserError, did_you_mean


@dataclass(frozen=True)
class Source:
    """A class of torchvision.datasets, its arguments for each split, and where below its root its files lie.

    files: patterns that each find something once the set is there. names: the classes, where the set's own are no good.
    turned: whether torchvision gives images as they lie in the files, with columns before rows.
    """

    kind: str
    splits: Mapping[str, Mapping[str, Any]]
    files: tuple[str, ...]
    names: tuple[str, ...] = ()
    labelled: bool = True
    turned: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


def flagged(kind: str, *files: str, **more: Any) -> Source:
    """A set whose class of torchvision chooses its split by train=True or False."""
    return Source(kind, {"train": {"train": True}, "test": {"train": False}}, files, **more)


def named(kind: str, *files: str, train: str = "train", **more: Any) -> Source:
    """A set whose class of torchvision chooses its split by name."""
    return Source(kind, {"train": {"split": train}, "test": {"split": "test"}}, files, **more)


def idx_files(folder: str, mark: str = "") -> tuple[str, ...]:
    """Where the four idx files of a set of MNIST's kind lie below its root."""
    parts = ("train-images", "train-labels", "test-images", "test-labels")
    found = parts if mark else tuple(part.replace("test", "t10k") for part in parts)
    return tuple(f"{folder}/raw/{mark}{part}-idx?-ubyte" for part in found)


DIGITS = tuple("0123456789")
SOURCES = {
    "mnist": flagged("MNIST", *idx_files("MNIST"), names=DIGITS),
    "fashion_mnist": flagged("FashionMNIST", *idx_files("FashionMNIST")),
    "kmnist": flagged("KMNIST", *idx_files("KMNIST")),
    "emnist": flagged("EMNIST", *idx_files("EMNIST", "emnist-balanced-"), arguments={"split": "balanced"}, turned=True),
    "cifar10": flagged("CIFAR10", "cifar-10-batches-py/data_batch_*", "cifar-10-batches-py/test_batch"),
    "cifar100": flagged("CIFAR100", "cifar-100-python/train", "cifar-100-python/test"),
    "stl10": named("STL10", "stl10_binary/train_*.bin", "stl10_binary/test_*.bin"),
    "stl10_unlabelled": Source("STL10", {"train": {"split": "unlabeled"}}, ("stl10_binary/unlabeled_X.bin",), labelled=False),
    "svhn": named("SVHN", "train_32x32.mat", "test_32x32.mat", names=DIGITS),
    "oxford_pet": named("OxfordIIITPet", "oxford-iiit-pet/images/*.jpg", "oxford-iiit-pet/annotations/*.txt", train="trainval"),
    "flowers102": Source(
        "Flowers102",
        {"train": {"split": "train"}, "valid": {"split": "val"}, "test": {"split": "test"}},
        ("flowers-102/jpg/*.jpg", "flowers-102/*.mat"),
    ),
    "food101": named("Food101", "food-101/images/*/*.jpg", "food-101/meta/*.json"),
}


class TorchvisionImages(Images):
    """A well-known set. Its test split is the set's own; what is for validation is held out of the rest, if it has none.

    root: the folder of the files; null: the cache. download: whether to fetch them where they are missing.
    """

    unlabelled = "these images have no labels"

    def __init__(
        self,
        name: str,
        root: str | None,
        download: bool,
        valid_fraction: float,
        split_seed: int,
        per_class: int | None,
        decode_size: int | None,
        channels: Literal[1, 3] | None,
        inputs: dict | None = None,
    ):
        if name not in SOURCES:
            raise UserError(f"dataset.name={name} is not known{did_you_mean(name, SOURCES)}")
        self.name, self.source, self.where = name, SOURCES[name], f"dataset.name={name}"
        folder = Path(root).expanduser() if root else cache_folder()
        opened = self.open(folder, download)
        files = sorted(path for pattern in self.source.files for path in folder.glob(pattern))
        listed = {split: self.list(split, images, files if split == "train" else []) for split, images in opened.items()}
        shares = held_out(name, "own" if "valid" in listed else None, "own", valid_fraction, 0.0)
        super().__init__(listed, shares, split_seed, per_class, decode_size, channels, inputs)

    def open(self, folder: Path, download: bool) -> dict[str, Any]:
        """The sets of torchvision by split. Raises DataError where files are missing, MachineError where none can be had."""
        missing = [pattern for pattern in self.source.files if not any(folder.glob(pattern))]
        if missing and not download:
            raise DataError(
                f"{self.where}: {folder} does not hold {missing[0]}; dataset.download=true fetches the set, "
                f"dataset.root=FOLDER names another place"
            )
        from torchvision import datasets

        kind = getattr(datasets, self.source.kind)
        arguments = {"root": str(folder), "download": bool(missing), **self.source.arguments}
        try:
            if missing:
                folder.mkdir(parents=True, exist_ok=True)
            return {split: kind(**arguments, **chosen) for split, chosen in self.source.splits.items()}
        except ImportError as error:
            raise MachineError(f"{self.where} needs {error.name or 'a package that is missing'}: pip install it") from error
        except (OSError, RuntimeError, ValueError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            if missing:
                raise MachineError(f"dataset.download=true: {self.where} cannot be fetched into {folder} ({told})") from error
            raise DataError(
                f"{self.where}: {folder} is damaged ({told}); delete it, dataset.download=true fetches it"
            ) from error

    def list(self, split: str, images: Any, files: list[Path]) -> Listing:
        """The images of one split of torchvision's."""

        def raw(row: int) -> np.ndarray:
            try:
                image = np.array(images[row][0])
            except OSError as error:
                raise Undecodable(str(error).splitlines()[0]) from error
            return np.ascontiguousarray(image.T) if self.source.turned else image

        names = [f"{self.name}:{split}:{row}" for row in range(len(images))]
        return Listing(names, self.labels(images) if self.source.labelled else None, raw, files, names)

    def labels(self, images: Any) -> list[str]:
        """The class of each image by name. Sets keep their numbers under several names."""
        codes = next(getattr(images, name) for name in ("targets", "labels", "_labels") if hasattr(images, name))
        names = self.source.names or tuple(getattr(images, "classes", ()))
        return [names[code] if names else str(code) for code in map(int, codes)]


def cache_folder() -> Path:
    """Where sets lie unless another place is named."""
    root = os.environ.get("PTFT_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "ptft") / "torchvision"
