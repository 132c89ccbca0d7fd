"""Boxes from a backbone's feature maps: a feature pyramid and torchvision's FCOS head (1612.03144, 1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

Boxes = dict[str, Tensor]  # boxes [n, 4] as x1, y1, x2, y2 in pixels, labels [n], scores [n] where they are found ones
SMALL = 128  # pixels a side up to which a position of the finest level stands for 4 x 4 pixels, else for 8 x 8
LEVELS = 5
GROUPS = 32  # of channels that FCOS normalises together


class Halvings(ExtraFPNBlock):
    """Coarser maps below the last one, each by a convolution with stride 2."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.steps = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(count))

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        for step in self.steps:
            results.append(step(results[-1].relu()))
            names.append(f"extra{len(names)}")
        return results, names


@dataclass
class Positions:
    """What a head says of every position of every level, and the levels [B, width, h, w]."""

    outputs: dict[str, Tensor]
    levels: list[Tensor]

    @property
    def counts(self) -> list[int]:
        """Positions of each level."""
        return [level.shape[-2] * level.shape[-1] for level in self.levels]


class NoBackbone(nn.Module):
    """FCOS asks for a backbone; ours is the model, which lives outside the head."""

    def __init__(self, out_channels: int):
        super().__init__()
        self.out_channels = out_channels


class Detector(nn.Module):
    """Feature maps -> losses and boxes.

    dims, strides: of the backbone's maps, fine to coarse. The pyramid starts at stride `finest`, None: by the size of the
    images, and goes on below the last map to five levels, as long as maps of images of `size` have more than a few
    positions. Level by level, FCOS looks for boxes that reach 4 to 8 strides from a position, the first for smaller ones
    as well and the last for larger ones. width: channels of the pyramid. max_boxes: the most an image gets.
    """

    def __init__(
        self,
        dims: Sequence[int],
        strides: Sequence[int],
        size: Sequence[int],
        num_classes: int,
        width: int,
        convolutions: int,
        finest: int | None,
        score_threshold: float,
        nms_threshold: float,
        max_boxes: int,
    ):
        super().__init__()
        if any(coarse <= fine for fine, coarse in pairwise(strides)):
            raise ValueError(f"a pyramid needs maps that get coarser; the strides of this model are {list(strides)}")
        if width % GROUPS:
            raise ValueError(f"width={width}: expected a multiple of {GROUPS}")
        finest = finest or (4 if max(size) <= SMALL else 8)
        self.first = next((index for index, stride in enumerate(strides) if stride >= finest), len(strides) - 1)
        used = list(strides[self.first :])
        while len(used) < LEVELS and used[-1] * 4 <= max(size):
            used.append(used[-1] * 2)
        self.coarsest = used[-1]
        more = Halvings(width, len(used) - len(strides) + self.first)
        self.pyramid = FeaturePyramidNetwork(list(dims[self.first :]), width, more if more.steps else None)
        self.fcos = FCOS(
            NoBackbone(width),
            num_classes,
            anchor_generator=AnchorGenerator(tuple((stride,) for stride in used), ((1.0,),) * len(used)),
            head=FCOSHead(width, 1, num_classes, convolutions),
            score_thresh=score_threshold,
            nms_thresh=nms_threshold,
            detections_per_img=max_boxes,
        )

    def padded(self, values: Tensor) -> Tensor:
        """Images [B, C, h, w] with nothing added at the right and below, so that every map has whole positions."""
        height, width = (-side % self.coarsest for side in values.shape[-2:])
        return F.pad(values, (0, width, 0, height))

    def forward(self, maps: Sequence[Tensor]) -> Positions:
        """What the head says of each position; maps: of padded images."""
        used = {str(index): level for index, level in enumerate(maps[self.first :])}
        levels = [level.float() for level in self.pyramid(used).values()]
        return Positions({name: output.float() for name, output in self.fcos.head(levels).items()}, levels)

    def anchors(self, said: Positions, padded: Tensor) -> list[Tensor]:
        """The positions themselves, as boxes of one stride, for each image."""
        sizes = [tuple(padded.shape[-2:])] * len(padded)
        return self.fcos.anchor_generator(ImageList(padded, sizes), said.levels)

    def losses(self, said: Positions, padded: Tensor, targets: list[Boxes]) -> dict[str, Tensor]:
        """Focal, GIoU and centreness losses by name, each divided by the number of positions inside boxes."""
        return self.fcos.compute_loss(targets, said.outputs, self.anchors(said, padded), said.counts)

    @torch.no_grad()
    def boxes(self, said: Positions, padded: Tensor, size: Sequence[int]) -> list[Boxes]:
        """The boxes found in each image, best first, inside `size` (height, width)."""
        by_level = {name: list(output.split(said.counts, dim=1)) for name, output in said.outputs.items()}
        anchors = [list(image.split(said.counts)) for image in self.anchors(said, padded)]
        found = self.fcos.postprocess_detections(by_level, anchors, [tuple(size)] * len(padded))
        return [self.real(image) for image in found]

    def real(self, found: Boxes) -> Boxes:
        """Without boxes of which the border of the image leaves nothing."""
        kept = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)
        return {name: values[kept] for name, values in found.items()}
