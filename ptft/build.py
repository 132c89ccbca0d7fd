"""Configuration to objects: the only place that does so. Misfits are refused first, before any data is read.

The start order, written once: data and tokenizer -> model -> weights of `ckpt` (or fresh) -> device -> tuning (may freeze or
inject) -> optimizer -> where the run's own folder holds a state, resume wins.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ptft import machine, resolve
from ptft.averaging import Average
from ptft.checkpoint import read_asset
from ptft.choices import HEAD_SHAPE
from ptft.data.loader import Loader
from ptft.data.rows import First
from ptft.data.tokenizer import Tokenizer
from ptft.data.vocabulary import trained
from ptft.duration import duration, exactly
from ptft.errors import CheckpointError, UserError, did_you_mean
from ptft.inherited import load
from ptft.locate import locate, saved_config
from ptft.loop import evaluate, seed_step
from ptft.manifest import read_manifest, verify
from ptft.misfits import check
from ptft.objective import Example, Objective, check_contract, learned
from ptft.rates import growth, optimizer_node
from ptft.state import Report
from ptft.training import Progress, Training

# what a checkpoint's heads were made for; other facts are about its model's inputs
OF_HEADS = {"num_classes", "labels", "target_mean", "target_std"}
OF_MODELS = {"dim": "the width of its features", "blocks": "its layers, shallow to deep"}  # what a model must have


@dataclass
class Stage:
    """What every command works with: data, tokenizer, and an objective around its model, on the device.

    tokenizer: None but for text. transform: None but for images. source: the checkpoint folder the weights came from, or
    None. landed: how those weights landed.
    """

    config: dict
    dataset: Any
    tokenizer: Any
    transform: Any
    objective: Objective
    device: torch.device
    precision: str
    source: Path | None
    landed: Report | None

    @property
    def model(self) -> torch.nn.Module:
        return self.objective.model

    def loader(self, split: str, batch_size: int, workers: int = 0, limit: int | None = None) -> Loader | None:
        """The batches of a split, or None where the dataset has no such split. limit: its first rows only."""
        rows = self.dataset.rows(split)
        if rows is None:
            return None
        rows = self.objective.view(rows)
        rows = First(rows, limit) if limit else rows
        collate, lanes, seed = self.objective.collate, self.objective.lanes, self.config["seed"]
        shuffle = split == "train" and "trainer" in self.config  # who only looks at rows reads them in their order
        return Loader(rows, collate, batch_size, seed, workers, shuffle=shuffle, lanes=lanes)

    def assets(self) -> dict[str, bytes]:
        """What a checkpoint keeps beside weights, so that a later stage needs nothing else."""
        data = {"facts": {**self.dataset.facts, **(self.inputs or {})}, "columns": self.dataset.columns, "inputs": self.inputs}
        data |= {"fingerprint": self.dataset.fingerprint, "lower": list(self.objective.lower), **self.hashes()}
        text = json.dumps(data, ensure_ascii=False, sort_keys=True, indent=1)
        vocabulary = {"tokenizer.json": self.tokenizer.to_json().encode()} if self.tokenizer else {}
        return {**vocabulary, "data.json": text.encode()}

    def hashes(self) -> dict[str, str]:
        """What identifies the vocabulary."""
        return {"tokenizer": self.tokenizer.hash} if self.tokenizer else {}

    @property
    def inputs(self) -> dict[str, Any] | None:
        """What the model's inputs were made like, images as large as it reads them; None for text."""
        found = self.dataset.inputs
        return found and found | ({"image_size": list(self.transform.size)} if self.transform else {})


