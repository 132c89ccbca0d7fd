"""JSON that gives back exactly what was written, or refuses: floats to the last bit, infinities and NaN included."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptft.errors import CheckpointError

NOT_FINITE = "__float__"  # {"__float__": "inf"}: JSON itself has no word for it


def dump(value: Any, what: str = "state") -> bytes:
    """The one way a value is written, so that equal values are equal bytes.

    Numbers, strings, booleans, None, lists (tuples become lists) and dicts with string keys. Raises CheckpointError
    naming the place of anything else.
    """
    return (json.dumps(_encode(value, what), allow_nan=False, sort_keys=True, indent=1) + "\n").encode()


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {NOT_FINITE: repr(float(value))}
    if isinstance(value, (list, tuple)):
        return [_encode(inner, f"{where}[{index}]") for index, inner in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _encode(inner, f"{where}.{name}") for name, inner in value.items()}
    raise CheckpointError(f"{where}: a {type(value).__name__} cannot be saved, only plain values")


def load(content: bytes, where: str | Path) -> Any:
    """What `dump` wrote. Raises CheckpointError where it is not JSON, or JSON that `dump` does not write."""
    try:
        return json.loads(content, object_pairs_hook=_decode, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON ({error})") from None


def _decode(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return float(found[NOT_FINITE]) if found.keys() == {NOT_FINITE} else found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return value
