"""Running text in blocks that begin where documents begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptft.objective import Example

NONE = -1  # what follows the last token


def blocks(ends: np.ndarray, total: int, length: int) -> np.ndarray:
    """Where blocks of at most `length` of `total` tokens begin and end, int64 [blocks + 1], given where documents end.

    Each block ends with the last document that fits; one that is longer than a block fills blocks, and what is left of it
    begins the next.
    """
    bounds = [0]
    while bounds[-1] < total:
        full = min(bounds[-1] + length, total)
        last = int(np.searchsorted(ends, full, side="right")) - 1  # the last document that ends within the block
        bounds.append(int(ends[last]) if last >= 0 and ends[last] > bounds[-1] else full)
    return np.array(bounds, dtype=np.int64)


class Aligned:
    """The running text of `rows` in its order, in blocks that begin with a document wherever that is shorter than a block.

    No token is left out, and none comes twice. Examples are those of `rows`, of different lengths.
    """

    def __init__(self, rows: Any):
        self.ids, self.ends, self.length = rows.ids, rows.ends.read(0, len(rows.ends)), rows.length
        self.bounds = blocks(self.ends, len(rows.ids), self.length)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def lengths(self) -> np.ndarray:
        return np.diff(self.bounds)

    def longest(self, number: int) -> list[int]:
        return np.argsort(-self.lengths(), kind="stable")[:number].tolist()

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [self._take(index) for index in indices]

    def _take(self, index: int) -> Example:
        start, stop = self.bounds[index : index + 2].tolist()
        tokens = self.ids.read(start, stop + 1).astype(np.int32)
        documents = np.searchsorted(self.ends, np.arange(start, stop), side="right").astype(np.int32)
        following = int(tokens[-1]) if len(tokens) > stop - start else NONE
        return {"tokens": tokens[: stop - start], "next": following, "documents": documents, "row": index}

    def __str__(self) -> str:
        begun = int(np.isin(self.bounds[:-1], np.append(0, self.ends)).sum())
        empty = 1 - self.bounds[-1] / (len(self) * self.length)
        return (
            f"{begun:,} blocks begin with a document, {len(self) - begun:,} within one that is longer; "
            f"{empty:.1%} of their places are empty, no token is left out"
        )