def stage(config: dict, own: Path | None = None, prepare: bool = True, report: Callable | None = None) -> Stage:
    """Build what a command works with.

    own: the checkpoint of the run's own folder that is resumed; its tokenizer and labels win. prepare: whether the dataset's
    rows are wanted, not only the model. report: called with (what, done, total) while data is prepared. Raises UserError,
    DataError, CheckpointError.
    """
    check(config)
    trusted = config["trusted_modules"]
    device = machine.pick_device(config["device"])
    source = locate(config["ckpt"]) if config["ckpt"] else None
    if source:
        verify(source)  # all of it: a damaged file that is not needed today says that others may be damaged too
    goes_on = source is not None and not config.get("part") and _same_objective(config, source)
    shape = _other_shape(config, source) if goes_on and "ckpt_load" in config else []
    goes_on &= not shape
    facts = _facts(own or source, heads=goes_on or own is not None)
    if source is None and not prepare:
        raise UserError("ckpt must be given: ckpt=RUN")
    dataset = resolve.resolve("dataset", config["dataset"], facts, trusted) if prepare else None
    kind = resolve.find("objective", config["objective"], trusted)
    starts = "ckpt_load" in config and own is None
    holder = resolve.find("dataset", config["dataset"], trusted)
    target = learned(kind, holder.targets)[0]
    if holder.modality == "text":
        tokenizer, transform = _tokenizer(config, own or source, dataset), None
        facts |= {"tokenizer": tokenizer, "vocab_size": tokenizer.vocab_size}
        model = _model(config, facts)
        if prepare:
            encode = partial(dataset.prepare, tokenizer, text_length(config, model, kind), target, report=report)
            goes_on &= _encode(dataset, encode, facts.get("labels"), must_be_known=not starts)
            facts |= dataset.facts
    else:
        tokenizer = None
        if prepare:
            encode = partial(dataset.prepare, target=target, report=report)
            goes_on &= _encode(dataset, encode, facts.get("labels"), must_be_known=not starts)
            facts |= dataset.facts
        transform = _transform(config, facts)
        model = _model(config, facts)
    seed_step(config["seed"], "heads")
    facts |= {"model": model, "dataset": dataset, "seed": config["seed"]}
    if "ckpt_load" in config:  # a command that trains
        facts["open_run"] = partial(open_run, config)
    objective = resolve.resolve("objective", config["objective"], facts, trusted)
    landed = load(objective, source, config, goes_on) if source else None
    if source and dataset:
        dataset.notes += [f"the head starts fresh: {', '.join(shape)}"] if shape else []
        dataset.notes += read_manifest(source)["identity"].get("notes", [])
    precision = machine.pick_precision(config.get("trainer", config).get("precision", "fp32"), device)
    return Stage(config, dataset, tokenizer, transform, objective.to(device), device, precision, source, landed)


def open_run(config: dict, run: str) -> Stage:
    """What was trained in another run, frozen, with the device of this one's `config`. Raises what `stage` raises."""
    saved = saved_config(locate(run))
    parts = {part: saved.get(part) for part in ("dataset", "tokenizer", "transform", "model", "objective")}
    shared = {name: config[name] for name in ("seed", "device", "trusted_modules")}
    opened = stage({**parts, **shared, "ckpt": run}, prepare=False)
    opened.objective.requires_grad_(False).eval()
    return opened


def _facts(source: Path | None, heads: bool) -> dict[str, Any]:
    """What a checkpoint knows of data like its own: what its inputs are like, and, where its heads go on, its labels."""
    if source is None:
        return {"inputs": None}
    known, inputs = _data_asset(source, "facts"), _data_asset(source, "inputs")
    if not heads:
        known = {name: value for name, value in known.items() if name not in OF_HEADS}
    return {**known, **(inputs or {}), "inputs": inputs}


def _transform(config: dict, facts: dict[str, Any]) -> Any:
    """The transform of images, whose output is the model's input shape; None for other data."""
    if config.get("transform") is None:
        return None
    transform = resolve.resolve("transform", config["transform"], facts, config["trusted_modules"])
    facts |= {"transform": transform, "input_shape": [transform.channels, *transform.size]}
    return transform


def _model(config: dict, facts: dict[str, Any]) -> torch.nn.Module:
    seed_step(config["seed"], "model")
    model = resolve.resolve("model", config["model"], {**facts, "seed": config["seed"]}, config["trusted_modules"])
    check_contract(model, OF_MODELS)
    return model


def _encode(dataset, encode: Callable, known: list[str] | None, must_be_known: bool) -> bool:
    """Encode the data; returns whether a head for the `known` classes serves it. Raises DataError where it must."""
    if must_be_known or known is None:
        encode(labels=known)
        return True
    encode(labels=None)
    if not set(dataset.facts.get("labels") or known) <= set(known):
        dataset.notes.append("the data has other classes than the checkpoint's head: the head starts fresh")
        return False
    if dataset.facts.get("labels", known) != known:
        encode(labels=known)
    return True


