"""Does a value from a YAML file fit an annotation of a constructor? Said in words a user of the command line knows."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


def fault(value: Any, annotation: Any) -> str | None:
    """None where `value` fits, else "expected a number, found 'high'"."""
    if fits(value, annotation):
        return None
    return f"expected {expected(annotation)}, found {shown(value)}"


def fit(value: Any, annotation: Any) -> Any:
    """`value`, but as text where it is a number and only text will do: a column or a file may be called 2024."""
    number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if number and not fits(value, annotation) and fits(str(value), annotation) else value


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is what the annotation asks for; a list fits a tuple, text fits a path."""
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return isinstance(value, (list, tuple)) and len(value) == len(inner) and all(map(fits, value, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and (not inner or all(fits(entry, inner[1]) for entry in value.values()))
    if _is_sequence(origin):
        return isinstance(value, (list, tuple)) and (not inner or all(fits(entry, inner[0]) for entry in value))
    return _fits_plain(value, type(None) if origin is None else origin)


def _fits_plain(value: Any, origin: Any) -> bool:
    if isinstance(value, bool) and origin in (int, float):
        return False
    if origin is float:
        return isinstance(value, (int, float))
    if origin is Path:
        return isinstance(value, (str, Path))
    return isinstance(value, origin) if isinstance(origin, type) and origin is not Any else True


def _is_sequence(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, (str, bytes))


def expected(annotation: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        sayable = [choice for choice in inner if choice in WORDS or get_origin(choice)] or inner
        return " or ".join(dict.fromkeys(expected(choice) for choice in sayable))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)}: [{', '.join(expected(choice) for choice in inner)}]"
    if origin is None:
        return "null"
    if _is_sequence(origin) and origin not in WORDS:
        return "a list"
    return WORDS.get(origin, getattr(origin, "__name__", str(origin)))


def shown(value: Any) -> str:
    """A value as the user wrote it."""
    if isinstance(value, str):
        return f"'{value}'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
