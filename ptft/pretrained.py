"""Weights that torchvision publishes, by the name of their model; its own code downloads them, once."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ptft import resolve
from ptft.choices import config_dir
from ptft.errors import CheckpointError, MachineError, UserError, did_you_mean
from ptft.imported import Imported, keep
from ptft.locate import read_yaml

FAMILIES = ("resnet*", "vgg*", "googlenet", "inception_v3", "densenet*")
HEADS = {"fc", "classifier", "AuxLogits", "aux1", "aux2"}
RESCALING = {"googlenet", "inception_v3"}  # torchvision's own forward turns ImageNet's statistics into these
HALF = [0.5, 0.5, 0.5]
COUNTER = "num_batches_tracked"  # of norms; older files do without


def names() -> list[str]:
    """The models whose weights can be had."""
    return torchvision.models.list_models(torchvision.models, include=FAMILIES)


def checkpoint(name: str) -> Path:
    """The checkpoint folder that published weights have become. Raises what `load` raises."""
    weights = _published(name)
    return keep(f"torchvision:{name}", f"{weights.url}{_other_hash(_cached(weights))}", lambda: _imported(name))


def _imported(name: str) -> Imported:
    """A published model in our words: the settings of our YAML file of its name, its weights, what its images are like."""
    expected = inputs(name)
    node = settings(name)
    model = resolve.resolve("model", node, {"input_shape": [expected["channels"], *expected["image_size"]]})
    found, file = load(name, model), _cached(_published(name))
    notes = [f"{file} is not the published file: its hash is not the one in its name"] if _other_hash(file) else []
    return Imported({"tokenizer": None, "transform": None, "model": node}, found, inputs=expected, notes=notes)


def settings(name: str) -> dict[str, Any]:
    """The settings of a model's YAML file, with those of the files it builds upon."""
    found = read_yaml(config_dir() / "model" / f"{name}.yaml")
    bases = [base for base in found.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in settings(base).items()} | found


def load(name: str, model: nn.Module) -> dict[str, Tensor]:
    """The published weights of a model without its heads, under the names of `model`.

    Raises UserError for an unknown name, MachineError where they cannot be had, CheckpointError where they are damaged.
    """
    weights = _published(name)
    state = {renamed(key): value for key, value in _fetched(name, weights).items() if key.partition(".")[0] not in HEADS}
    counters = (key for key in model.state_dict() if key.endswith(COUNTER))
    return {key: torch.tensor(0) for key in counters} | state


def inputs(name: str) -> dict[str, Any]:
    """The images that published weights expect: channels, size, and the mean and deviation of pixels in 0..1."""
    preset = _published(name).transforms()
    mean, std = (HALF, HALF) if name in RESCALING else (list(preset.mean), list(preset.std))
    return {"channels": len(mean), "image_size": preset.crop_size * 2, "pixel_mean": mean, "pixel_std": std}


def _published(name: str) -> Any:
    """Torchvision's entry for the best weights of a model."""
    if name not in names():
        raise UserError(f"ckpt=torchvision:{name}: torchvision has no such weights for us{did_you_mean(name, names())}")
    return torchvision.models.get_model_weights(name).DEFAULT


def _cached(weights: Any) -> Path:
    """Where torch keeps a downloaded file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def _fetched(name: str, weights: Any) -> dict[str, Tensor]:
    """The file's tensors, from torch's cache or the network."""
    file = _cached(weights)
    try:
        return weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True)
    except OSError as error:
        raise MachineError(f"ckpt=torchvision:{name}: no {file}, and no download from {weights.url}: {error}") from error
    except Exception as error:  # a file that is not what it should be can fail anywhere in the reader
        where = f"{file} is damaged; delete it to download it again" if file.exists() else weights.url
        raise CheckpointError(f"ckpt=torchvision:{name}: {where}: {str(error).splitlines()[0]}") from error


def _other_hash(file: Path) -> str:
    """The hash of a file, unless its name ends in the beginning of it, which torch checks after downloads only."""
    expected = re.search(r"-([0-9a-f]+)\.\w+$", file.name)
    found = hashlib.sha256(file.read_bytes()).hexdigest() if expected and file.exists() else ""
    return "" if expected and found.startswith(expected[1]) else found


def renamed(key: str) -> str:
    """DenseNet's files were written with names that torch no longer allows: norm.1 for norm1."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)
