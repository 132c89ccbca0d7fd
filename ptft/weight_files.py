"""Image models in files of other programs, as `ckpt=weights:MODEL:FILE`: unwrapped, without their prefix, under our names."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptft import resolve
from ptft.choices import config_dir
from ptft.errors import CheckpointError, UserError, did_you_mean
from ptft.imported import Imported, keep
from ptft.pretrained import COUNTER, FAMILIES, renamed, settings

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
SHOWN = 3  # names of tensors in a message
MAY_LACK = (COUNTER, "embedding.grid")  # older files have no counters, and the grid is known from the positions
# under which key a file keeps its weights: DINO's teacher, Lightning, timm, solo-learn and MoCo's state_dict, MAE's model
WRAPPERS = ("teacher", "state_dict", "model", "student", "model_ema", "module")
# what may stand before a name: DDP, torch.compile, Lightning, solo-learn, MoCo; whichever fits most, the earlier of two alike
PREFIXES = ("module", "_orig_mod", "backbone", "encoder", "model", "encoder_q", "base_encoder", "net", "network")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet's pixels
GREY_MEAN, GREY_STD = [0.449], [0.226]
# a vision transformer's tensors by the names of timm, DINO, MAE and solo-learn, and ours
VIT = {
    r"cls_token": "embedding.cls",
    r"pos_embed": "embedding.position",
    r"patch_embed\.proj\.(weight|bias)": r"embedding.project.\1",
    r"blocks\.(\d+)\.norm1\.(weight|bias)": r"stack.layers.\1.attention_norm.\2",
    r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)": r"stack.layers.\1.attention.qkv.\2",
    r"blocks\.(\d+)\.attn\.proj\.(weight|bias)": r"stack.layers.\1.attention.out.\2",
    r"blocks\.(\d+)\.norm2\.(weight|bias)": r"stack.layers.\1.feed_forward_norm.\2",
    r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)": r"stack.layers.\1.feed_forward.inner.\2",
    r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)": r"stack.layers.\1.feed_forward.outer.\2",
    r"norm\.(weight|bias)": r"stack.norm.\1",
}
# what others scale the end of a layer's two halves by (LayerScale, 2103.17239), and the map that stands before it
SCALES = {"ls1": "attention.out", "ls2": "feed_forward.outer"}
# what others have and ours do not, beside whatever else is in a layer: register and distillation tokens, a norm before all
FOREIGN = re.compile(r"blocks\.|register_tokens|reg_token|dist_token|norm_pre\.")


def names() -> list[str]:
    """The models that such files may be of."""
    every = (path.stem for path in (config_dir() / "model").glob("*.yaml"))
    return sorted(name for name in every if any(fnmatch(name, family) for family in (*FAMILIES, "vit*")))


def checkpoint(name: str) -> Path:
    """The checkpoint folder that MODEL:FILE, or MODEL:FILE:PREFIX, has become.

    Raises UserError for a model or file that is not there, CheckpointError for weights that do not fit or could run code.
    """
    model, _, place = name.partition(":")
    if model not in names():
        raise UserError(f"ckpt=weights:{name}: write weights:MODEL:FILE; no such model is read{did_you_mean(model, names())}")
    path, prefix = Path(place).expanduser(), None
    if not path.is_file() and ":" in place:
        head, _, prefix = place.rpartition(":")
        path = Path(head).expanduser()
    if not path.is_file():
        raise UserError(f"ckpt=weights:{name}: there is no file '{place}'")
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return keep(f"weights:{name}", content, lambda: imported(model, path, prefix))


def imported(name: str, path: Path, prefix: str | None = None) -> Imported:
    """A model of our YAML file of that name with a file's weights. prefix: what stands before names; None: a usual one."""
    found = {renamed(key): value for key, value in unwrapped(read(path)).items()}
    known = _known(name)
    start = chosen_prefix(found, name, known) if prefix is None else prefix
    taken = {key: ours for key in found if key.startswith(start) and (ours := our_name(name, key.removeprefix(start))) in known}
    weights = {ours: found[key] for key, ours in taken.items()}
    if missing := [key for key in known if key not in weights and not key.endswith(MAY_LACK)]:
        raise CheckpointError(_unlike(name, path, found, missing, start, known))
    if name.startswith("vit"):
        taken |= dict.fromkeys(scaled(weights, found, start))
        foreign = [key for key in found.keys() - taken if key.startswith(start) and FOREIGN.match(key.removeprefix(start))]
        if foreign:
            raise CheckpointError(f"{path}: model={name} has no {_some(foreign)}, and computes something else without them")
    node, inputs = shaped(name, path, weights, next(key for key, shape in known.items() if len(shape) == 4 or "project" in key))
    for key, shape in _shapes(node, inputs).items():
        value = weights.setdefault(key, torch.tensor(0))  # a counter that the file lacks
        if tuple(value.shape) != shape:
            raise CheckpointError(f"{path}: {key} is {_by(value.shape)}, and in model={name} {_by(shape)}; name its own model")
    unused = [key for key in found if key not in taken]
    notes = ["pixels are standardised by ImageNet's mean and deviation"]
    if name.startswith("vit"):
        rows, columns = weights["embedding.grid"].tolist()
        notes.append(f"{path}: its {rows * columns} positions are taken for {rows} rows of {columns} patches")
    notes += [f"{path}: {len(unused)} tensors were not taken: {_some(unused)}"] if unused else []
    return Imported({"tokenizer": None, "transform": None, "model": node}, weights, inputs=inputs, notes=notes)


