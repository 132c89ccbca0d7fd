"""From feature maps to classes of pixels."""

import pytest
import torch

from ptft.nn.decoder import HEADS, convolution, resized

SIZES = {"divisible": [(16, 16), (8, 8), (4, 4)], "odd": [(15, 21), (8, 11), (4, 6)], "as large": [(5, 5)] * 3}


def maps(sizes) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, dim, *size, requires_grad=True) for dim, size in zip((4, 6, 10), sizes, strict=True)]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
def test_unet_scores_are_as_large_as_the_image_and_hear_it_and_every_map(sizes):
    given, images = maps(sizes), torch.randn(2, 1, 31, 42, requires_grad=True)
    scores = HEADS["unet"]([4, 6, 10], 1, 8, 3, 0.0)(given, images)
    assert scores.shape == (2, 3, 31, 42)
    scores[0, 0, 2, 2].backward()
    assert all(level.grad[0].abs().sum() > 0 for level in [*given, images])
    assert all(level.grad[1].abs().sum() == 0 for level in [*given, images])  # no image looks at another


def test_fcn_reads_the_coarsest_map_only():
    given = maps(SIZES["odd"])
    scores = HEADS["fcn"]([4, 6, 10], 1, 8, 3, 0.0)(given, torch.randn(2, 1, 31, 42))
    assert scores.shape == (2, 3, 4, 6)
    scores.sum().backward()
    assert [level.grad is not None for level in given] == [False, False, True]


def test_resizing_is_bilinear_between_the_centres_of_pixels():
    grey = torch.tensor([[[[0.0, 4.0]]]])
    assert resized(grey, (1, 4)).flatten().tolist() == [0, 1, 3, 4]
    assert resized(grey, (1, 2)) is grey


@pytest.mark.parametrize("outputs", [1, 3, 8, 12])
def test_any_width_can_be_normalised(outputs):
    assert convolution(3, outputs)(torch.randn(1, 3, 4, 4)).shape == (1, outputs, 4, 4)
