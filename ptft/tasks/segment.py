"""Segmentation: a class for each pixel of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft import metrics
from ptft.canvas import tile
from ptft.nn.decoder import HEADS, IGNORED, resized
from ptft.nn.drawing import overlaid
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

SHOWN_IMAGES = 4


@dataclass
class Collate:
    """Images and their masks under one geometry; examples to predict have none.

    sizes: of each image as it came. masks: in an evaluation, as they came.
    """

    transform: Any

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        images = [example["image"] for example in examples]
        masks = [torch.as_tensor(example["mask"]) for example in examples] if "mask" in examples[0] else None
        values, targets, _ = self.transform.joint(images, draw, masks=masks)
        batch: Batch = {"inputs": {"values": values}, "sizes": [tuple(image.shape[-2:]) for image in images]}
        if masks is None:
            return batch
        return batch | {"target": targets} | ({} if draw.training else {"masks": masks})


class Segment(Objective):
    """A head over the model's feature maps, trained on the cross-entropy of each pixel that is not ignored (255).

    head: fcn, convolutions over the coarsest map, or unet, a decoder that joins all maps and the image. Its scores are
    brought to the size of the image bilinearly. width: channels of fcn, and of unet's finest step. The loss is at
    the size the model sees (transform.size); scores and predictions are at that of each image, as far as dataset.decode_size
    lets it keep its own.
    """

    needs = frozenset({"image", "pyramid"})
    fields = ("image", "mask")
    target = "mask"
    score = "miou"

    def __init__(
        self,
        model: nn.Module,
        transform: Any,
        num_classes: int,
        labels: list[str],
        head: Literal["fcn", "unet"],
        width: int,
        dropout: float,
    ):
        super().__init__(model)
        if transform.randaugment is not None:
            raise ValueError("transform.randaugment turns and shears images, and masks do not follow; leave it out")
        self.transform, self.labels = transform, list(labels)
        self.head = HEADS[head](model.map_dims, transform.channels, width, num_classes, dropout)
        self.collate = Collate(transform)

    def answer(self, inputs: dict[str, Tensor]) -> Tensor:
        """The logits [B, classes, H, W]."""
        values = inputs["values"].clone(memory_format=torch.channels_last)  # in which convolutions of large maps are faster
        return resized(self.head(self.model.maps(values), values).float(), values.shape[-2:])

    def forward(self, batch: Batch) -> Output:
        scores = self.answer(batch["inputs"])
        found = None if self.training else self.classes(scores.detach(), batch["sizes"])
        if "target" not in batch:
            return Output(scores.sum() * 0, scores.new_zeros(()), found)
        target = batch["target"]
        loss = F.cross_entropy(scores, target, ignore_index=IGNORED, reduction="sum")
        return Output(loss, (target != IGNORED).sum(), found, batch.get("masks"))

    def classes(self, scores: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The likeliest class of each pixel at the size of each image [H, W]; scores are resized one by one, to save memory."""
        pairs = zip(scores, sizes, strict=True)
        # max gives the indices several times faster than argmax does
        return [resized(image[None], size).max(1).indices[0].short() for image, size in pairs]

    def metrics(self) -> dict[str, Any]:
        return metrics.segmentation(len(self.labels), IGNORED)

    def predict(self, output: Output, batch: Batch) -> list[dict[str, Any]]:
        """Each class's share of an image, and where it is: COCO's run-length code at the size of the image."""
        return [self.described(classes.cpu().numpy()) for classes in output.prediction]

    def described(self, classes: np.ndarray) -> dict[str, Any]:
        shares = np.bincount(classes.ravel(), minlength=len(self.labels)) / classes.size
        present = [index for index, share in enumerate(shares) if share]
        masks = {self.labels[index]: run_lengths(classes == index) for index in present}
        return {"shares": dict(zip(self.labels, shares.tolist(), strict=True)), "masks": masks}

    def pictures(self, batch: Batch, output: Output) -> dict[str, Tensor]:
        """Images, their true classes and the predicted ones; grey is ignored."""
        images = self.transform.restore(batch["inputs"]["values"][:SHOWN_IMAGES]).cpu()
        truth, size = batch["target"][:SHOWN_IMAGES].cpu(), tuple(images.shape[-2:])
        found = [classes.cpu() for classes in output.prediction[:SHOWN_IMAGES]]
        guess = torch.cat([F.interpolate(classes[None, None].float(), size)[0] for classes in found]).to(truth.dtype)
        rows = [images, overlaid(images, truth, IGNORED), overlaid(images, guess, IGNORED)]
        return {"masks": tile(rows, None, ["image", "true", "predicted"])}


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as COCO's compressed run-length code: {"size": [H, W], "counts": text}."""
    from pycocotools import mask as coco

    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}
