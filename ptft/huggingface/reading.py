"""`ckpt=hf:PATH_OR_NAME`: BERT, RoBERTa, DistilBERT, MiniLM, GPT-2 and what we export, as Hugging Face's library saves them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ptft import resolve, weight_files
from ptft.choices import config_dir
from ptft.data import hub, published
from ptft.data.tokenizer import Tokenizer
from ptft.errors import CheckpointError, UserError, did_you_mean
from ptft.huggingface.families import ACTIVATIONS, FAMILIES, MUST, TEXTS, TOKENS, Family, bias_of
from ptft.imported import Imported, keep
from ptft.locate import read_yaml
from ptft.manifest import digest
from ptft.state import report

OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # of norms in the first conversions
# what says nothing new: counters, causal masks, rotations, the output's second name
SILENT = re.compile(r"(^|\.)(position_ids|masked_bias|decoder\.(weight|bias)|attn\.bias|inv_freq)$")
FEATURES = {"_target_": "ptft.tasks.features.Features"}
# our tasks by the library's problem_type
PROBLEMS = {"single_label_classification": "classify", "multi_label_classification": "multilabel", "regression": "regress"}
Config = dict[str, Any]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Head:
    """What stands above a model: the objective, its weights under our names, theirs that these are, what labels mean.

    dataset: one of the kind that it reads, since published weights name none.
    """

    objective: Config = field(default_factory=lambda: FEATURES)
    weights: State = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    facts: Config = field(default_factory=dict)
    dataset: str = "shakespeare"


def checkpoint(name: str) -> Path:
    """The checkpoint folder that a published model has become. Raises UserError, CheckpointError, MachineError."""
    folder = hub.folder(name)
    files = [folder / "config.json", *_weight_files(folder), *(folder / name for name in (*hub.TOKENIZERS, hub.SENTENCES))]
    content = " ".join(_digest(path, *_signature(path)) for path in files if path.exists())
    source = hub.source(name)
    return keep(source, hashlib.sha256(content.encode()).hexdigest(), lambda: read(folder, source))


def _signature(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache
def _digest(path: Path, size: int, modified: int) -> str:
    """The hash of a file, worked out once in a process while the file stays as it is."""
    with path.open("rb") as file:
        return f"{path.name}={digest(file)}"


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, the index of shards among them; old ones where no others are. Raises CheckpointError."""
    names = (hub.WEIGHTS, hub.INDEX, hub.OLD_WEIGHTS, hub.OLD_INDEX)
    whole = next((folder / name for name in names if (folder / name).exists()), None)
    if whole is None:
        raise CheckpointError(f"{folder}: expected weights in {hub.WEIGHTS} or {hub.OLD_WEIGHTS}, found none")
    if whole.suffix != ".json":
        return [whole]
    shards = hub.read_json(whole).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{whole}: expected the files of the weights by name as weight_map")
    names = sorted(set(map(str, shards.values())))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{whole} names {name}, which is not there")
    return [whole, *(folder / name for name in names)]


def read(folder: Path, source: str) -> Imported:
    """A whole model: settings, weights and tokenizer, each checked against the others. Raises UserError, CheckpointError."""
    config = hub.read_json(folder / "config.json")
    if not config:
        raise CheckpointError(f"{source}: {folder} holds no config.json")
    family = _family(source, config)
    tokenizer = published.read(folder)
    node = _node(source, family, config)
    state = _state(family, folder)
    names = _names(source, family, node, state)
    used = {theirs for several in names.values() for theirs in several}
    try:
        model = _model(family, config, node, state, names, tokenizer.vocab_size)
        pretrained = _causal if family.model == "gpt" else _masked
        head = _labelled(family, config, state, tokenizer) or pretrained(family, node, state, model["embedding.token.weight"])
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        raise CheckpointError(f"{source}: the weights have odd shapes ({str(error).splitlines()[0]})") from error
    _prove(source, node, model, tokenizer.vocab_size)
    parts = {"tokenizer": _tokenizer_node(source), "transform": None, "model": node}
    parts |= {"objective": head.objective, "dataset": _option("dataset", head.dataset)}
    notes = _notes(source, state.keys() - used - head.used) + _reads_less(source, folder, node["max_length"])
    return Imported(parts, model, head.weights, tokenizer.to_json(), notes=notes, facts=head.facts)


def _family(source: str, config: Config) -> Family:
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise UserError(f"{source}: model_type={kind} is none that ptft reads{did_you_mean(kind, FAMILIES)}")
    return FAMILIES[kind]


