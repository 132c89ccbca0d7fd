"""Detection: a box and a label for each thing in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptft import metrics
from ptft.canvas import tile
from ptft.errors import UserError
from ptft.nn.detection import Boxes, Detector, Positions
from ptft.nn.drawing import outlined
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

SMALLEST = 2.0  # pixels: of a box cut to less than this there is nothing to learn
SHOWN_IMAGES = 4
SHOWN_SCORE = 0.3


@dataclass
class Collate:
    """Images and their boxes under one geometry.

    boxes [N, 4] and classes [N] are those of all images, `image` [N] says whose; there are none in examples to predict.
    sizes: height and width of each image in its file. truth: in an evaluation, what is to be found there.
    """

    transform: Any

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        images = [example["image"] for example in examples]
        sizes = [example.get("own_size", tuple(example["image"].shape[-2:])) for example in examples]
        given = [torch.as_tensor(example["boxes"]) for example in examples] if "boxes" in examples[0] else None
        values, _, cut = self.transform.joint(images, draw, boxes=given)
        batch: Batch = {"inputs": {"values": values}, "sizes": sizes}
        if given is None:
            return batch
        classes = torch.cat([torch.as_tensor(example["classes"]) for example in examples])
        image = torch.arange(len(examples)).repeat_interleave(torch.tensor([len(boxes) for boxes in cut]))
        boxes = torch.cat(cut)
        sides = (boxes[:, 2:] - boxes[:, :2]).amin(1)
        kept = sides >= SMALLEST if draw.training else sides > 0
        batch |= {"boxes": boxes[kept], "classes": classes[kept], "image": image[kept]}
        return batch if draw.training else batch | {"truth": [example["truth"] for example in examples]}


class Detect(Objective):
    """FCOS (1904.01355) on a feature pyramid over the model's maps: each position of each level says what box it is in.

    The losses are means over a batch's positions inside boxes, counted once for each image; with trainer.accumulate they
    are means over micro-batches. width: channels of the pyramid. convolutions: in each of the two towers of the head.
    finest: pixels a side that a position of the finest level stands for, None: 4 for images up to 128 pixels, else 8.
    score_threshold: boxes below it are not given. nms_threshold: of two boxes of a class that overlap more than this,
    the better one stays. max_boxes: the most an image gets. Scores and predictions are in the pixels of each image's file.
    """

    needs = frozenset({"image", "pyramid"})
    fields = ("image", "boxes", "classes", "truth", "own_size")
    target = "boxes"
    score = "map"

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        num_classes: int,
        labels: list[str],
        width: int,
        convolutions: int,
        finest: int | None,
        score_threshold: float,
        nms_threshold: float,
        max_boxes: int,
    ):
        super().__init__(model)
        if transform.randaugment is not None:
            raise ValueError("transform.randaugment turns and shears images, and boxes do not follow; leave it out")
        self.transform, self.labels = transform, list(labels)
        dims, strides, size = model.map_dims, model.map_strides, transform.size
        kept = (score_threshold, nms_threshold, max_boxes)
        self.head = Detector(dims, strides, size, num_classes, width, convolutions, finest, *kept)
        self.collate = Collate(transform)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        raise UserError("detection answers with lists of boxes, and an exported graph with one tensor: use format=safetensors")

    def forward(self, batch: Batch) -> Output:
        values = batch["inputs"]["values"]
        padded = self.head.padded(values)
        said = self.head(self.model.maps(padded))
        found = None if self.training else self.found(said, padded, batch)
        if "boxes" not in batch:
            return Output(sum(output.sum() for output in said.outputs.values()) * 0, values.new_zeros(()), found)
        losses = self.head.losses(said, padded, self.targets(batch, len(values)))
        count = values.new_tensor(len(values))
        means = {f"loss_{name}": (loss.detach() * count, count) for name, loss in losses.items()}
        truth = [{name: torch.from_numpy(each) for name, each in image.items()} for image in batch.get("truth", ())]
        return Output(sum(losses.values()) * count, count, found, truth, means)

    def found(self, said: Positions, padded: Tensor, batch: Batch) -> list[Boxes]:
        """The boxes found in each image in its own pixels, best first; on the CPU, where these are double as the true ones."""
        height, width = batch["inputs"]["values"].shape[-2:]
        answers = []
        for image, (own_height, own_width) in zip(self.head.boxes(said, padded, (height, width)), batch["sizes"], strict=True):
            image = {name: values.cpu() for name, values in image.items()}
            scale = torch.tensor([own_width / width, own_height / height] * 2)
            answers.append(image | {"boxes": (image["boxes"] * scale).double()})
        return answers

    def targets(self, batch: Batch, images: int) -> list[Boxes]:
        """What is to be learned of each image."""
        own = [batch["image"] == index for index in range(images)]
        return [{"boxes": batch["boxes"][rows], "labels": batch["classes"][rows]} for rows in own]

    def metrics(self) -> dict[str, Any]:
        return metrics.detection(len(self.labels))

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """The boxes of each image in its own pixels, best first, with label and score."""
        told = [{name: values.tolist() for name, values in found.items()} for found in output.prediction]
        return [found | {"labels": [self.labels[label] for label in found["labels"]]} for found in told]

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """True boxes above found ones, these with their scores."""
        images = self.transform.restore(batch["inputs"]["values"][:SHOWN_IMAGES]).cpu()
        rows = [
            torch.stack([self.drawn(*shown) for shown in zip(images, boxes, batch["sizes"], strict=False)])
            for boxes in (output.target, output.prediction)
        ]
        return {"boxes": tile(rows, None, ["true", "found"])}

    def drawn(self, image: Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
        """An image, in its file of `size`, with named boxes, as far as they are more than guesses."""
        scores = boxes.get("scores", torch.ones(len(boxes["labels"]))).tolist()
        scale = torch.tensor([image.shape[2] / size[1], image.shape[1] / size[0]] * 2)
        rows = zip((boxes["boxes"] * scale).tolist(), boxes["labels"].tolist(), scores, strict=True)
        good = [row for row in rows if row[2] >= SHOWN_SCORE]
        names = [self.labels[label] + (f" {score:.2f}" if "scores" in boxes else "") for _, label, score in good]
        return outlined(image, [box for box, _, _ in good], [label for _, label, _ in good], names)
