"""Which rows are held out: a function of their text and a seed, never of their order."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence

from ptft.errors import UserError


def held_out(
    path: str | Sequence[str],
    valid_path: str | Sequence[str] | None,
    test_path: str | Sequence[str] | None,
    valid_fraction: float,
    test_fraction: float,
) -> tuple[float, float]:
    """The shares of the training file that become valid and test.

    A split with a file of its own takes no share, and who brings a validation file keeps the rest for training.
    """
    for name, share in (("valid_fraction", valid_fraction), ("test_fraction", test_fraction)):
        if not 0 <= share < 1:
            raise UserError(f"dataset.{name}={share}: expected a share from 0 up to (not including) 1")
    for name, other in (("valid_path", valid_path), ("test_path", test_path)):
        if other is not None and (other == path or _same(other, path)):
            raise UserError(f"dataset.{name}={other} is the training file; leave it out to hold out a share of it")
    if _same(valid_path, test_path):
        raise UserError(f"dataset.test_path={test_path} is the validation file; leave one of them out")
    shares = (0.0 if valid_path else valid_fraction, 0.0 if valid_path or test_path else test_fraction)
    if sum(shares) >= 1:
        raise UserError(f"dataset.valid_fraction + dataset.test_fraction = {sum(shares)}: nothing is left to train on")
    return shares


def _same(one: str | Sequence[str] | None, other: str | Sequence[str] | None) -> bool:
    """Whether two names are of one file or folder, however they are written."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    places = [os.path.expanduser(name) for name in (one, other)]
    return all(map(os.path.exists, places)) and os.path.samefile(*places)


def place(text: str, *purpose: int | str) -> bytes:
    """A random place for a text in the order that a seed decides."""
    return hashlib.blake2b(text.encode(), digest_size=8, key=repr(purpose).encode()[:64]).digest()


def assign(texts: Sequence[str], classes: Sequence[str], shares: tuple[float, float], seed: int) -> list[str]:
    """The split of each row, class by class; rows of one class with equal text stay together."""
    splits = ["train"] * len(texts)
    for members in by_value(classes, range(len(classes))).values():
        quota = {"test": round(shares[1] * len(members)), "valid": round(shares[0] * len(members))}
        same = by_value([texts[row] for row in members], members)
        for text in sorted(same, key=lambda text: (place(text, "split", seed), text)):
            split = next((name for name, room in quota.items() if len(same[text]) <= room), "train")
            if split != "train":
                quota[split] -= len(same[text])
                for row in same[text]:
                    splits[row] = split
            elif not any(quota.values()):
                break
    return splits


def draw(texts: Sequence[str], classes: Sequence[str], per_class: int, seed: int) -> list[int]:
    """The rows of a few-label experiment: `per_class` of each class, in file order."""
    chosen: list[int] = []
    for members in by_value(classes, range(len(classes))).values():
        order = sorted(members, key=lambda row: (place(texts[row], "few", seed), texts[row], row))
        chosen += order[:per_class]
    return sorted(chosen)


def lacking(classes: Sequence[str], per_class: int) -> list[str]:
    """A note where classes have fewer rows than a few-label experiment wants of each."""
    short = {name: len(rows) for name, rows in by_value(classes, range(len(classes))).items() if len(rows) < per_class}
    if not short:
        return []
    fewest = min(short, key=short.__getitem__)
    return [f"dataset.per_class={per_class}: {len(short)} classes have fewer rows, '{fewest}' has {short[fewest]}"]


def by_value(values: Sequence[str], rows: Sequence[int]) -> dict[str, list[int]]:
    """Rows grouped by a value."""
    groups: dict[str, list[int]] = defaultdict(list)
    for value, row in zip(values, rows, strict=True):
        groups[value].append(row)
    return groups
