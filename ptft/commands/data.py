"""`ptft data preview dataset=NAME transform=NAME`: a picture of what a model will see of images, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptft import resolve
from ptft.canvas import tile, write_png
from ptft.errors import MachineError, UserError, did_you_mean
from ptft.lettering import legible
from ptft.logs import Console
from ptft.nn.drawing import outlined, overlaid
from ptft.objective import Example
from ptft.randomness import Draw

ACTIONS = ("preview",)
MARKS = ("mask", "boxes")  # kinds of labels that are drawn over images
PAPER = 0.94  # around images that do not fill their cell
IGNORED = 255  # pixels of a mask without a class


def main(config: dict[str, Any]) -> None:
    """Draw images of the training split into `output`, and say what there is. Raises UserError, DataError."""
    if config["action"] not in ACTIONS:
        raise UserError(f"action={config['action']}: there is no such action{did_you_mean(config['action'], ACTIONS)}")
    trusted = config["trusted_modules"]
    kind = resolve.find("dataset", config["dataset"], trusted)
    if kind.modality != "image":
        raise UserError(f"dataset {kind.__name__} holds {kind.modality}, and data preview draws images")
    if config["transform"] is None:
        raise UserError("transform must be given: transform=NAME")
    console = Console(0)
    dataset = resolve.resolve("dataset", config["dataset"], {"inputs": None}, trusted)
    marks = [target for target in kind.targets if target in MARKS]
    dataset.prepare(target=marks[0] if marks else None, report=console.progress)
    transform = resolve.resolve("transform", config["transform"], dataset.facts, trusted)
    rows = dataset.rows("train")
    examples = [rows[row] for row in spread(len(rows), config["rows"], config["seed"])]
    labels = dataset.facts.get("labels") or []
    written = _write(config["output"], preview(examples, transform, config["seed"], labels))
    for note in dataset.notes:
        console.note(note)
    counts = {split: len(found) for split in ("train", "valid", "test") if (found := dataset.rows(split)) is not None}
    shape = [transform.channels, *transform.size]
    classes = {"classes": labels} if labels else {}
    console.summary({"images": counts, "channels, height, width": shape, **classes, "drawn": written})


def spread(total: int, count: int, seed: int) -> list[int]:
    """So many rows, one from each of as many equal parts of a split: folders come class by class, arrays may in turns."""
    edges = np.arange(min(count, total) + 1) * total // min(count, total)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()


def _write(name: str, picture: Tensor) -> Path:
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        return write_png(name, picture)
    except OSError as error:
        raise MachineError(f"output={name}: {error.strerror}") from None


def preview(examples: list[Example], transform: Any, seed: int, labels: list[str]) -> Tensor:
    """Rows of images, uint8 [3, H, W]: as they are, as evaluations see them, and each view changed at random.

    The views are those of a run's first epoch with this seed. Where there are masks or boxes, they are drawn.
    """
    labels, _ = legible(labels)
    images = [example["image"] for example in examples]
    numbers = np.array([example["row"] for example in examples])
    draw = Draw(seed, np.zeros_like(numbers), numbers, training=True)
    shown = {"original": torch.stack([fitted(image, transform.size) for image in images])}
    if "mask" in examples[0] or "boxes" in examples[0]:
        shown["evaluation"] = marked(examples, transform, Draw(seed, draw.epoch, draw.row), labels)
        shown["training"] = marked(examples, transform, draw, labels)
    else:
        shown["evaluation"] = transform.restore(transform.plain(images))
        shown |= {f"view {number}": transform.restore(view) for number, view in enumerate(transform.views(images, draw), 1)}
    captions = [[caption(example, labels) for example in examples], *([[]] * (len(shown) - 1))]
    return tile(list(shown.values()), captions if any(captions[0]) else None, list(shown))


def fitted(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A whole image [C, H, W] in a cell of so many pixels, float in 0..1."""
    shrink = min(room / length for room, length in zip(size, image.shape[1:], strict=True))
    height, width = (max(1, round(length * shrink)) for length in image.shape[1:])
    small = F.interpolate(image[None].float(), size=(height, width), mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return F.pad(small / 255, (left, size[1] - width - left, top, size[0] - height - top), value=PAPER)


def marked(examples: list[Example], transform: Any, draw: Draw, labels: list[str]) -> Tensor:
    """Images under one transformation with their masks or boxes: float [N, 3, H, W] in 0..1."""
    images = [example["image"] for example in examples]
    if "mask" in examples[0]:
        values, masks, _ = transform.joint(images, draw, masks=[torch.as_tensor(example["mask"]) for example in examples])
        return overlaid(transform.restore(values), masks, IGNORED)
    values, _, boxes = transform.joint(images, draw, boxes=[torch.as_tensor(example["boxes"]) for example in examples])
    drawn = []
    for image, found, example in zip(transform.restore(values), boxes, examples, strict=True):
        kept = [(box, int(label)) for box, label in zip(found.tolist(), example["classes"], strict=True) if visible(box)]
        classes = [label for _, label in kept]
        drawn.append(outlined(image, [box for box, _ in kept], classes, [name(label, labels) for label in classes]))
    return torch.stack(drawn)


def visible(box: list[float]) -> bool:
    """Whether anything of a box is left within the image."""
    x1, y1, x2, y2 = box
    return x2 - x1 >= 1 and y2 - y1 >= 1


def caption(example: Example, labels: list[str]) -> str:
    """The label of an example in words."""
    label = example.get("label")
    if label is None:
        return ""
    if np.ndim(label):
        return ", ".join(name(index, labels) for index in np.flatnonzero(label))
    return name(label, labels) if isinstance(label, (int, np.integer)) else f"{label:.4g}"


def name(label: int, labels: list[str]) -> str:
    """A class in words, or its number where it has no name."""
    return labels[label] if label < len(labels) else str(label)
