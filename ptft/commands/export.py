"""`ptft export ckpt=RUN format=FORMAT output=PLACE`: a trained model for other programs, proven equal before it is kept."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptft import adapters, build, records
from ptft.checkpoint import read, read_asset, read_config
from ptft.elsewhere import split
from ptft.errors import MachineError, UserError
from ptft.huggingface import proving, writing
from ptft.locate import saved_config
from ptft.logs import Console
from ptft.manifest import GROUPS, read_manifest
from ptft.nn import word_vectors
from ptft.nn.language import NextToken
from ptft.nn.masking import MaskedToken
from ptft.objective import Objective, heads
from ptft.portable import (
    Inputs,
    RandomTexts,
    RandomValues,
    Run,
    difference,
    need_onnx,
    save_graph,
    save_int8,
    save_onnx,
    traced,
)

TOLERANCE = 1e-4
ALIKE = 0.9  # of the answers of 8-bit weights: the smallest share of decisions, or cosine, that is kept
ROWS = 64  # they are compared on
BLANK = re.compile(r"\s")  # no word of the text format has one


@dataclass(frozen=True)
class Written:
    """What became of an export: the largest difference from the model's answers, how it was read back, what was left out.

    compared: what the difference is of. fitting: the settings of a head that would not have been left out. exact: whether
    only rounding may make it differ. told: what else is to be said, by name.
    """

    difference: float
    read: str
    left: list[str] = field(default_factory=list)
    compared: str = "on random inputs"
    fitting: str | None = None
    exact: bool = True
    told: dict[str, str] = field(default_factory=dict)


def main(config: dict) -> None:
    """Write `output` in the wanted format and print how far its answers are from the model's. Raises MachineError if far."""
    place = Path(config["output"]).expanduser()
    write, ending = FORMATS[config["format"]]
    if place.exists():
        raise UserError(f"output={place} exists already; give a new name")
    if ending and place.suffix != ending:
        raise UserError(f"output={place}: format={config['format']} writes one file, NAME{ending}")
    stage = build.stage(config, prepare=False)
    stage.objective.to("cpu").eval()
    with _beside(place) as scratch:
        written = write(stage, scratch / place.name)
        if written.exact and not written.difference <= TOLERANCE:
            raise MachineError(
                f"format={config['format']}: {written.read}, it differs from the model by {written.difference:.1e}, "
                f"more than {TOLERANCE:.0e}: nothing is kept"
            )
        for path in scratch.iterdir():
            if (place.parent / path.name).exists():
                raise UserError(f"output={place}: {path.name} lies beside it already; give a new name")
        _open_to_others(scratch)
        for path in scratch.iterdir():
            os.rename(path, place.parent / path.name)
    console = Console(0)
    told = {"ckpt": config["ckpt"], "format": config["format"], "output": str(place)}
    told |= {"difference": f"{written.difference:.1e} at most {written.compared}, {written.read}", **written.told}
    console.summary(told)
    if written.left:
        hint = f"; a head with {written.fitting} has one" if written.fitting else ""
        console.note(f"{config['format']} has no place for the head: {', '.join(written.left)} left out{hint}")


def _open_to_others(folder: Path) -> None:
    """Give all files in a folder the mode that the umask leaves: safetensors does not ask it."""
    fresh = folder / "fresh"
    fresh.touch()
    mode = fresh.stat().st_mode
    fresh.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            os.chmod(path, mode)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder to write in, from which a rename puts things in place."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=place.parent) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise MachineError(f"output={place}: {error.strerror or error}") from error


def _random(stage: build.Stage) -> RandomTexts | RandomValues:
    """Inputs like those the model reads."""
    if stage.tokenizer:
        return RandomTexts(stage.model, stage.tokenizer.vocab_size, stage.tokenizer.pad_id)
    if stage.transform:
        return RandomValues([stage.transform.channels, *stage.transform.size])
    return RandomValues(json.loads(read_asset(stage.source, "data.json"))["facts"]["input_shape"])


def _assets(stage: build.Stage) -> dict[str, bytes]:
    """What tells how to make inputs and read answers: configuration, tokenizer, labels."""
    names = [name.partition("/")[2] for name in read_manifest(stage.source)["files"] if name.startswith("assets/")]
    return {"config.yaml": read_config(stage.source).encode(), **{name: read_asset(stage.source, name) for name in names}}


