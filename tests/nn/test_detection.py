"""A feature pyramid with torchvision's head, against torchvision's whole detector."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection.fcos import FCOS

from ptft.nn.detection import Detector

DIMS, STRIDES = [6, 8, 10], [2, 4, 8]


class Backbone(nn.Module):
    """Average pools of an image, repeated to some channels."""

    def maps(self, values: torch.Tensor) -> list[torch.Tensor]:
        pooled = [nn.functional.avg_pool2d(values, stride) for stride in STRIDES]
        return [level[:, :1].repeat(1, dim, 1, 1) for level, dim in zip(pooled, DIMS, strict=True)]


class WithPyramid(nn.Module):
    """What torchvision takes for a backbone."""

    def __init__(self, detector: Detector, width: int):
        super().__init__()
        self.detector, self.out_channels = detector, width

    def forward(self, values: torch.Tensor) -> OrderedDict:
        levels = Backbone().maps(values)[self.detector.first :]
        return self.detector.pyramid({str(index): level for index, level in enumerate(levels)})


@pytest.fixture
def make_detector():
    def make(size=(64, 64), strides=STRIDES, threshold=0.05, finest=None):
        torch.manual_seed(0)
        detector = Detector(DIMS[: len(strides)], strides, size, 3, 32, 1, finest, threshold, 0.6, 20).eval()
        nn.init.normal_(detector.fcos.head.regression_head.bbox_reg.weight, std=0.5)
        nn.init.normal_(detector.fcos.head.classification_head.cls_logits.weight, std=0.5)
        return detector

    return make


def boxes(*rows) -> dict[str, torch.Tensor]:
    found = torch.tensor(rows).float().view(-1, 5)
    return {"boxes": found[:, :4], "labels": found[:, 4].long()}


TARGETS = [boxes((4, 6, 30, 40, 0), (20, 20, 26, 25, 2)), boxes((0, 0, 60, 47, 1))]


def reference(detector: Detector, height: int, width: int) -> FCOS:
    """torchvision's detector with the same weights, which only pads, as it would images of unequal size."""
    plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "size_divisible": detector.coarsest}
    whole = FCOS(
        WithPyramid(detector, 32),
        3,
        min_size=min(height, width),
        max_size=max(height, width),
        anchor_generator=detector.fcos.anchor_generator,
        head=detector.fcos.head,
        score_thresh=0.05,
        nms_thresh=0.6,
        detections_per_img=20,
        **plain,
    )
    return whole.eval()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (50, 61)])
def test_losses_and_boxes_are_those_of_torchvisions_whole_detector(height, width, make_detector):
    detector = make_detector((height, width))
    values = torch.randn(2, 3, height, width)
    padded = detector.padded(values)
    said = detector(Backbone().maps(padded))
    whole = reference(detector, height, width)
    found, expected = detector.boxes(said, padded, (height, width)), whole(list(values))
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours["scores"]) > 0
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(ours[name], detector.real(theirs)[name])
    losses = detector.losses(said, padded, TARGETS)
    expected = whole.train()(list(values), TARGETS)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def test_images_without_boxes_give_finite_losses(make_detector):
    detector, values = make_detector(), torch.randn(2, 3, 64, 64)
    said = detector(Backbone().maps(values))
    losses = detector.losses(said, values, [boxes(), boxes()])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["bbox_regression"] == 0


def test_the_pyramid_begins_and_ends_as_suits_the_image(make_detector):
    assert make_detector((64, 64)).fcos.anchor_generator.sizes == ((4,), (8,), (16,), (32,))
    assert make_detector((16, 16)).fcos.anchor_generator.sizes == ((4,), (8,))
    assert make_detector((512, 640)).fcos.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert make_detector((512, 640), finest=4).fcos.anchor_generator.sizes == ((4,), (8,), (16,), (32,), (64,))
    assert make_detector((32, 32), strides=[1, 2]).fcos.anchor_generator.sizes == ((2,), (4,), (8,), (16,))


def test_maps_that_do_not_get_coarser_are_refused(make_detector):
    with pytest.raises(ValueError, match=r"strides of this model are \[4, 4, 8\]"):
        make_detector(strides=[4, 4, 8])


def test_boxes_are_found_inside_the_image_only(make_detector):
    detector, values = make_detector((50, 61), threshold=0.0), torch.randn(1, 3, 50, 61)
    padded = detector.padded(values)
    (found,) = detector.boxes(detector(Backbone().maps(padded)), padded, (50, 61))
    left, top, right, bottom = found["boxes"].T
    assert (left >= 0).all() and (top >= 0).all() and (right <= 61).all() and (bottom <= 50).all()
    assert (right > left).all() and (bottom > top).all()
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
