"""`ptft generate ckpt=RUN prompt="..."` or `input=FILE`: let a model write: continuations, translations, summaries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import islice
from typing import Any

from ptft import build, resolve
from ptft.data.reading import input_rows, row_id, text_cell
from ptft.errors import UserError
from ptft.logs import Console
from ptft.machine import autocast
from ptft.nn.generation import Decoding, write
from ptft.nn.language import NextToken
from ptft.outputs import check_apart, destination, tell


def main(config: dict) -> None:
    """Write to `output` a text for `prompt`, or a JSON line for each row of `input`: its id (or number from 0) and the text."""
    if (config["prompt"] is None) == (config["input"] is None):
        raise UserError('give what to write for: prompt="some text", or input=FILE for a file of texts, not both')
    check_apart(config["output"], input=config["input"])
    stage = build.stage(config, prepare=False)
    objective = stage.objective.eval()
    if not isinstance(objective, NextToken):
        raise UserError(
            f"ckpt={config['ckpt']}: {type(objective).__name__} cannot write text; "
            f"generate needs a run of objective=clm, translate or infill, or of task=generate"
        )
    try:
        objective.decoding = how = decoding(config, objective.decoding)
        if config["input"] is None:
            _tell_cut(stage)
            with destination(config["output"]) as file:
                for text in next(_written(stage, how, [config["prompt"]])):
                    print(objective.shown(config["prompt"], text), file=file)
        else:
            _write_lines(stage, how)
    except ValueError as error:
        raise UserError(str(error)) from None


def decoding(config: dict, own: Decoding) -> Decoding:
    """How to write: as the run does it, but for what is given; a search draws nothing, and what draws does not search.

    Raises ValueError for settings that do not go together.
    """
    given = {field.name: config[field.name] for field in fields(Decoding) if config[field.name] is not None}
    draws = [name for name in ("top_k", "top_p") if name in given] + ["num_samples"] * (config["num_samples"] > 1)
    if given.get("num_beams", 1) > 1:
        if draws:
            raise ValueError(f"num_beams={given['num_beams']} writes the one likeliest text; leave out {' and '.join(draws)}")
        own = replace(own, temperature=0.0)
    elif draws or given.get("temperature") or "num_beams" in given:
        own = replace(own, num_beams=1, temperature=own.temperature or float(bool(draws)))
    return replace(own, **given)


def _tell_cut(stage: build.Stage) -> None:
    """Say of a prompt that its end has no room, where a model reads texts as the rows of a table."""
    objective, prompt = stage.objective, stage.config["prompt"]
    if not _reads_rows(stage):
        return
    kept = len(objective.prompt(prompt)) - len(objective.prompt(""))
    if kept < len(stage.tokenizer.encode([prompt])[0]):
        Console(0, stream=sys.stderr).note(f"prompt cut to {kept} tokens: the rest is not read")


def _reads_rows(stage: build.Stage) -> bool:
    dataset = resolve.find("dataset", stage.config["dataset"], stage.config["trusted_modules"])
    return dataset.reader is not None


def _write_lines(stage: build.Stage, how: Decoding) -> None:
    config = stage.config
    told: dict[str, list[Any]] = {}
    rows = _texts(stage, told)
    with destination(config["output"]) as file:
        done = 0
        while batch := list(islice(rows, config["batch_size"])):
            written = _written(stage, how, [text for _, text in batch], done)
            for (name, _), texts in zip(batch, written, strict=True):
                found = {"text": texts[0]} if config["num_samples"] == 1 else {"texts": texts}
                file.write(json.dumps({"id": name, **found}, ensure_ascii=False) + "\n")
            file.flush()
            done += len(batch)
    tell(told)


def _texts(stage: build.Stage, told: dict[str, list[Any]]) -> Iterator[tuple[Any, str]]:
    """The texts of `input`, each with its id; from the columns of the training data, where that was a table of pairs.

    told: gets what is to be known of rows, with their names.
    """
    source = stage.config["input"]
    if _reads_rows(stage):
        for name, example in build.examples(stage, source):
            if not example["text"].strip():
                told.setdefault("without text: what is written there says nothing", []).append(name)
            if "cut" in example:
                told.setdefault(f"cut to {example['cut']} tokens: the rest is not read", []).append(name)
            for what in example.get("told", ()):
                told.setdefault(what, []).append(name)
            yield name, example["text"]
        return
    column = stage.config["dataset"].get("text") or "text"
    for number, (where, row) in enumerate(input_rows(source, [column])):
        yield row_id(row, number), text_cell(row, where, column if column in row else "text")


def _written(stage: build.Stage, how: Decoding, texts: list[str], before: int = 0) -> Iterator[list[str]]:
    """What is written for each text, `num_samples` times. before: how many texts were written for already."""
    times = stage.config["num_samples"]
    prompts = [prompt for text in texts for prompt in [stage.objective.prompt(text)] * times]
    rows = range(before * times, before * times + len(prompts))
    with autocast(stage.device, stage.precision):
        found = write(stage.objective, prompts, how, stage.config["seed"], rows, stage.tokenizer.eos_id)
    decoded = map(stage.tokenizer.decode, found)
    return (list(islice(decoded, times)) for _ in texts)
