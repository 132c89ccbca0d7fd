"""`ptft predict ckpt=RUN input=FILE`: a trained model's answer for each row, as JSON lines in the order of the input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from ptft import build
from ptft.errors import UserError
from ptft.logs import Console
from ptft.loop import move
from ptft.machine import autocast
from ptft.objective import Example
from ptft.outputs import destination
from ptft.randomness import Draw


def main(config: dict) -> None:
    """Write one JSON line per row to `output`: its id (or its number, from 0), then what the task predicts."""
    stage = build.stage(config, prepare=False)
    if not hasattr(stage.objective, "predict"):
        name = type(stage.objective).__name__
        raise UserError(f"ckpt={config['ckpt']}: {name} predicts no labels; predict needs a run of ptft finetune")
    stage.objective.eval()
    blank: list[Any] = []
    with destination(config["output"]) as file:
        for answer in _answers(stage, config, blank):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
    if blank:
        others = f" and {len(blank) - 1:,} more" if len(blank) > 1 else ""
        Console(0, stream=sys.stderr).note(f"row {blank[0]}{others} without text: what is predicted there says nothing")


def _answers(stage: build.Stage, config: dict, blank: list[Any]) -> Iterator[dict[str, Any]]:
    """Predictions in the order of the input, a batch at a time; the names of rows without text go into `blank`."""
    named = build.examples(stage, config["input"])
    while batch := list(islice(named, config["batch_size"])):
        answers = _predict(stage, [example for _, example in batch])
        for (name, example), found in zip(batch, answers, strict=True):
            if not example.get("text", "-").strip():
                blank.append(name)
            yield {"id": name, **found}


@torch.no_grad()
def _predict(stage: build.Stage, examples: list[Example]) -> list[dict[str, Any]]:
    rows = np.array([example["row"] for example in examples])
    batch = stage.objective.collate(examples, Draw(stage.config["seed"], np.zeros_like(rows), rows))
    batch = move(batch, stage.device)
    with autocast(stage.device, stage.precision):
        output = stage.objective(batch)
    return stage.objective.predict(output, batch)
