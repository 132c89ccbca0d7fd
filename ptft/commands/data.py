"""`ptft data preview dataset=NAME`: what a model will see, without any training: images as a picture, other data as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ptft import build, misfits, resolve
from ptft.canvas import tile, write_png
from ptft.choices import config_dir
from ptft.errors import MachineError, UserError, did_you_mean
from ptft.lettering import legible
from ptft.logs import Console
from ptft.nn.drawing import outlined, overlaid
from ptft.objective import Example
from ptft.outputs import check_apart
from ptft.preview import lines
from ptft.randomness import Draw
from ptft.settings import settings_of
from ptft.terminal import Terminal

ACTIONS = ("preview",)
# what a table is shown for, by what its target columns hold, and other data but images by its targets, unless one is given
OF_TABLES = {"class": "task/classify", "number": "task/regress", "classes": "task/multilabel", None: "objective/reconstruct"}
FIRST_CHOICE = {"tags": "task/tag", "class": "task/classify", "text": "task/generate", None: "objective/mlm"}
MARKS = ("mask", "boxes")  # kinds of labels that are drawn over images
PAPER = 0.94  # around images that do not fill their cell
IGNORED = 255  # pixels of a mask without a class


def main(config: dict[str, Any]) -> None:
    """Show examples of the training split, in `output` too, and say what there is. Raises UserError, DataError."""
    if config["action"] not in ACTIONS:
        raise UserError(f"action={config['action']}: there is no such action{did_you_mean(config['action'], ACTIONS)}")
    kind = resolve.find("dataset", config["dataset"], config["trusted_modules"])
    if config["objective"]:
        misfits.check_reads(resolve.find("objective", config["objective"], config["trusted_modules"]), kind)
    images = kind.modality == "image"
    output = Path(config["output"]) if images else Path(config["output"]).with_suffix(".txt")
    check_apart(output, **{f"dataset.{name}": value for name, value in config["dataset"].items()})
    show = draw_images if images else show_batch
    show({**config, "output": output}, kind)


def draw_images(config: dict[str, Any], kind: type) -> None:
    """Draw images from all over the split, as they are and as a transform changes them."""
    trusted = config["trusted_modules"]
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
    counts = {split: len(found) for split in ("train", "valid", "test") if (found := dataset.rows(split)) is not None}
    shape = [transform.channels, *transform.size]
    classes = {"classes": labels} if labels else {}
    _tell(console, dataset, {"images": counts, "channels, height, width": shape, **classes, "drawn": written})


def show_batch(config: dict[str, Any], kind: type) -> None:
    """Print the first rows of the batches that a run with this seed learns from."""
    console, terminal = Console(0), Terminal()
    stage = build.stage(_trainable(config, kind), report=console.progress)
    count = min(config["rows"], len(stage.objective.view(stage.dataset.rows("train"))))
    batch = next(stage.loader("train", count).batches(0))
    if not isinstance(batch.get("inputs"), dict) or not batch["inputs"].keys() & {"tokens", "values"}:
        raise UserError(f"objective {type(stage.objective).__name__} learns from no rows of text or of a table; choose another")
    shown = list(lines(batch, stage.tokenizer, stage.dataset, stage.dataset.facts.get("labels") or []))
    for line in shown:
        terminal.line(line)
    counts = {split: len(found) for split in ("train", "valid", "test") if (found := stage.dataset.rows(split)) is not None}
    written = _kept(config["output"], shown)
    _tell(console, stage.dataset, {"rows": counts, "objective": type(stage.objective).__name__, "written": written})


def _tell(console: Console, dataset: Any, found: dict[str, Any]) -> None:
    """What was found, and then what is to be known of the data."""
    console.summary(found)
    for note in dataset.notes:
        console.note(note)


def _trainable(config: dict[str, Any], kind: type) -> dict[str, Any]:
    """The configuration with what shows most of such data, where no objective or model was chosen."""
    objective = config["objective"] or _first_choice(config, kind)
    needs = resolve.find("objective", objective, config["trusted_modules"]).needs
    model = config["model"]
    if model is None:
        better = [name for trait, name in misfits.BETTER.items() if trait in needs]
        of_tables = "autoencoder" if "decodes" in needs else "mlp"
        name = of_tables if kind.modality == "table" else better[-1].split()[-1] if better else "transformer"
        model = settings_of(config_dir() / "model" / f"{name}.yaml")
    parts = {"model": model, "objective": objective, "tokenizer": config["tokenizer"] if kind.modality == "text" else None}
    parts = {part: node and {name: value for name, value in node.items() if name != "defaults"} for part, node in parts.items()}
    return {**config, **parts, "ckpt": None, "device": "cpu", "trainer": {}}


def _first_choice(config: dict[str, Any], kind: type) -> dict[str, Any]:
    """The settings of the objective for the richest target of a dataset, or for what a table's own target is."""
    if kind.modality == "table":
        target = kind.targets[0]
        if target is None:
            table = resolve.resolve("dataset", config["dataset"], {"inputs": None}, config["trusted_modules"])
            table.prepare()
            target = table.describe().get("target")
        return settings_of(config_dir() / f"{OF_TABLES[target]}.yaml")
    for target, name in FIRST_CHOICE.items():
        if target in kind.targets and (target is not None or kind.modality == "text"):
            return settings_of(config_dir() / f"{name}.yaml")
    raise UserError(f"dataset {kind.__name__} is for questions about trained models: there is nothing to learn from it")


def _kept(path: Path, shown: list[str]) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in shown), encoding="utf-8")
    except OSError as error:
        raise MachineError(f"output={path}: {error.strerror}") from None
    return path


def spread(total: int, count: int, seed: int) -> list[int]:
    """So many rows, one from each of as many equal parts of a split: folders come class by class, arrays may in turns."""
    edges = np.arange(min(count, total) + 1) * total // min(count, total)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:]).tolist()


def _write(path: Path, picture: Tensor) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_png(path, picture)
    except OSError as error:
        raise MachineError(f"output={path}: {error.strerror}") from None


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