def read(path: Path) -> Any:
    """What a file holds, read without running any of it. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts = archive.infolist()
            if any(part.compress_type for part in parts) or sum(part.file_size for part in parts) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")
        with torch.serialization.safe_globals([Namespace]):  # as training scripts keep their arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is not what it should be can fail anywhere in the reader
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not weights alone, or damaged ({why}); save its state_dict by itself") from error


def unwrapped(found: Any) -> Weights:
    """The tensors of a file by name, in float32, whatever they are wrapped in."""
    while isinstance(found, dict) and (
        inner := next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), None)
    ):
        found = inner
    entries = found.items() if isinstance(found, dict) else ()
    tensors = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, Tensor)}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def our_name(model: str, key: str) -> str | None:
    """What a tensor of another program is called here; None for one that is no part of the model."""
    if not model.startswith("vit"):
        return key
    fits = ((pattern, ours) for pattern, ours in VIT.items() if re.fullmatch(pattern, key))
    return next((re.sub(pattern, ours, key) for pattern, ours in fits), None)


def scaled(weights: Weights, found: Weights, start: str) -> set[str]:
    """Multiply LayerScale into the maps before it, which computes the same; returns the tensors that went into `weights`."""
    gone = set()
    for key, scale in found.items():
        parts = re.fullmatch(re.escape(start) + r"blocks\.(\d+)\.(ls[12])\.gamma", key)
        maps = parts and [f"stack.layers.{parts[1]}.{SCALES[parts[2]]}.{end}" for end in ("weight", "bias")]
        if maps and all(name in weights and weights[name].shape[:1] == scale.shape for name in maps):
            weights |= {name: torch.einsum("o,o...->o...", scale, weights[name]) for name in maps}
            gone.add(key)
    return gone


def chosen_prefix(found: Iterable[str], model: str, known: Shapes) -> str:
    """Of the usual prefixes, alone or joined, the one that most of the model's tensors stand behind."""
    usual = {start: count for start, count in _prefixes(found, model, known).items() if set(_parts(start)) <= set(PREFIXES)}
    return min(usual, key=lambda start: (-usual[start], [PREFIXES.index(part) for part in _parts(start)]), default="")


def shaped(name: str, path: Path, weights: Weights, first: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's settings, and what its images are like, as far as the weights show them. first: the map that reads pixels."""
    node = settings(name)
    if weights[first].ndim != 4:
        raise CheckpointError(f"{path}: {first} is {_by(weights[first].shape)}, expected outputs x channels x rows x columns")
    channels, kernel, size = weights[first].shape[1], weights[first].shape[-1], 224
    if name.startswith("vit"):
        table = weights["embedding.position"].flatten(0, -2)
        side = math.isqrt(len(table) - 1)
        if side * side != len(table) - 1:
            raise CheckpointError(f"{path}: pos_embed has {len(table)} rows, expected a class token and a square grid")
        node, size = node | {"patch": kernel, "positions": "learned"}, side * kernel
        weights |= {"embedding.position": table, "embedding.grid": torch.tensor([side, side])}
        weights |= {"embedding.cls": weights["embedding.cls"].flatten(), first: weights[first].flatten(1)}
    elif name.startswith("resnet"):
        small = kernel == 3
        node, size = node | {"stem": "small" if small else "imagenet"}, 32 if small else 224
    mean, std = (MEAN, STD) if channels == len(MEAN) else (GREY_MEAN * channels, GREY_STD * channels)
    return node, {"channels": channels, "image_size": [size, size], "pixel_mean": mean, "pixel_std": std}


def _known(name: str) -> Shapes:
    """Our names of the tensors that a file may have."""
    node = settings(name) | ({"positions": "learned"} if name.startswith("vit") else {})
    side = 2 * node.get("patch", 112)
    return _shapes(node, {"channels": 3, "image_size": [side, side]})


def _shapes(node: dict[str, Any], inputs: dict[str, Any]) -> Shapes:
    """The shapes of a model's tensors by name, without making them."""
    with torch.device("meta"):
        model = resolve.resolve("model", dict(node), {"input_shape": [inputs["channels"], *inputs["image_size"]]})
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _parts(prefix: str) -> list[str]:
    return prefix.rstrip(".").split(".") if prefix else []


def _prefixes(found: Iterable[str], model: str, known: Shapes) -> Counter:
    """How many of the model's tensors stand behind each beginning of a name, the empty one among them."""
    cuts = ((key, cut) for key in found for cut in (0, *(dot.end() for dot in re.finditer(r"\.", key))))
    return Counter(key[:cut] for key, cut in cuts if our_name(model, key[cut:]) in known)


def _unlike(name: str, path: Path, found: Weights, missing: list[str], start: str, known: Shapes) -> str:
    """What to say of a file whose names are not the model's."""
    counts = _prefixes(found, name, known)
    better = max(counts, key=counts.__getitem__, default=start)
    hint = f"ckpt=weights:{name}:{path}:{better} finds {counts[better]}" if better != start else "it is of another model"
    have = f"it has {_some(list(found))}" if found else "it holds no tensors by name"
    lacks = f"{len(missing)} of the {len(known)} tensors of model={name} are not in it ({_some(missing)})"
    return f"{path}: {lacks}; {have}; {hint}"


def _some(keys: list[str]) -> str:
    return ", ".join(sorted(keys)[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a single number"