def safetensors(stage: build.Stage, folder: Path) -> Written:
    """Plain weights under their own names, those of the head apart, beside configuration, tokenizer and labels."""
    folder.mkdir()
    for name, content in _assets(stage).items():
        (folder / name).write_bytes(content)
    for group, tensors in (("model", stage.model.state_dict()), ("objective", heads(stage.objective))):
        if tensors:
            save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, folder / GROUPS[group])
    again = copy.deepcopy(stage.objective)
    state = {f"model.{name}": tensor for name, tensor in load_file(folder / GROUPS["model"]).items()}
    if heads(stage.objective):
        state |= load_file(folder / GROUPS["objective"])
    again.load_state_dict(state)
    before, after = (lambda inputs, model=model: model(**inputs) for model in (stage.model, again.model))
    return Written(difference(after, before, _random(stage)), "read back")


def hf(stage: build.Stage, folder: Path) -> Written:
    """A folder that Hugging Face's AutoModel and AutoTokenizer load."""
    writing.family_of(stage.config["model"])
    folder.mkdir()
    left = writing.write(folder, stage.config["model"], stage.objective, stage.tokenizer)
    run, with_head, read = proving.reader(folder)
    answer = stage.objective.answer if with_head else lambda inputs: stage.model(**inputs)
    fitting = writing.fitting(stage.config["model"], stage.objective)
    return Written(difference(run, answer, _random(stage)), read, left, fitting=fitting)


def peft(stage: build.Stage, folder: Path) -> Written:
    """The low-rank adaptations alone, as PEFT writes them, for the weights that the run started from."""
    raw = read(stage.source, "tuning", level="size")
    if not raw:
        raise UserError(f"format=peft: ckpt={stage.config['ckpt']} has no adapters; it was not trained with tuning=lora")
    homeless = adapters.without_a_place(raw)
    if homeless:
        raise UserError(
            f"format=peft: PEFT's layout has no place for {homeless[0]} and other weights of LSTMs; "
            "format=safetensors writes them merged"
        )
    folder.mkdir()
    theirs, transposed = writing.layers_of(stage.config["model"])
    base = (records.lineage(stage.source.parents[1]) or [{"path": ""}])[0]["path"]
    elsewhere = split(base)
    base = elsewhere[1] if elsewhere else base  # without our scheme, which PEFT does not know
    adapters.write(folder, raw, saved_config(stage.source)["tuning"]["alpha"], base, theirs, transposed)
    own, found = stage.model.state_dict(), adapters.merged(folder, raw, theirs)
    worst = max(float((value - own[name]).abs().max()) for name, value in found.items())
    return Written(worst, "read back", compared=f"in the {len(found)} weights that the adapters change")


def torch_export(stage: build.Stage, path: Path) -> Written:
    """The whole as torch.export's graph, for batches and texts of any length, with tokenizer and labels in the file."""
    random = _random(stage)
    run = save_graph(traced(stage.objective, random), path, _assets(stage))
    return Written(difference(run, stage.objective.answer, random), "run from the file")


def onnx(stage: build.Stage, path: Path) -> Written:
    """The whole as an ONNX graph, for batches and texts of any length."""
    need_onnx("onnx")
    random = _random(stage)
    run = save_onnx(traced(stage.objective, random), path, random.shapes())
    return Written(difference(run, stage.objective.answer, random), "run from the file")


def int8(stage: build.Stage, path: Path) -> Written:
    """The ONNX graph with weights of 8 bits; how far its answers are from the model's is kept beside it as NAME.json.

    Raises MachineError where too few of its decisions, or its answers as a whole, are those of the model.
    """
    need_onnx("int8")
    random, plain = _random(stage), path.with_suffix(".plain.onnx")
    save_onnx(traced(stage.objective, random), plain, random.shapes())
    run = save_int8(plain, path)
    size, before = path.stat().st_size, plain.stat().st_size
    plain.unlink()
    inputs, compared = _rows(stage, random)
    found = compare(stage.objective, run, inputs)
    alike = found.get("agreement", found["cosine"])
    if not alike >= ALIKE:
        name = "agreement of decisions" if "agreement" in found else "cosine of answers"
        raise MachineError(f"format=int8: {name} {alike:.3f} {compared}, less than {ALIKE}: nothing is kept; use format=onnx")
    facts = {"ckpt": stage.config["ckpt"], "compared": compared, **found, "bytes": size, "bytes_before": before}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    agreement = {"agreement": f"{found['agreement']:.1%} of {found['decisions']:,} decisions"} if "agreement" in found else {}
    told = {**agreement, "cosine": f"{found['cosine']:.4f}", "size": f"{size:,} bytes, {size / before:.1%} of format=onnx"}
    return Written(found["difference"], "run from the file", compared=compared, exact=False, told=told)


