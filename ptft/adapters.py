"""Low-rank adaptations in the file layout of PEFT (github.com/huggingface/peft), apart from the weights they adapt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
INNER = ".parametrizations.weight."


def layers(raw: Mapping[str, Tensor]) -> list[str]:
    """The names of the adapted layers in what LoRA keeps beside plain weights (ptft/nn/lora.py, raw_state)."""
    ending = f"{INNER}original"
    return sorted(name.removesuffix(ending) for name in raw if name.endswith(ending))


def without_a_place(raw: Mapping[str, Tensor]) -> list[str]:
    """The names of adapted weights that the layout cannot hold: those of layers with several, such as LSTMs."""
    endings = ".original", INNER + "original"
    names = (name.removesuffix(endings[0]) for name in raw if name.endswith(endings[0]) and not name.endswith(endings[1]))
    return sorted(name.replace(".parametrizations.", ".") for name in names)


def write(
    folder: Path,
    raw: Mapping[str, Tensor],
    alpha: float,
    base: str,
    theirs: Mapping[str, tuple[str, ...]] | None = None,
    transposed: bool = False,
) -> None:
    """Write adapter_model.safetensors and adapter_config.json into `folder`.

    base: where the adapted weights are. theirs: layers of another library's model for each of ours, several where they are
    joined to one; those not named keep their name. transposed: that library's matrices are [in, out].
    """
    names, tensors, targets = layers(raw), {}, []
    for name in names:
        original, down, up = (raw[f"{name}{INNER}{part}"] for part in ("original", "0.down", "0.up"))
        # a convolution's factors are convolutions: one of its own size, and one of single points
        points = (1,) * (original.ndim - 2)
        parts = (theirs or {}).get(name, (name,))
        targets += parts
        for part, rows in zip(parts, up.chunk(len(parts)), strict=True):
            tensors[f"{PREFIX}{part}.lora_A.weight"] = down.reshape(len(down), *original.shape[1:]).clone()
            tensors[f"{PREFIX}{part}.lora_B.weight"] = rows.reshape(*rows.shape, *points).clone()
    rank = raw[f"{names[0]}{INNER}0.down"].shape[0]
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "inference_mode": True,
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def merged(folder: Path, raw: Mapping[str, Tensor], theirs: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Tensor]:
    """The weights that the files make of the original ones in `raw`: W + alpha / r * B A (LoRA, 2106.09685, 4.1)."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    tensors, found = load_file(folder / WEIGHTS), {}
    for name in layers(raw):
        factors = [
            [tensors[f"{PREFIX}{part}.lora_{side}.weight"].flatten(1) for side in "BA"]
            for part in (theirs or {}).get(name, (name,))
        ]
        change = config["lora_alpha"] / config["r"] * torch.cat([up @ down for up, down in factors])
        original = raw[f"{name}{INNER}original"]
        found[f"{name}.weight"] = original + change.view_as(original)
    return found
