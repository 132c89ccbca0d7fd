"""A model of ours as a folder that Hugging Face's library loads, with its tokenizer.

With learned positions it is their BERT or GPT-2; with rotary ones, as our small models have, their ESM or GPT-NeoX, which
are the same networks under other names.
"""

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
from ptft.huggingface.families import ACTIVATIONS, BERT, DISTILBERT, ESM, GPT2, GPT_NEOX, KINDS, TEXTS, TOKENS, Family, bias_of
from ptft.nn.language import NextToken
from ptft.nn.masking import MaskedToken
from ptft.nn.pooling import PooledHead
from ptft.objective import Objective, heads

# their model_type, what their classes are called, and the class with the head of pretraining
CLASSES = {
    BERT: ("bert", "Bert", "ForMaskedLM"),
    DISTILBERT: ("distilbert", "DistilBert", "ForMaskedLM"),
    ESM: ("esm", "Esm", "ForMaskedLM"),
    GPT2: ("gpt2", "GPT2", "LMHeadModel"),
    GPT_NEOX: ("gpt_neox", "GPTNeoX", "ForCausalLM"),
}
# their problem_type by what our task learns
PROBLEMS = {"class": "single_label_classification", "classes": "multi_label_classification", "number": "regression"}
FAMILIES = {"ptft.models.transformer.Transformer": (BERT, ESM), "ptft.models.gpt.GPT": (GPT2, GPT_NEOX)}
DROPOUTS = {  # ours has one for all
    BERT: ("attention_probs_dropout_prob",),
    DISTILBERT: ("attention_dropout",),
    ESM: ("attention_probs_dropout_prob",),
    GPT2: ("attn_pdrop", "embd_pdrop"),
    GPT_NEOX: ("attention_dropout",),
}
THEIRS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}  # the first of several names
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "eos_token")


def family_of(node: dict[str, Any]) -> Family:
    """The family that has all that a model is made of. Raises UserError naming each setting that the nearest has not."""
    name = node["_target_"].rpartition(".")[2]
    families = FAMILIES.get(node["_target_"])
    if families is None:
        raise UserError(f"format=hf: model {name} is none of Hugging Face's: only Transformer and GPT are written so")
    family = next((each for each in families if each.fixed["positions"] == node["positions"]), families[0])
    fixed = {key: value for key, value in family.fixed.items() if key != "bias"}  # none is one of zeros
    given = {key: node.get(key, value) for key, value in fixed.items()}  # models of before have not all of the settings
    faults = [f"model.{key}={_told(given[key])} (only {_told(value)})" for key, value in fixed.items() if given[key] != value]
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
    if family not in (BERT, GPT2):
        return {}, False  # no published model is like it: the adapted weights are ours, and go by our names
    weights = {ours: theirs for ours, theirs in family.names(node["layers"]).items() if ours.endswith(".weight")}
    names = {ours: tuple(name.removesuffix(".weight") for name in theirs) for ours, theirs in weights.items()}
    return {ours.removesuffix(".weight"): theirs for ours, theirs in names.items()}, family.transposed


