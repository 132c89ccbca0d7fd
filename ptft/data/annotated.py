"""What annotations say of an image: its boxes, and the split it is of."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ptft.data.listings import SPELLINGS

SPLIT_NAMES = {name: split for split, names in SPELLINGS.items() for name in names}


@dataclass(frozen=True)
class Box:
    """corners: x1, y1, x2, y2 in pixels. place: what an error message names.

    area: what is annotated as the area of the thing in it, None: that of the box. crowd: it holds things nobody counted,
    or that are too difficult to ask for.
    """

    corners: tuple[float, float, float, float]
    name: str
    place: str
    area: float | None = None
    crowd: bool = False

    @property
    def fault(self) -> str | None:
        """What is wrong with a box that holds nothing."""
        left, top, right, bottom = self.corners
        if not all(map(math.isfinite, self.corners)):
            return f"its corners {list(self.corners)} are no finite numbers"
        if right <= left or bottom <= top:
            return f"it is {right - left:g} wide and {bottom - top:g} high, expected more than 0"
        return None


@dataclass(frozen=True)
class Annotated:
    """An image and its boxes. image: its file name, perhaps with folders. source: the file that tells of it.

    size: height and width that are annotated, None where they are not.
    """

    image: str
    boxes: list[Box]
    source: Path
    size: tuple[int, int] | None = None


def told_size(height: object, width: object) -> tuple[int, int] | None:
    """Height and width as an annotation has them; None where they say nothing, as 0 and words do."""
    try:
        size = int(height), int(width)
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def split_of(path: Path) -> str | None:
    """The split that a relative path names in its folders (train/a.xml) or in its own name (instances_val2017.json)."""
    own_name = re.split(r"[_.\-]", path.stem) if path.suffix == ".json" else []
    for word in (*reversed(path.parts[:-1]), *reversed(own_name)):
        split = SPLIT_NAMES.get(word.lower().rstrip("0123456789"))
        if split:
            return split
    return None
