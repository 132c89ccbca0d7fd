"""Encoded examples on disk, read when a batch asks for them: memory does not grow with their number."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Example = dict[str, Any]


class Flat:
    """A one-dimensional array in a file, read by ranges.

    Positioned reads rather than a memory map: pages of a map count as memory of the process as they are touched.
    """

    def __init__(self, path: Path, kind: str):
        self.path = path
        self.type = np.dtype(kind)
        self.length = path.stat().st_size // self.type.itemsize
        self.file: int | None = None

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"file": None}

    def __del__(self) -> None:
        if self.file is not None:
            os.close(self.file)

    def raw(self, start: int, stop: int) -> bytes:
        """The bytes of entries start..stop."""
        if self.file is None:
            self.file = os.open(self.path, os.O_RDONLY)
        size = self.type.itemsize
        return os.pread(self.file, (stop - start) * size, start * size)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Entries start..stop as an array."""
        return np.frombuffer(self.raw(start, stop), dtype=self.type)


class Rows(Sequence):
    """Examples of one split by number; `take` is the fast way to many."""

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.take([index % len(self)])[0]

    def take(self, indices: Sequence[int]) -> list[Example]:
        """The examples of some rows, in the order asked for."""
        raise TypeError(f"{type(self).__name__} defines no take")

    def lengths(self) -> np.ndarray:
        """How many tokens each row has, int64 [rows]."""
        raise TypeError(f"{type(self).__name__} defines no lengths")

    def longest(self, number: int) -> list[int]:
        """The rows with the most tokens, longest first."""
        return np.argsort(-self.lengths(), kind="stable")[:number].tolist()


class First(Rows):
    """The first `number` rows of others."""

    def __init__(self, rows: Rows, number: int):
        self.rows, self.number = rows, min(number, len(rows))

    def __len__(self) -> int:
        return self.number

    def take(self, indices: Sequence[int]) -> list[Example]:
        return self.rows.take(indices)

    def lengths(self) -> np.ndarray:
        return self.rows.lengths()[: self.number]


class Blocks(Rows):
    """Running text in blocks of `length` tokens, none dropped: the last block is shorter, and a collate pads it.

    An example has tokens int32 [T]; next, the token after the block (-1 at the end); documents int32 [T], the number of
    the document each token belongs to, its [EOS] included; row.
    """

    def __init__(self, ids: Path, ends: Path, kind: str, length: int, eos_id: int):
        self.ids = Flat(ids, kind)
        self.ends = Flat(ends, "int64")  # where each document ends, its [EOS] included
        self.length = length
        self.eos_id = eos_id
        starts = np.arange(0, len(self.ids), length, dtype=np.int64)
        document_ends = np.fromfile(ends, dtype=np.int64)
        self.first_documents = np.searchsorted(document_ends, starts, side="right").astype(np.int32)

    def __len__(self) -> int:
        return len(self.first_documents)

    def lengths(self) -> np.ndarray:
        starts = np.arange(len(self), dtype=np.int64) * self.length
        return np.minimum(self.length, len(self.ids) - starts)

    def take(self, indices: Sequence[int]) -> list[Example]:
        wide = self.length + 1
        size = wide * self.ids.type.itemsize
        raw = b"".join([self.ids.raw(index * self.length, index * self.length + wide).ljust(size) for index in indices])
        block = np.frombuffer(raw, dtype=self.ids.type).reshape(len(indices), wide).astype(np.int32)
        columns = zip(block[:, :-1], block[:, -1].tolist(), self.documents(block[:, :-1], indices), indices, strict=True)
        examples = [{"tokens": t, "next": n, "documents": d, "row": index} for t, n, d, index in columns]
        for example in examples:
            if example["row"] == len(self) - 1:
                self.end(example)
        return examples

    def documents(self, tokens: np.ndarray, indices: Sequence[int]) -> np.ndarray:
        """The document of each token, int32 [rows, length]."""
        first = self.first_documents[np.asarray(indices, dtype=np.int64), None]
        ends = tokens == self.eos_id
        if not ends.any():
            return np.broadcast_to(first, tokens.shape)
        return first + ends.cumsum(axis=1, dtype=np.int32) - ends

    def end(self, example: Example) -> None:
        """Cut what was read beyond the end of the last block."""
        stop = len(self.ids) - example["row"] * self.length
        example |= {"tokens": example["tokens"][:stop], "documents": example["documents"][:stop], "next": -1}


class Ragged:
    """Arrays of different lengths behind one another in a file, with their bounds."""

    def __init__(self, path: Path, bounds: Path, kind: str):
        self.values = Flat(path, kind)
        self.bounds = np.fromfile(bounds, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def raw(self, index: int) -> bytes:
        return self.values.raw(self.bounds[index], self.bounds[index + 1])

    def __getitem__(self, index: int) -> np.ndarray:
        return np.frombuffer(self.raw(index), dtype=self.values.type).astype(np.int32)

    def lengths(self) -> np.ndarray:
        return np.diff(self.bounds)


def write_ragged(folder: Path, name: str, arrays: Sequence[np.ndarray], kind: str) -> None:
    """Write `<name>.ids` and `<name>.bounds` for Ragged."""
    with (folder / f"{name}.ids").open("wb") as file:
        for array in arrays:
            file.write(array.astype(kind).tobytes())
    np.cumsum([0, *map(len, arrays)], dtype=np.int64).tofile(folder / f"{name}.bounds")
