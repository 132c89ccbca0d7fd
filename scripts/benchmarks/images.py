"""What making views of images costs, against torchvision's transforms on one PIL image after the other."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import ratios, spread, table

STACKS = {"train": {}, "train, RandAugment": {"randaugment": 9}, "simclr": {}}
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def images(options: Namespace, folder: Path) -> None:
    """One view of each image, with one thread on both sides."""
    import numpy as np
    import torch
    from PIL import Image

    from ptft import machine
    from ptft.randomness import Draw

    machine.keep_memory()
    torch.set_num_threads(1)
    rows, count = [], 16 if options.quick else 256
    for side in (32, 96):
        batch = list(torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8))
        pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in batch]
        draw = Draw(0, np.zeros(count, dtype=int), np.arange(count), training=True)
        for name, changes in STACKS.items():
            ours, theirs = transform(name.partition(",")[0], side, changes), peer(name, side)
            turns = [(timed(ours.one, batch, draw), timed(list, map(theirs, pil))) for _ in range(1 if options.quick else 9)]
            mine, other = zip(*turns, strict=True)
            each = [f"{statistics.median(turn['seconds'] for turn in told) / count * 1e6:.0f}" for told in (mine, other)]
            rows.append([name, f"{side} x {side}", *each, *spread(ratios(other, mine), ".1f")])
    table(["transform", "images", "ptft: us an image", "torchvision", "ptft is faster: min", "median", "max"], rows)


def transform(name: str, side: int, changes: dict[str, Any]) -> Any:
    """One of ptft's transforms for images of a size."""
    from ptft import resolve
    from ptft.choices import config_dir
    from ptft.locate import read_yaml

    def settings(option: str) -> dict[str, Any]:
        found = read_yaml(config_dir() / "transform" / f"{option}.yaml")
        parents = [entry for entry in found.pop("defaults", []) if entry != "_self_"]
        return {key: value for parent in parents for key, value in settings(parent).items()} | found

    facts = {"channels": 3, "image_size": [side, side], "pixel_mean": MEAN, "pixel_std": STD}
    return resolve.resolve("transform", settings(name) | changes, facts)


def peer(name: str, side: int) -> Any:
    """The same in torchvision's words."""
    from torchvision import transforms as tv

    steps = [tv.RandomResizedCrop(side, (0.08, 1)), tv.RandomHorizontalFlip()]
    if "RandAugment" in name:
        steps.append(tv.RandAugment())
    if name == "simclr":
        strength = 0.5 if side <= 32 else 1
        jitter = tv.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        steps += [tv.RandomApply([jitter], 0.8), tv.RandomGrayscale(0.2)]
        steps += [tv.RandomApply([tv.GaussianBlur(side // 10 // 2 * 2 + 1)], 0.5)] if side > 32 else []
    return tv.Compose([*steps, tv.ToTensor(), tv.Normalize(MEAN, STD)])


def timed(call: Callable, *arguments: Any) -> dict[str, float]:
    began = time.perf_counter()
    call(*arguments)
    return {"seconds": time.perf_counter() - began}
