"""What comes from elsewhere becomes a checkpoint like any other: once, in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from ptft.checkpoint import save
from ptft.data.cache import cached
from ptft.errors import CheckpointError, Diverged
from ptft.manifest import MANIFEST

VERSION = 6  # raise it when the same files would be read differently: what was kept is then made again
KEPT: dict[str, Path] = {}  # by this process, which asks several times


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere in our words.

    parts: nodes of the configuration, by kind. model, heads: weights under our names. tokenizer: the text of its
    tokenizer.json. inputs: what images were like. notes: what the user must know. facts: what the heads were made for, such
    as labels.
    """

    parts: dict[str, Any]
    model: dict[str, Tensor]
    heads: dict[str, Tensor] = field(default_factory=dict)
    tokenizer: str | None = None
    inputs: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def keep(source: str, content: str, read: Callable[[], Imported]) -> Path:
    """The checkpoint folder that `source` has become; `read` is called where the cache does not hold it yet.

    source: what lineages call it. content: a hash of all that `read` reads. Raises what `read` raises, and CheckpointError.
    """
    key = hashlib.sha256(f"{VERSION} {source} {content}".encode()).hexdigest()[:40]
    if key not in KEPT or not (KEPT[key] / MANIFEST).is_file():
        folder, facts = cached(f"imported-{key}", lambda folder: _write(folder, source, key, read()), [])
        KEPT[key] = folder / facts["checkpoint"]
    return KEPT[key]


def _write(folder: Path, source: str, key: str, found: Imported) -> dict[str, Any]:
    data = {"facts": found.facts, "columns": {}, "inputs": found.inputs}
    assets = {"data.json": json.dumps(data, sort_keys=True).encode()}
    if found.tokenizer is not None:
        assets["tokenizer.json"] = found.tokenizer.encode()
    config = f"# {source}, as ptft reads it\n" + yaml.safe_dump({"seed": 0, **found.parts}, sort_keys=False, allow_unicode=True)
    identity = {"run_id": key[:12], "source": source, "notes": found.notes}
    try:
        path = save(folder, 0, {"model": found.model, "objective": found.heads}, {}, config, assets, identity)
    except Diverged as error:
        raise CheckpointError(f"{source}: its weights are not all finite numbers") from error
    return {"checkpoint": path.name}