def _rows(stage: build.Stage, random: RandomTexts | RandomValues) -> tuple[Inputs, str]:
    """A batch of the rows that the model was scored on, else random inputs, and what that is in words."""
    try:
        whole = build.stage(stage.config)
        split = next(name for name in ("valid", "test", "train") if whole.dataset.rows(name) is not None)
        found = next(iter(whole.loader(split, ROWS).epoch()))["inputs"]
    except UserError as error:  # the data need not be where the model is
        return random.draw(ROWS, 16), f"on random inputs ({str(error).splitlines()[0]})"
    whole_mask = torch.ones_like(found["tokens"], dtype=torch.bool) if "tokens" in found else None
    wanted = {name: found.get(name, whole_mask) for name in random.draw(1, 1)}
    return wanted, f"on {len(next(iter(wanted.values())))} rows of {split}"


@torch.no_grad()
def compare(objective: Objective, run: Run, inputs: Inputs) -> dict[str, float]:
    """How alike two answers are: largest difference, cosine, and the share of decisions that agree where answers are some."""
    one, other, mask = objective.answer(inputs), run(inputs), inputs.get("mask")
    if mask is not None and one.ndim == 3:  # what is said of padding does not count
        one, other = one[mask], other[mask]
    found = {"difference": float((one - other).abs().max())}
    found["cosine"] = float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))
    decide = _decisions(objective)
    if decide:
        same = decide(one) == decide(other)
        found |= {"agreement": float(same.float().mean()), "decisions": same.numel()}
    return found


def _decisions(objective: Objective) -> Callable[[Tensor], Tensor] | None:
    """What turns answers into decisions; None where they are numbers or features."""
    if objective.target == "classes":
        return lambda logits: logits.sigmoid() >= objective.threshold
    if objective.target == "mask":
        return lambda logits: logits.argmax(1)
    if objective.target in ("class", "tags") or isinstance(objective, NextToken | MaskedToken):
        return lambda logits: logits.argmax(-1)
    return None


def vectors(stage: build.Stage, path: Path) -> Written:
    """The vectors of all words as word2vec writes them: a line of count and width, then each word and its numbers."""
    found = word_vectors.table(stage.model).numpy()
    specials = set(stage.tokenizer.special_ids) if stage.tokenizer else set()
    words = {index: stage.tokenizer.token(index) for index in range(len(found)) if index not in specials}
    plain = {index: word for index, word in words.items() if word and not BLANK.search(word)}
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{len(plain)} {found.shape[1]}\n")
        for index, word in plain.items():
            file.write(f"{word} {' '.join(map('{:.9g}'.format, found[index].tolist()))}\n")
    with path.open(encoding="utf-8", newline="\n") as file:
        count, dim = map(int, file.readline().split())
        again = {word: numbers.split(" ") for word, _, numbers in (line.rstrip("\n").partition(" ") for line in file)}
    shape = count == len(again) == len(plain) and dim == found.shape[1]
    read = np.array([again[word] for word in plain.values()], dtype=np.float32).reshape(len(plain), -1)
    difference = float(np.abs(read - found[list(plain)]).max(initial=0.0)) if shape else float("inf")
    skipped = f"; {len(words) - len(plain)} tokens with blanks left out" if len(plain) < len(words) else ""
    return Written(difference, f"read back{skipped}", compared=f"in the vectors of {len(plain):,} words")


# the ending of a format that is one file; the others are a folder
FORMATS: dict[str, tuple[Callable[[build.Stage, Path], Written], str]] = {
    "safetensors": (safetensors, ""),
    "hf": (hf, ""),
    "peft": (peft, ""),
    "torch_export": (torch_export, ".pt2"),
    "onnx": (onnx, ".onnx"),
    "int8": (int8, ".onnx"),
    "vectors": (vectors, ".txt"),
}
