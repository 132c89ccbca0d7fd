"""Images as arrays: idx files (as MNIST comes) and npz files, plain or gzipped."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.files import resolve
from ptft.data.listings import SPELLINGS
from ptft.data.opening import guarded, open_bytes
from ptft.data.pixels import Listing
from ptft.errors import DataError, did_you_mean

IMAGE_KEYS = ("images", "image", "x", "X", "pixels", "data")
LABEL_KEYS = ("labels", "label", "y", "Y", "targets", "target")
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
LARGEST = 1 << 36  # bytes; a header that announces more is broken


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file: two zero bytes, a type, the number of dimensions, their sizes as big-endian int32, data."""
    with guarded(path), open_bytes(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not head[3]:
            raise DataError(f"{path}: no idx file (its first bytes are {head.hex(' ') or 'missing'}, expected 00 00 08 03)")
        kind = np.dtype(IDX_TYPES[head[2]])
        shape = np.frombuffer(stream.read(4 * head[3]).ljust(4 * head[3], b"\xff"), dtype=">u4").astype(np.int64).tolist()
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if size > LARGEST:
            raise DataError(f"{path}: its header announces {size:,} bytes; the file is damaged")
        data = stream.read(size + 1)
    if len(data) != size:
        least = "at least " if len(data) > size else ""
        raise DataError(f"{path}: holds {least}{len(data):,} bytes of data, its header announces {size:,} {tuple(shape)}")
    return np.frombuffer(data, dtype=kind).reshape(shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name; nothing in it is unpickled."""
    try:
        with guarded(path), path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it holds a single array")
            return {name: found[name] for name in found.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no npz file of plain arrays ({str(error).splitlines()[0]})") from error


def as_images(array: np.ndarray, where: str) -> np.ndarray:
    """Any array of images as uint8 [N, H, W] or [N, H, W, C]; numbers from 0 to 1 become 0 to 255. Raises DataError."""
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = array.transpose(0, 2, 3, 1)
    colours = array.shape[-1] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or colours not in (1, 3, 4) or 0 in array.shape[1:]:
        raise DataError(f"{where}: shape {array.shape}; expected [N, H, W] or [N, H, W, C] of 1, 3 or 4 channels")
    array = array[..., :3] if colours == 4 else array
    if array.dtype == np.uint8 and array.max(initial=0) != 1:
        return array
    return to_bytes(array, where)


def to_bytes(array: np.ndarray, where: str) -> np.ndarray:
    """Truth values, numbers from 0 to 1, or from 0 to 255, as uint8."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {array.dtype}; expected numbers")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):
        raise DataError(f"{where}: values from {low:g} to {high:g}; expected 0 to 255, or 0 to 1")
    scale = 255 if array.dtype.kind == "b" or high == 1 or (array.dtype.kind == "f" and high < 1) else 1
    return np.rint(array * scale).astype(np.uint8)


def as_labels(array: np.ndarray, where: str) -> list[str]:
    """Labels [N] as text, or rows of 0 and 1 [N, classes] as the numbers of their classes."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and np.isin(array, (0, 1)).all():
        return ["|".join(map(str, np.flatnonzero(row))) for row in array]
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise DataError(f"{where}: shape {array.shape} of {array.dtype}; expected one label for each image")
    return [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in array.tolist()]


def list_arrays(images: np.ndarray, labels: list[str] | None, path: Path, where: str) -> Listing:
    """Images in memory, uint8 [N, H, W] or [N, H, W, C]; where: what a message about them names."""
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{where}: {len(images):,} images and {len(labels):,} labels; expected as many of both")
    if not len(images):
        raise DataError(f"{where}: no images in it")
    names = [f"{path.name}:{number}" for number in range(len(images))]
    return Listing(names, labels, images.__getitem__, [path], names)


def list_idx(images: str, labels: str | None, settings: tuple[str, str]) -> Listing:
    """An idx file of images with one of labels; settings: the names of both for messages."""
    path = resolve(images, settings[0])
    found = as_images(read_idx(path), f"{settings[0]}={images}")
    codes = None
    if labels is not None:
        codes = as_labels(read_idx(resolve(labels, settings[1])), f"{settings[1]}={labels}")
    return list_arrays(found, codes, path, f"{settings[0]}={images}" + (f", {settings[1]}={labels}" if labels else ""))


def list_npz(path: Path, setting: str, images: str | None, labels: str | None) -> dict[str, Listing]:
    """The splits of an npz file: "train" where its arrays are for no split in particular."""
    arrays = read_npz(path)
    where = f"{setting}={path}"
    if images is not None:
        pairs = {"train": (wanted(images, "images", arrays, where), labels and wanted(labels, "labels", arrays, where))}
    else:
        pairs = pairs_by_split(arrays)
    if not pairs:
        raise DataError(f"{where}: no array is plainly that of the images; name it with dataset.images: {told(arrays)}")
    listed = {}
    for split, (image_key, label_key) in pairs.items():
        codes = as_labels(arrays[label_key], f"{where}, array '{label_key}'") if label_key else None
        found = as_images(arrays[image_key], f"{where}, array '{image_key}'")
        listing = list_arrays(found, codes, path, f"{where}, array '{image_key}'")
        listing.names = [f"{path.name}:{image_key}:{number}" for number in range(len(found))]
        listed[split] = listing
    return listed


def pairs_by_split(arrays: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Which arrays are the images and labels of each split: images, x_train, train_images ..."""
    found = {}
    for split, spellings in SPELLINGS.items():
        marks = ([""] if split == "train" else []) + list(spellings)
        image = key_of(arrays, IMAGE_KEYS, marks)
        if image:
            found[split] = (image, key_of(arrays, LABEL_KEYS, marks))
    return found


def key_of(arrays: dict[str, Any], names: Sequence[str], marks: Sequence[str]) -> str | None:
    """The first of the usual names, with one of the marks of a split, that an array has; None where none has."""
    spelt = [key for mark in marks for name in names for key in ((f"{name}_{mark}", f"{mark}_{name}") if mark else (name,))]
    return next((key for key in spelt if key in arrays), None)


def wanted(key: str, setting: str, arrays: dict[str, Any], where: str) -> str:
    """The name of an array that a user chose; DataError where there is no such array."""
    if key not in arrays:
        raise DataError(f"dataset.{setting}={key}: {where} has no such array{did_you_mean(key, arrays)}")
    return key


def told(arrays: dict[str, np.ndarray]) -> str:
    """The arrays by name and shape, for errors."""
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
