"""A model of ours as a folder that Hugging Face's library loads: BERT or GPT-2, with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from ptft.data.hub import WEIGHTS
from ptft.data.tokenizer import Tokenizer
from ptft.errors import UserError
from ptft.huggingface.families import ACTIVATIONS, BERT, GPT2, Family
from ptft.nn.language import NextToken
from ptft.nn.masking import MaskedToken
from ptft.objective import Objective, heads

# their model_type, and the classes of the model without a head and with one
CLASSES = {BERT: ("bert", "BertModel", "BertForMaskedLM"), GPT2: ("gpt2", "GPT2Model", "GPT2LMHeadModel")}
FAMILIES = {"ptft.models.transformer.Transformer": BERT, "ptft.models.gpt.GPT": GPT2}
DROPOUTS = {BERT: ("attention_probs_dropout_prob",), GPT2: ("attn_pdrop", "embd_pdrop")}  # ours has one for all
THEIRS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}  # the first of several names
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "eos_token")


def family_of(node: dict[str, Any]) -> Family:
    """The family that has all that a model is made of. Raises UserError naming each setting it has not."""
    name = node["_target_"].rpartition(".")[2]
    family = FAMILIES.get(node["_target_"])
    if family is None:
        raise UserError(f"format=hf: model {name} is none of Hugging Face's: only Transformer and GPT are written so")
    faults = [
        f"model.{key}={_told(node[key])} (only {_told(value)})" for key, value in family.fixed.items() if node[key] != value
    ]
    if node["activation"] not in THEIRS:
        faults.append(f"model.activation={node['activation']} (only {', '.join(THEIRS)})")
    if faults:
        kind = CLASSES[family][0]
        raise UserError(f"format=hf: Hugging Face's {kind} has no {', '.join(faults)}; format=safetensors takes any model")
    return family


def layers_of(node: dict[str, Any]) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Each of our layers and those of their model it stands for, and whether their matrices are [in, out]; {} for others."""
    try:
        family = family_of(node)
    except UserError:
        return {}, False
    weights = {ours: theirs for ours, theirs in family.names(node["layers"]).items() if ours.endswith(".weight")}
    names = {ours: tuple(name.removesuffix(".weight") for name in theirs) for ours, theirs in weights.items()}
    return {ours.removesuffix(".weight"): theirs for ours, theirs in names.items()}, family.transposed


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def write(folder: Path, node: dict[str, Any], objective: Objective, tokenizer: Tokenizer) -> list[str]:
    """Fill `folder`; returns the names of weights that are left out, of heads that theirs have not. Raises UserError."""
    family = family_of(node)
    kind, plain, with_head = CLASSES[family]
    head, taken = _head(family, node, objective)
    prefix = "" if head is None else family.prefix
    tensors = {prefix + name: tensor for name, tensor in _model(family, node, objective).items()} | (head or {})
    copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(copies, folder / WEIGHTS, {"format": "pt"})
    config = {"model_type": kind, "architectures": [plain if head is None else with_head], "vocab_size": tokenizer.vocab_size}
    config["tie_word_embeddings"] = family.tied not in tensors
    _write_json(folder / "config.json", config | _config(family, node, tokenizer))
    (folder / "tokenizer.json").write_text(_with_layout(family, tokenizer), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(family, node, tokenizer))
    return sorted(heads(objective).keys() - taken)


def _model(family: Family, node: dict[str, Any], objective: Objective) -> dict[str, Tensor]:
    """The model's tensors under their names."""
    own = objective.model.state_dict()
    # theirs always adds a segment's row to each token: where ours has none these are zeros, where it has one both are that
    rows = own.get("embedding.segment.weight", torch.zeros(1, node["dim"]))
    own["embedding.segment.weight"] = rows if len(rows) > 1 else rows.repeat(2, 1)
    found = {}
    for ours, theirs in family.names(node["layers"]).items():
        turned = family.transposed and ours.startswith("stack.layers.") and own[ours].ndim == 2
        tensor = own[ours].T if turned else own[ours]
        found |= dict(zip(theirs, tensor.chunk(len(theirs)), strict=True))
    return found


def _head(family: Family, node: dict[str, Any], objective: Objective) -> tuple[dict[str, Tensor] | None, set[str]]:
    """Their head's tensors, and the names of ours in it; None where theirs has no such head."""
    own = heads(objective)
    if isinstance(objective, NextToken) and family is GPT2 and "head.bias" not in own:
        return ({} if objective.head is None else {family.tied: objective.head.weight.data}), {"head.weight"}
    if isinstance(objective, MaskedToken) and family is BERT and node["activation"] == "gelu":
        names = family.head_names()
        return {theirs: own[ours] for ours, theirs in names.items()}, set(names)
    return None, set()


def _config(family: Family, node: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the model."""
    found = {theirs: node[ours] for ours, (theirs, _) in family.settings.items()}
    found |= dict.fromkeys(DROPOUTS[family], node["dropout"])
    found[family.settings["activation"][0]] = THEIRS[node["activation"]]
    if family is BERT:
        return found | {"type_vocab_size": max(2, node["segments"]), "pad_token_id": tokenizer.pad_id}
    return found | {"bos_token_id": tokenizer.eos_id, "eos_token_id": tokenizer.eos_id}


def _with_layout(family: Family, tokenizer: Tokenizer) -> str:
    """The tokenizer's JSON; where it says nothing of it, with what BERT has around one and two texts."""
    if family is GPT2 or tokenizer.state["post_processor"]:
        return tokenizer.to_json()
    backend = Backend.from_str(tokenizer.to_json())
    _, _, cls, sep, *_ = tokenizer.specials
    backend.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    return backend.to_str(pretty=True)


def _tokenizer_config(family: Family, node: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    reads = ["input_ids", "token_type_ids", "attention_mask"] if family is BERT else ["input_ids", "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": node["max_length"],
        "model_input_names": reads,
        **dict(zip(ROLES, tokenizer.specials, strict=True)),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