def _state(family: Family, folder: Path) -> State:
    """Every tensor of the files, in fp32, under the names of the model without a head. Raises CheckpointError."""
    found: State = {}
    for path in _weight_files(folder):
        if path.suffix != ".json":
            found |= {_plain(family, name): tensor for name, tensor in _tensors(path).items() if isinstance(tensor, Tensor)}
    held = {name: tensor for name, tensor in found.items() if tensor.numel()}  # a table without rows says nothing
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in held.items()}


def _tensors(path: Path) -> dict[str, Any]:
    """What a file of weights holds by name; of a pickle, nothing that could run. Raises CheckpointError."""
    if path.suffix != ".safetensors":
        found = weight_files.read(path)
        return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a valid safetensors file ({error})") from error


def _plain(family: Family, name: str) -> str:
    name = name.removeprefix(family.prefix)
    old = next((ending for ending in OLD_NAMES if name.endswith(ending)), None)
    return name.removesuffix(old) + OLD_NAMES[old] if old else name


def _option(kind: str, name: str) -> Config:
    """The settings of one of our YAML files."""
    return {key: value for key, value in read_yaml(config_dir() / kind / f"{name}.yaml").items() if key != "defaults"}


def _tokenizer_node(source: str) -> Config:
    return {"_target_": "ptft.data.published.Published", "path": source.removeprefix("hf:")}


def _node(source: str, family: Family, config: Config) -> Config:
    """The settings of our model. Raises CheckpointError for what theirs has and ours has not."""
    for theirs, value in {**family.required, **family.declared}.items():
        if config.get(theirs, family.required.get(theirs)) != value:
            raise CheckpointError(
                f"{source}: {theirs}={json.dumps(config.get(theirs))} in config.json; ptft reads {json.dumps(value)} only"
            )
    node = _option("model", family.model)
    for ours, (theirs, default) in family.settings.items():
        node[ours] = config.get(theirs, default)
        if default is MUST and type(node[ours]) is not int:
            raise CheckpointError(f"{source}: config.json should give a whole number as {theirs}")
    if "activation" in family.settings:
        if node["activation"] not in list(ACTIVATIONS):
            known = ", ".join(ACTIVATIONS)
            raise CheckpointError(f"{source}: the activation {node['activation']} in config.json is none of {known}")
        node["activation"] = ACTIVATIONS[node["activation"]]
    node |= family.fixed
    if config.get("type_vocab_size") == 0 and "segments" in node:
        node["segments"] = 0
    if family.after_padding:
        node["max_length"] -= _skipped(family, config)
    if node["hidden"] is None:
        node["hidden"] = 4 * node["dim"]
    return node


def _skipped(family: Family, config: Config) -> int:
    """How many rows of positions come before the first."""
    padding = config.get("pad_token_id", 1)
    return padding + 1 if family.after_padding and type(padding) is int else 0


def _names(source: str, family: Family, node: Config, state: State) -> dict[str, tuple[str, ...]]:
    """Each weight of our model and theirs that it is made of. Raises CheckpointError where `state` is another model's."""
    place = re.compile(re.escape(family.layer).replace(r"\{\}", r"(\d+)") + r"\.")
    found = {int(match[1]) for name in state if (match := place.match(name))}
    if found != set(range(len(found))) or len(found) != node["layers"]:
        raise CheckpointError(f"{source}: config.json says {node['layers']} layers, and the weights have {len(found)}")
    names = family.names(len(found), without="" if node.get("segments") else "embedding.segment")
    used = {theirs for several in names.values() for theirs in several}
    missing = sorted(used - state.keys())
    strange = sorted(name for name in state.keys() - used if place.match(name) and not SILENT.search(name))
    if missing or strange:
        told = f"lack {missing[0]}" if missing else f"have {strange[0]}, which ptft's model has not"
        raise CheckpointError(f"{source}: the weights {told}")
    return names


def _model(
    family: Family, config: Config, node: Config, state: State, names: dict[str, tuple[str, ...]], vocab_size: int
) -> State:
    """The weights of our model, without rows that stand for nothing: round numbers of them are made so."""
    model = {ours: family.joined(ours, [state[name] for name in theirs], node["heads"]) for ours, theirs in names.items()}
    rows = {
        "token": slice(vocab_size),
        "position": slice(_skipped(family, config), None),
        "segment": slice(node.get("segments")),
    }
    for part, kept in rows.items():
        name = f"embedding.{part}.weight"
        if name in model:
            model[name] = model[name][kept]
    return model