def examples(stage: Stage, source: str) -> Iterator[tuple[Any, Example]]:
    """What `source` holds to predict on, each with its id.

    It is read by the columns of the training file, wherever that is now, unless others are named. Raises UserError.
    """
    node = stage.config["dataset"]
    dataset = resolve.find("dataset", node, stage.config["trusted_modules"])
    if dataset.reader is None:
        raise UserError(f"dataset {dataset.__name__} reads no rows to predict on: it has no reader")
    columns, inputs = (_data_asset(stage.source, name) for name in ("columns", "inputs"))
    reader = dataset.reader(node, columns or {}, inputs)
    if stage.tokenizer is None:
        return reader.read(source)
    length = text_length(stage.config, stage.model, type(stage.objective))
    if stage.objective.target == "text":  # a text to write for is read as far as the model can, whatever it was trained on
        length = stage.model.max_length - stage.objective.added_tokens - stage.objective.room_to_write
    return reader.read(source, stage.tokenizer, length)


def text_length(config: dict, model: torch.nn.Module, objective: type[Objective]) -> int:
    """How many tokens of text one example may have, without those the objective adds. Raises UserError."""
    wanted = config["dataset"].get("max_length") or model.max_length
    least = objective.added_tokens + 1
    if not least <= wanted <= model.max_length:
        raise UserError(f"dataset.max_length={wanted}: expected {least} to model.max_length={model.max_length}")
    return wanted - objective.added_tokens


def _same_objective(config: dict, source: Path) -> bool:
    """Whether the checkpoint was trained with this very kind of objective, so that its heads and labels go on."""
    return (saved_config(source).get("objective") or {}).get("_target_") == config["objective"]["_target_"]


def _other_shape(config: dict, source: Path) -> list[str]:
    """The settings by which the head is none that the checkpoint's weights are of, in words."""
    pairs = {name: [node.get(name) for node in (saved_config(source)["objective"], config["objective"])] for name in HEAD_SHAPE}
    told = {name: [value or "null" for value in pair] for name, pair in pairs.items() if pair[0] != pair[1]}
    return [f"{name} is {there} in the checkpoint and {here} here" for name, (there, here) in told.items()]


def _data_asset(source: Path, name: str) -> dict | None:
    """What a checkpoint knows of its data: facts, columns, and what its inputs are like (None for text)."""
    try:
        found = json.loads(read_asset(source, "data.json")).get(name)
        return None if found is None else dict(found)
    except (ValueError, AttributeError, TypeError):
        raise CheckpointError(f"{source / 'assets' / 'data.json'}: not what ptft writes") from None


def _tokenizer(config: dict, source: Path | None, dataset) -> Tokenizer:
    """The checkpoint's tokenizer, else one trained on the training split."""
    if source:
        return Tokenizer.from_json(read_asset(source, "tokenizer.json").decode(errors="replace"))
    trainer = resolve.resolve("tokenizer", config["tokenizer"], {}, config["trusted_modules"])
    return trained(trainer, dataset, dataset.notes)


def fit_batch(stage: Stage) -> None:
    """Make a batch that nobody asked for no larger than the training rows there are. Raises UserError where there are none."""
    rows = stage.dataset.rows("train")
    if rows is None:
        raise UserError(f"dataset {type(stage.dataset).__name__} is for `ptft evaluate`: it has no rows to train on")
    if any(word.partition("=")[0] == "trainer.batch_size" for word in stage.config["argv"]):
        return
    trainer = stage.config["trainer"]
    found = min(len(stage.objective.view(rows)), trainer["train_rows"] or sys.maxsize)
    if 0 < found < trainer["batch_size"]:
        stage.dataset.notes.append(f"batches are of the {found} training rows there are, not of {trainer['batch_size']}")
        trainer["batch_size"] = found


