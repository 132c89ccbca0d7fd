"""Models that others publish in Hugging Face's layout: a folder here, or a name on its hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ptft.errors import CheckpointError, MachineError, UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt")
SENTENCES = "sentence_bert_config.json"  # of the library sentence-transformers
WANTED = ["config.json", WEIGHTS, INDEX, "model-*.safetensors", *TOKENIZERS, SENTENCES]
OLD_WEIGHTS, OLD_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"  # of before safetensors
OLD_WANTED = [OLD_WEIGHTS, OLD_INDEX, "pytorch_model-*.bin"]
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")  # on the hub: MODEL or OWNER/MODEL
JSON_BYTES = 64 << 20


def folder(name: str) -> Path:
    """Where the files of a model lie; a name on the hub is downloaded, once. Raises UserError, MachineError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists():
        raise UserError(f"hf:{name} is a file; give the folder that holds config.json and {WEIGHTS}")
    if not NAME.fullmatch(name) or name.startswith("."):
        raise UserError(f"hf:{name}: there is no such folder")
    return _downloaded(name)


def source(name: str) -> str:
    """How lineages call a model: its folder in full, or its name on the hub."""
    path = Path(name).expanduser()
    return f"hf:{path.resolve() if path.is_dir() else name}"


def _downloaded(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MachineError(f"hf:{name} is no folder here, and a download needs: pip install huggingface_hub") from None
    try:
        found = Path(snapshot_download(name, allow_patterns=WANTED))
        if (found / WEIGHTS).exists() or (found / INDEX).exists():
            return found
        return Path(snapshot_download(name, allow_patterns=[*WANTED, *OLD_WANTED]))
    except Exception as error:  # offline, unknown, forbidden, disk full: the hub has a class for each
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MachineError(f"hf:{name} is no folder here, and the hub does not give it: {reason}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            content = file.read(JSON_BYTES + 1)
        found = json.loads(content) if len(content) <= JSON_BYTES else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a JSON object of at most {JSON_BYTES >> 20} MiB")
    return found
