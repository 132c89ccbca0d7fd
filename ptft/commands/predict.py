"""`ptft predict ckpt=RUN input=FILE`: a trained model's answer for each row, as JSON lines in the order of the input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TextIO

import numpy as np
import torch

from ptft import build
from ptft.data.reading import input_rows
from ptft.errors import MachineError, UserError
from ptft.loop import move
from ptft.machine import autocast
from ptft.objective import Example
from ptft.randomness import Draw

IDS = ("id", "row_id", "uid", "guid")


def main(config: dict) -> None:
    """Write one JSON line per row to `output`: its id (or its number, from 0), then what the task predicts."""
    stage = build.stage(config, prepare=False)
    if not hasattr(stage.objective, "predict"):
        name = type(stage.objective).__name__
        raise UserError(f"ckpt={config['ckpt']}: {name} predicts no labels; predict needs a run of ptft finetune")
    stage.objective.eval()
    with _destination(config["output"]) as file:
        for answer in _answers(stage, config):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()


def _destination(name: str) -> AbstractContextManager[TextIO]:
    if name == "-":
        return nullcontext(sys.stdout)
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"output={name}: {error.strerror}") from None


def _answers(stage: build.Stage, config: dict) -> Iterator[dict[str, Any]]:
    """Predictions in the order of the input, a batch at a time."""
    ids: list[Any] = []
    rows = _remembering(input_rows(config["input"]), ids)
    length = build.text_length(config, stage.model, type(stage.objective))
    examples = build.reader(stage).examples(rows, stage.tokenizer, length)
    while batch := list(islice(examples, config["batch_size"])):
        for example, found in zip(batch, _predict(stage, batch), strict=True):
            yield {"id": ids[example["row"]], **found}


def _remembering(rows: Iterable[tuple[str, dict]], ids: list[Any]) -> Iterator[tuple[str, dict]]:
    """The rows as they come, noting the id of each."""
    for number, (where, row) in enumerate(rows):
        ids.append(next((row[name] for name in IDS if row.get(name) is not None), number))
        yield where, row


@torch.no_grad()
def _predict(stage: build.Stage, examples: list[Example]) -> list[dict[str, Any]]:
    rows = np.array([example["row"] for example in examples])
    batch = stage.objective.collate(examples, Draw(stage.config["seed"], np.zeros_like(rows), rows))
    batch = move(batch, stage.device)
    with autocast(stage.device, stage.precision):
        output = stage.objective(batch)
    return stage.objective.predict(output, batch)