def settings(config: dict, train_rows: int, precision: str, score: str) -> SimpleNamespace:
    """The trainer's settings with every duration in steps. train_rows: rows in an epoch. score: the objective's own.

    rows: how many the whole run takes, where epochs are counted.
    """
    trainer = dict(config["trainer"])
    per_epoch = train_rows / (trainer["batch_size"] * trainer["accumulate"])
    steps = trainer["steps"] or max(trainer["min_steps"], math.ceil(trainer["epochs"] * per_epoch))
    for name in ("eval_every", "save_every"):
        trainer[name] = _in_steps(trainer[name], steps, per_epoch, f"trainer.{name}")
    trainer["rows"] = None if trainer["steps"] else steps * trainer["batch_size"] * trainer["accumulate"]
    if trainer["ema_half_life"] is not None:
        trainer["ema"] = 0.5 ** (1 / exactly(trainer["ema_half_life"], steps, per_epoch, "trainer.ema_half_life"))
    trainer.update(steps=steps, steps_per_epoch=per_epoch, precision=precision, seed=config["seed"])
    trainer["save_minutes"] = trainer["save_minutes"] or math.inf
    trainer["best"] = trainer["best"] or score
    return SimpleNamespace(**trainer)


def _in_steps(value, steps: int, per_epoch: float, name: str) -> int | None:
    try:
        return None if value is None else max(1, duration(value, steps, per_epoch, name, up=True))
    except ValueError as error:
        raise UserError(str(error)) from None


def check_best(objective: Objective, valid: Loader | None, settings: SimpleNamespace) -> None:
    """Refuse, before the first step, to choose weights by a score that no evaluation gives. Raises UserError."""
    for name, given in (("best", settings.best != objective.score), ("patience", settings.patience)):
        if valid is None and given:
            raise UserError(f"trainer.{name}={getattr(settings, name)}: the dataset has no validation split to watch")
    if valid is None or settings.best == objective.score:
        return
    known = evaluate(objective, valid, SimpleNamespace(**{**vars(settings), "eval_batches": 1, "samples": 0})).scores
    if settings.best not in known:
        raise UserError(f"trainer.best={settings.best}: there is no such score{did_you_mean(settings.best, known)}")


def _note_frozen(stage: Stage) -> None:
    """Say which weights stay as they were drawn: those that the checkpoint did not bring and the tuning freezes."""
    drawn = {*stage.landed.missing, *stage.landed.reshaped, *stage.landed.fresh} if stage.landed else set()
    frozen = [name for name, parameter in stage.model.named_parameters() if not parameter.requires_grad]
    plain = [name.replace(".parametrizations.", ".").removesuffix(".original") for name in frozen]
    random = sorted(drawn.intersection(plain))
    if random:
        more = f" and {len(random) - 1} more" if len(random) > 1 else ""
        stage.dataset.notes.append(
            f"{random[0]}{more} did not come from the checkpoint, and stay random: the tuning freezes them"
        )


def training(stage: Stage, settings: SimpleNamespace) -> tuple[Training, Any]:
    """The moving parts of a run, and its schedule. The device is settled, so tuning may inject and the optimizer follow."""
    config, objective = stage.config, stage.objective
    trusted = config["trusted_modules"]
    progress = Progress()
    facts = {"steps": settings.steps, "steps_per_epoch": settings.steps_per_epoch, "seed": config["seed"]}
    facts["progress"] = progress if settings.eval_every and stage.dataset.rows("valid") is not None else None
    schedule = resolve.resolve("schedule", config["schedule"], facts, trusted)
    tuning = resolve.resolve("tuning", config["tuning"], facts, trusted)
    tuning.apply(objective)
    _note_frozen(stage)
    if stage.objective.lanes and settings.accumulate > 1:
        stage.dataset.notes.append(
            f"what is carried goes from one micro-batch to the next: with trainer.accumulate={settings.accumulate} a step is "
            "not that of a larger batch"
        )
    node = optimizer_node(config)
    decay_end, vector_lr = (config["optimizer"].get(name) for name in ("weight_decay_end", "vector_lr"))
    vector_lr = None if vector_lr is None else vector_lr * growth(config)
    groups = tuning.groups(objective, node["lr"], node["weight_decay"], decay_end, vector_lr)
    optimizer = resolve.resolve("optimizer", node, {"params": groups}, trusted)
    average = Average(tuning.trained(objective), settings.ema, settings.ema_every) if settings.ema else None
    scaler = torch.amp.GradScaler(stage.device.type) if settings.precision == "fp16" else None
    return Training(objective, optimizer, tuning, average, scaler, progress), schedule
