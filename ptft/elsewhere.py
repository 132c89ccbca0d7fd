"""Weights from elsewhere: `ckpt=SCHEME:NAME` becomes, once, a checkpoint like any other. Torch is not needed to know which."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from ptft.errors import UserError, did_you_mean

# each module has `checkpoint(name) -> Path`: the checkpoint folder that those weights have become
SCHEMES = {
    "hf": "ptft.huggingface.reading",
    "torchvision": "ptft.pretrained",
    "weights": "ptft.weight_files",
}
WRITTEN = re.compile(r"([a-z]\w*):(.*)", re.DOTALL)


def split(text: str | Path) -> tuple[str, str] | None:
    """The scheme and the name in SCHEME:NAME; None where `text` is a path. Raises UserError for a scheme there is not."""
    found = WRITTEN.fullmatch(str(text))
    if not found or Path(text).exists():
        return None
    scheme, name = found.groups()
    if scheme not in SCHEMES:
        raise UserError(f"ckpt={text}: there is no scheme '{scheme}:'{did_you_mean(scheme, SCHEMES)}")
    if not name:
        raise UserError(f"ckpt={text} names nothing: write {scheme}:NAME")
    return scheme, name


def checkpoint(text: str | Path) -> Path | None:
    """The checkpoint folder that SCHEME:NAME has become, made now if need be; None where `text` is a path."""
    parts = split(text)
    return importlib.import_module(SCHEMES[parts[0]]).checkpoint(parts[1]) if parts else None
