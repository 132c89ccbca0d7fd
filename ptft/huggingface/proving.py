"""What a written folder computes, as Hugging Face's own library says where it is installed, else as ptft reads it back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from ptft import resolve
from ptft.huggingface import reading
from ptft.portable import Inputs, Run


def reader(folder: Path) -> tuple[Run, bool, str]:
    """What runs a folder, whether it answers with a head's logits (or with features), and who reads it."""
    if not find_spec("transformers"):
        return _ours(folder), False, "read back by ptft"
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    (name,) = json.loads((folder / "config.json").read_text("utf-8"))["architectures"]
    more = {"add_pooling_layer": False} if name in ("BertModel", "EsmModel") else {}
    network = getattr(transformers, name).from_pretrained(folder, local_files_only=True, **more).eval()

    def run(inputs: Inputs) -> Tensor:
        segments = {"token_type_ids": inputs["segments"]} if "segments" in inputs else {}
        output = network(input_ids=inputs["tokens"], attention_mask=inputs["mask"].long(), **segments)
        found = output["logits"] if "logits" in output else output["last_hidden_state"]
        return found.squeeze(-1) if network.config.problem_type == "regression" else found

    return run, "For" in name or "LMHead" in name, f"read by transformers {transformers.__version__}"


def _ours(folder: Path) -> Run:
    found = reading.read(folder, f"hf:{folder}")
    size = len(found.model["embedding.token.weight"])
    model = resolve.resolve("model", found.parts["model"], {"vocab_size": size}).eval()
    model.load_state_dict(found.model)
    return lambda inputs: model(**inputs)
