"""What a written folder computes, as Hugging Face's own library says where it is installed, else as ptft reads it back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ptft import resolve
from ptft.data import published
from ptft.huggingface import reading
from ptft.huggingface.families import FAMILIES, TEXTS
from ptft.portable import Inputs, Run


def reader(folder: Path) -> tuple[Run, bool, str]:
    """What runs a folder, whether it answers with a head's logits (or with features), and who reads it."""
    if not find_spec("transformers"):
        return _ours(folder), False, "read back by ptft"
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    (name,) = json.loads((folder / "config.json").read_text("utf-8"))["architectures"]
    bare = _reads_no_end(folder, name)
    more = {"add_pooling_layer": False} if name in ("BertModel", "EsmModel") else {}
    network = getattr(transformers, name).from_pretrained(folder, local_files_only=True, **more).eval()

    def run(inputs: Inputs) -> Tensor:
        segments = {"token_type_ids": inputs["segments"]} if "segments" in inputs else {}
        mask = _without_end(inputs["mask"]) if bare else inputs["mask"]
        tokens = inputs["tokens"].masked_fill(~mask, network.config.pad_token_id) if bare else inputs["tokens"]
        output = network(input_ids=tokens, attention_mask=mask.long(), **segments)
        found = output["logits"] if "logits" in output else output["last_hidden_state"]
        return found.squeeze(-1) if network.config.problem_type == "regression" else found

    return run, "For" in name or "LMHead" in name, f"read by transformers {transformers.__version__}"


def _reads_no_end(folder: Path, name: str) -> bool:
    """Whether a class for whole texts reads their last token, and its tokenizer puts no end behind them."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    return name.endswith(TEXTS) and not FAMILIES[kind].labelled_hidden and not published.read(folder).ends_texts


def _without_end(mask: Tensor) -> Tensor:
    """Which tokens are real and not the last of their row, unless that is the only one."""
    kept = torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True) - 1
    kept[:, 0] = True
    return kept


def _ours(folder: Path) -> Run:
    found = reading.read(folder, f"hf:{folder}")
    size = len(found.model["embedding.token.weight"])
    model = resolve.resolve("model", found.parts["model"], {"vocab_size": size}).eval()
    model.load_state_dict(found.model)
    return lambda inputs: model(**inputs)