def _prove(source: str, node: Config, model: State, vocab_size: int) -> None:
    """Refuse settings that do not describe these weights, before anything is built of them."""
    try:
        with torch.device("meta"):
            found = report(model, resolve.resolve("model", node, {"vocab_size": vocab_size}))
    except (UserError, ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{source}: config.json describes no model: {str(error).splitlines()[0]}") from error
    there, here = found.reshaped.get("embedding.token.weight", ([0], [0]))
    if there[1:] == here[1:] != []:
        raise CheckpointError(f"{source}: the vocabulary has {vocab_size} tokens, and the weights know {there[0]}")
    for name, (there, here) in found.reshaped.items():
        raise CheckpointError(f"{source}: {name} is {there} in the weights and {here} by config.json")


def _labelled(family: Family, config: Config, state: State, tokenizer: Tokenizer) -> Head | None:
    """A task with labels and its head, where the file has one that is like ours."""
    architecture = str((config.get("architectures") or [""])[0])
    per_token = architecture.endswith(TOKENS)
    names = {ours: _plain(family, theirs) for ours, theirs in family.labelled_names(per_token).items()}
    if not (per_token or architecture.endswith(TEXTS)) or not names or not set(names.values()) <= state.keys():
        return None
    weights = {ours: state[theirs] for ours, theirs in names.items()}
    outputs, _ = weights["linear.weight" if per_token else "head.linear.weight"].shape
    labels = _labels(config, outputs)
    task = "tag" if per_token else PROBLEMS.get(config.get("problem_type")) or ("classify" if outputs > 1 else "regress")
    if len(set(labels)) < outputs or (task == "regress" and outputs > 1):
        return None
    node, facts = _option("task", task), {"num_classes": outputs, "labels": labels}
    if not per_token:
        node |= {"pooling": _pooling(family, tokenizer), "hidden": family.labelled_hidden}
        weights.setdefault("head.linear.bias", torch.zeros(outputs))
    if task == "regress":  # in the units of the data already
        weights |= {"mean": torch.tensor(0.0), "std": torch.tensor(1.0)}
        facts = {"target_mean": 0.0, "target_std": 1.0}
    return Head(node, weights, set(names.values()), facts, "broad_twitter" if per_token else "sentence_polarity")


def _pooling(family: Family, tokenizer: Tokenizer) -> str:
    """What a head for whole texts reads of them: where [EOS] is ours alone, a causal one reads the token before it."""
    if family.labelled_hidden:
        return "cls"
    return "last" if tokenizer.ends_texts else "before_end"


def _labels(config: Config, outputs: int) -> list[str]:
    """The names of a head's outputs; those that the library gives where config.json has none."""
    given = config.get("id2label")
    given = given if isinstance(given, dict) else {}
    return [str(given.get(str(index), f"LABEL_{index}")) for index in range(outputs)]


def _masked(family: Family, node: Config, state: State, embedding: Tensor) -> Head:
    """Objective mlm and its head, where the file has one that is like ours: with the activation of the model."""
    names, own = family.head_names(), state.get(family.tied, embedding)[: len(embedding)]
    if not set(names.values()) <= state.keys() or (family.gelu_head and node["activation"] != "gelu"):
        return Head()
    # an untied matrix brings its bias along, and the other one is not in use
    names["bias"] = next(name for name in (bias_of(family.tied), names["bias"]) if name in state)
    weights = {ours: state[theirs] for ours, theirs in names.items()}
    weights["bias"] = weights["bias"][: len(embedding)]
    weights |= {} if torch.equal(own, embedding) else {"decoder.weight": own}
    return Head(_option("objective", "mlm"), weights, {family.tied, *family.head_names().values()})


def _causal(family: Family, node: Config, state: State, embedding: Tensor) -> Head:
    """Objective clm; its head is the token embedding unless the file has another."""
    own = state.get(family.tied, embedding)[: len(embedding)]
    tie = torch.equal(own, embedding)
    return Head({**_option("objective", "clm"), "tie": tie}, {} if tie else {"head.weight": own}, {family.tied})


def _reads_less(source: str, folder: Path, most: int) -> list[str]:
    """What must be set to read texts as sentence-transformers does, which cuts them at a length of its own."""
    length = hub.read_json(folder / hub.SENTENCES).get("max_seq_length")
    if type(length) is not int or not 0 < length < most:
        return []
    return [f"{source}: sentence-transformers reads {length} tokens of a text with it: so does dataset.max_length={length}"]


def _notes(source: str, unused: set[str]) -> list[str]:
    """What was left out, by the names of modules."""
    modules = sorted({name.rpartition(".")[0] or name for name in unused if not SILENT.search(name)})
    return [f"{source}: ptft has no place for {', '.join(modules)}: left out"] if modules else []
