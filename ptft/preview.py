"""What a model will see of a batch, in lines of text: tokens with special and hidden ones marked, columns, and the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ptft.data.columns import Features
from ptft.nn.language import IGNORED
from ptft.objective import Batch
from ptft.terminal import printable

APART = "|"  # between tokens


def lines(batch: Batch, tokenizer: Any, dataset: Any, labels: list[str]) -> Iterator[str]:
    """The rows of a batch, each with its target beside or below it where there is one.

    A hidden token reads [MASK->token]; where each token has a target (the next one), or another text is to be written, those
    are a line of their own.
    """
    inputs, count = batch["inputs"], len(next(iter(batch["inputs"].values())))
    for row in range(count):
        yield f"row {row + 1}{_answer(batch, row, labels)}"
        if "values" in inputs:
            values = inputs["values"][row].tolist()
            names = feature_names(dataset) or [f"feature {number}" for number in range(len(values))]
            yield "  " + ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
        if "tokens" in inputs:
            yield f"  sees   {APART.join(spelled(batch, row, tokenizer, labels))}"
        if wanted := _wanted(batch, row):
            yield f"  wanted {APART.join(piece(index, tokenizer) for index in wanted)}"


def _answer(batch: Batch, row: int, labels: list[str]) -> str:
    """The label of a row in words: a class, classes, or a number."""
    target = batch.get("target")
    if not isinstance(target, Tensor) or "places" in batch:
        return ""
    value = target[row].tolist()
    if isinstance(value, list):
        return f": {', '.join(named(index, labels) for index, chosen in enumerate(value) if chosen) or 'none'}"
    return f": {named(value, labels) if isinstance(value, int) else f'{value:.4g}'}"


def named(index: int, labels: list[str]) -> str:
    """A class in words, or its number where it has no name."""
    return labels[index] if 0 <= index < len(labels) else str(index)


def _wanted(batch: Batch, row: int) -> list[int]:
    """The ids to be guessed one by one: the next token of each, or those of a text to be written."""
    inputs, targets = batch["inputs"], batch.get("targets")
    if targets is None or "tokens" not in inputs:
        return []
    if "target" in inputs and "index" in batch:
        width = inputs["target"].shape[1]
        return [index for place, index in zip(batch["index"].tolist(), targets.tolist(), strict=True) if place // width == row]
    return [index for index in targets[row].tolist() if index != IGNORED] if targets.shape == inputs["tokens"].shape else []


def spelled(batch: Batch, row: int, tokenizer: Any, labels: list[str]) -> list[str]:
    """A row's tokens, padding left out, with the hidden token or the tag of a place beside it."""
    real, beside = batch["inputs"].get("mask"), _beside(batch, row, tokenizer, labels)
    shown = []
    for place, index in enumerate(batch["inputs"]["tokens"][row].tolist()):
        if real is None or real[row, place]:
            text = piece(index, tokenizer)
            shown.append(f"[{text.strip('[]')}->{beside[place]}]" if place in beside else text)
    return shown


def _beside(batch: Batch, row: int, tokenizer: Any, labels: list[str]) -> dict[int, str]:
    """Place -> what is to be guessed there, where a few places of a row have a target."""
    if "places" in batch and "target" in batch:
        pairs = zip(batch["places"][row].tolist(), batch["target"][row].tolist(), strict=True)
        return {place: named(label, labels) for place, label in pairs if label >= 0}
    if "index" not in batch or "target" in batch["inputs"]:
        return {}
    width = batch["inputs"]["tokens"].shape[1]
    wanted = zip(batch["index"].tolist(), batch["targets"].tolist(), strict=True)
    return {place % width: piece(index, tokenizer) for place, index in wanted if place // width == row}


def piece(index: int, tokenizer: Any) -> str:
    """A token as text; special ones by their names."""
    if index in tokenizer.special_ids:
        return tokenizer.token(index)
    return printable(tokenizer.token_bytes[index].decode(errors="replace")).replace("\n", "\\n")


def feature_names(dataset: Any) -> list[str]:
    """A table's features in their order: numbers by their column, categories as column=category; none where they have none."""
    columns = Features.stored(dataset.inputs).columns if dataset.inputs else ()
    return [name for column in columns for name in ([column.name] if column.kind == "number" else _categories(column))]


def _categories(column: Any) -> list[str]:
    return [f"{column.name}={category}" for category in column.categories]