def _told(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write(folder: Path, node: dict[str, Any], objective: Objective, tokenizer: Tokenizer) -> list[str]:
    """Fill `folder`; returns the names of weights that are left out, of heads that theirs have not. Raises UserError."""
    family = _with_head(family_of(node), node, objective)
    kind, plain, _ = CLASSES[family]
    ending, head, taken = _head(family, objective) or ("Model", {}, set())
    prefix = "" if ending == "Model" else family.prefix
    tensors = {prefix + name: tensor for name, tensor in _model(family, node, objective).items()} | head
    copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(copies, folder / WEIGHTS, {"format": "pt"})
    config = {"model_type": kind, "architectures": [plain + ending], "vocab_size": tokenizer.vocab_size}
    config["tie_word_embeddings"] = family.tied not in tensors
    if ending in (TEXTS, TOKENS):
        config |= _meaning(objective)
    _write_json(folder / "config.json", config | _config(family, node, tokenizer))
    pooling = objective.head.pooling if ending == TEXTS else None
    layout = _with_layout(family, tokenizer, pooling)
    layout = _of_words(layout) if objective.target == "tags" else layout
    (folder / "tokenizer.json").write_text(layout, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(family, node, tokenizer))
    return sorted(heads(objective).keys() - taken)


def fitting(node: dict[str, Any], objective: Objective) -> str | None:
    """The settings with which the head of a task for whole texts would have a place; None where none would, or it has one."""
    family = family_of(node)
    theirs = _head(_with_head(family, node, objective), objective)
    if theirs or not isinstance(getattr(objective, "head", None), PooledHead):
        return None
    poolings = _poolings(family, objective.tokenizer)
    return f"task.pooling={poolings[0]} task.hidden={_told(family.labelled_hidden)}" if poolings else None


def _with_head(family: Family, node: dict[str, Any], objective: Objective) -> Family:
    """DistilBERT in place of BERT where the model is both and the head DistilBERT's."""
    relu = getattr(getattr(objective, "head", None), "activation", None) == DISTILBERT.labelled_hidden
    same = all(node.get(key, value) == value for key, value in DISTILBERT.fixed.items() if key != "bias")
    return DISTILBERT if family is BERT and relu and same else family


def _model(family: Family, node: dict[str, Any], objective: Objective) -> dict[str, Tensor]:
    """The model's tensors under their names."""
    own = objective.model.state_dict()
    # BERT always adds a segment's row to each token: where ours has none these are zeros, where it has one both are that
    rows = own.get("embedding.segment.weight", torch.zeros(1, node["dim"]))
    own["embedding.segment.weight"] = rows if len(rows) > 1 else rows.repeat(2, 1)
    found = {}
    for ours, theirs in family.names(node["layers"]).items():
        whole = own[ours] if ours in own else torch.zeros(len(own[f"{ours.removesuffix('bias')}weight"]))
        found |= dict(zip(theirs, family.parted(ours, whole, len(theirs), node["heads"]), strict=True))
    return found


def _head(family: Family, objective: Objective) -> tuple[str, dict[str, Tensor], set[str]] | None:
    """How their class ends, its head's tensors, and the names of ours in it; None where theirs has no such head."""
    own, names = heads(objective), family.labelled_names(per_token=objective.target == "tags")
    if objective.target == "tags":
        return TOKENS, {theirs: own[ours] for ours, theirs in names.items()}, set(names)
    if objective.target in PROBLEMS and _is_theirs(family, objective):
        if "std" in own:  # theirs answers in the units of the data
            own |= {f"head.linear.{kind}": own[f"head.linear.{kind}"] * own["std"] for kind in KINDS}
            own["head.linear.bias"] = own["head.linear.bias"] + own["mean"]
        found = {theirs: own[ours] for ours, theirs in names.items()} | _in_norm(family, objective.model, own)
        return TEXTS, found, {*names, "head.linear.bias", "mean", "std"}
    pretrained = CLASSES[family][2]
    if isinstance(objective, NextToken) and family.model == "gpt" and "head.bias" not in own:
        return pretrained, {} if objective.head is None else {family.tied: objective.head.weight.data}, {"head.weight"}
    if isinstance(objective, MaskedToken) and family.model == "transformer":
        names = family.head_names()
        found = {theirs: own[ours] for ours, theirs in names.items()}
        if objective.decoder is not None:
            names |= {"decoder.weight": family.tied}
            found |= {family.tied: own["decoder.weight"], bias_of(family.tied): own["bias"].clone()}
        return pretrained, found, set(names)
    return None


def _is_theirs(family: Family, objective: Objective) -> bool:
    head = getattr(objective, "head", None)
    fits = isinstance(head, PooledHead) and head.activation == family.labelled_hidden
    return fits and head.pooling in _poolings(family, objective.tokenizer)


def _poolings(family: Family, tokenizer: Tokenizer) -> list[str]:
    """What their head for whole texts can read of them. A causal one reads the last token that is not padding."""
    if family.labelled_hidden:
        return ["cls"]
    found = {"last": tokenizer.pad_id != tokenizer.eos_id, "before_end": not tokenizer.ends_texts}
    return [name for name, possible in found.items() if possible]


def _in_norm(family: Family, model: Any, head: dict[str, Tensor]) -> dict[str, Tensor]:
    """A last norm whose bias is more by what the head's matrix turns into the head's bias, where theirs has none."""
    if family.labelled_hidden:
        return {}
    matrix, bias = head["head.linear.weight"].double(), head["head.linear.bias"].double()
    own = model.stack.norm.bias
    added = (torch.linalg.pinv(matrix) @ bias).float()
    return {f"{family.prefix}{family.norms['stack.norm']}.bias": added if own is None else own.data + added}


def _meaning(objective: Objective) -> dict[str, Any]:
    """What config.json says of the answers."""
    problem = {"problem_type": PROBLEMS[objective.target]} if objective.target in PROBLEMS else {}
    labels = objective.scheme.labels if objective.target == "tags" else getattr(objective, "labels", ["LABEL_0"])
    return problem | {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def _config(family: Family, node: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """What config.json says of the model."""
    found = {theirs: node[ours] for ours, (theirs, _) in family.settings.items()}
    found |= {**dict.fromkeys(DROPOUTS[family], node["dropout"]), **family.declared}
    if "activation" in family.settings:
        found[family.settings["activation"][0]] = THEIRS[node["activation"]]
    if family is BERT:
        found["type_vocab_size"] = max(2, node["segments"])
    if family.model == "transformer":
        return found | {"pad_token_id": tokenizer.pad_id, "mask_token_id": tokenizer.mask_id}
    found["pad_token_id"] = tokenizer.pad_id
    return found | {"bos_token_id": tokenizer.eos_id, "eos_token_id": tokenizer.eos_id}


def _with_layout(family: Family, tokenizer: Tokenizer, pooling: str | None) -> str:
    """The tokenizer's JSON; where it says nothing of it, with what BERT has around one and two texts.

    pooling: of a head for whole texts. A causal one that reads [EOS] needs one behind texts, and any of them what parts two.
    """
    causal, ends = family.model == "gpt", pooling == "last"
    needed = pooling and not tokenizer.ends_texts and (ends or tokenizer.between)
    if not (needed if causal else tokenizer.state["post_processor"] is None):
        return tokenizer.to_json()
    backend = Backend.from_str(tokenizer.to_json())
    _, _, cls, sep, _, eos = tokenizer.specials
    between, end = [sep] * len(tokenizer.between), [eos] * ends
    backend.post_processor = TemplateProcessing(
        single=" ".join(("$A", *end)) if causal else f"{cls} $A {sep}",
        pair=" ".join(("$A", *between, "$B", *end)) if causal else f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=list({cls: tokenizer.cls_id, sep: tokenizer.sep_id, eos: tokenizer.eos_id}.items()),
    )
    return backend.to_str(pretty=True)


def _of_words(tokenizer: str) -> str:
    """A tokenizer's JSON with a blank before every word that it is given apart, the first of a text too.

    So the tagger learned them (`with_blanks`), and other programs give a tagger its words apart.
    """
    state = json.loads(tokenizer)
    whole = state["pre_tokenizer"] or {}
    for split in (whole, *whole.get("pretokenizers", ())):
        if split.get("type") == "ByteLevel" and split["use_regex"]:
            split["add_prefix_space"] = True
        elif split.get("type") == "Metaspace":
            split["prepend_scheme"] = "first"
    return json.dumps(state, indent=2, ensure_ascii=False)


def _tokenizer_config(family: Family, node: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    segments = ["token_type_ids"] if family is BERT else []
    reads = ["input_ids", *segments, "attention_mask"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": node["max_length"],
        "model_input_names": reads,
        **dict(zip(ROLES, tokenizer.specials, strict=True)),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
