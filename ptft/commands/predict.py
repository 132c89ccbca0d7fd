"""`ptft predict ckpt=RUN input=FILE`: a trained model's answer for each row, as JSON lines in the order of the input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from ptft import build
from ptft.errors import DataError, UserError
from ptft.loop import move
from ptft.machine import autocast
from ptft.objective import Example
from ptft.outputs import check_apart, destination, tell
from ptft.randomness import Draw


def main(config: dict) -> None:
    """Write one JSON line per row to `output`: its id (or its number, from 0), then what the task predicts.

    A picture that cannot be decoded gets `error` in place of that, where there is one that can. Raises UserError, DataError.
    """
    check_apart(config["output"], input=config["input"])
    stage = build.stage(config, prepare=False)
    if not hasattr(stage.objective, "predict"):
        name = type(stage.objective).__name__
        raise UserError(f"ckpt={config['ckpt']}: {name} predicts no labels; predict needs a run of ptft finetune")
    stage.objective.eval()
    told: dict[str, list[Any]] = {}
    answers = _answers(stage, config, told)
    begun = _until_answered(answers, config["input"])
    with destination(config["output"]) as file:
        for answer in chain(begun, answers):
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()
    tell(told)


def _until_answered(answers: Iterator[dict[str, Any]], source: str) -> list[dict[str, Any]]:
    """The first answers up to one that is a prediction. Raises DataError where there are only errors."""
    begun = []
    for answer in answers:
        begun.append(answer)
        if "error" not in answer:
            return begun
    if begun:
        first = f"{begun[0]['id']}: {begun[0]['error']}"
        raise DataError(f"input={source}: none of {len(begun):,} images can be decoded; the first: {first}")
    return begun


def _answers(stage: build.Stage, config: dict, told: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Predictions in the order of the input, a batch at a time. told: gets what is to be known of rows, with their names."""
    named = build.examples(stage, config["input"])
    while batch := list(islice(named, config["batch_size"])):
        sound = [example for _, example in batch if "error" not in example]
        answers = iter(_predict(stage, sound) if sound else [])
        for name, example in batch:
            if "error" in example:
                told.setdefault("cannot be decoded: see error", []).append(name)
                yield {"id": name, "error": example["error"]}
                continue
            if not example.get("text", "-").strip():
                told.setdefault("without text: what is predicted there says nothing", []).append(name)
            if "cut" in example:
                told.setdefault(f"cut to {example['cut']} tokens: the rest is not read", []).append(name)
            for what in example.get("told", ()):
                told.setdefault(what, []).append(name)
            yield {"id": name, **next(answers)}


@torch.no_grad()
def _predict(stage: build.Stage, examples: list[Example]) -> list[dict[str, Any]]:
    rows = np.array([example["row"] for example in examples])
    batch = stage.objective.collate(examples, Draw(stage.config["seed"], np.zeros_like(rows), rows))
    batch = move(batch, stage.device)
    with autocast(stage.device, stage.precision):
        output = stage.objective(batch)
    return stage.objective.predict(output, batch)
