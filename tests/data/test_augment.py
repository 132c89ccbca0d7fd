"""Colour and sharpness against torchvision, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as theirs

from ptft.data import augment, randaugment

LEVELS = 255.0


@pytest.fixture
def images():
    """Colourful images with flat parts, in grey levels: [6, 3, 17, 20]."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(0, 256, (6, 3, 17, 20), generator=generator).float()
    found[1] = 90.0
    found[2, :, 4:9] = torch.tensor([255.0, 0.0, 0.0]).view(3, 1, 1)
    found[3, 1] = found[3, 2]
    return found


def one_by_one(change, images, *numbers):
    """What torchvision makes of each image in 0..1, in grey levels."""
    return LEVELS * torch.stack([change(image / LEVELS, *of_it) for image, *of_it in zip(images, *numbers, strict=True)])


def assert_close(ours, expected, tolerance):
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (augment.brightness, theirs.adjust_brightness),
        (augment.contrast, theirs.adjust_contrast),
        (augment.saturation, theirs.adjust_saturation),
    ],
)
def test_brightness_contrast_and_saturation_equal_torchvisions(images, ours, expected):
    factors = np.array([0.2, 1.8, 0.5, 1.0, 1.3, 0.0])
    # torchvision weighs red with .2989 so that white is not quite white in gray
    assert_close(ours(images.clone(), factors), one_by_one(expected, images, factors), 0.05)


def test_hue_equals_torchvisions(images):
    turns = np.array([-0.5, -0.2, 0.1, 0.0, 0.33, 0.5])
    assert_close(augment.hue(images.clone(), turns), one_by_one(theirs.adjust_hue, images, turns), 0.02)


def test_hue_turned_by_a_third_exchanges_the_channels(images):
    turned = augment.hue(images.clone(), np.full(6, 1 / 3))
    assert_close(turned, images[:, [2, 0, 1]], 1e-3)


def test_gray_and_solarised_images_equal_torchvisions(images):
    assert_close(augment.grayscale(images), theirs.rgb_to_grayscale(images / LEVELS, 3) * LEVELS, 0.05)
    expected = theirs.solarize(images.byte(), 128).float()
    assert torch.equal(augment.solarize(images), expected)


@pytest.mark.parametrize("width", [3, 7, 9])
def test_blur_equals_torchvisions(images, width):
    sigmas = np.array([0.1, 0.5, 1.0, 1.7, 2.0, 0.8])
    expected = one_by_one(lambda image, sigma: theirs.gaussian_blur(image, width, [sigma, sigma]), images, sigmas)
    assert_close(augment.blur(images, sigmas, width), expected, 0.35)
    assert torch.equal(augment.blur(images, sigmas, width)[1], images[1]), "a plain image stays as it is"


def test_jitter_goes_through_the_four_changes_in_the_order_of_each_image(images):
    order = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [0, 2, 1, 3], [3, 0, 1, 2]])
    factors = np.array([[1.3, 0.6, 1.5, 0.1]] * 6)
    chosen = np.array([True, True, True, True, False, True])
    changes = [theirs.adjust_brightness, theirs.adjust_contrast, theirs.adjust_saturation, theirs.adjust_hue]
    expected = images / LEVELS
    for row in np.flatnonzero(chosen):
        for index in order[row]:
            expected[row] = changes[index](expected[row], factors[row, index])
    ours = augment.jitter(images.clone(), chosen, order, factors, (1, 1, 1, 1))
    assert_close(ours, expected * LEVELS, 0.1)
    assert torch.equal(ours[4], images[4])


def test_of_gray_images_only_brightness_and_contrast_change(images):
    gray = images[:, :1]
    order, factors = np.tile(np.arange(4), (6, 1)), np.tile([1.0, 1.0, 0.2, 0.4], (6, 1))
    assert torch.equal(augment.jitter(gray.clone(), np.ones(6, bool), order, factors, (1, 1, 1, 1)), gray)
    assert torch.equal(augment.grayscale(gray), gray)
    darker = augment.contrast(gray.clone(), np.full(6, 0.5))
    assert_close(darker, one_by_one(theirs.adjust_contrast, gray, np.full(6, 0.5)), 0.01)


def test_erasing_sets_one_rectangle_of_the_right_share_to_zero(draw):
    values = torch.ones(200, 3, 32, 24)
    numbers = draw(200).uniform("erased", (10, 4))
    chosen = draw(200).uniform("erase") < 0.5
    erased = augment.erase(values, chosen, numbers)[:, 0] == 0
    assert not erased[torch.from_numpy(~chosen)].any()
    for hole in erased[torch.from_numpy(chosen)]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        assert hole.sum() == len(rows) * len(columns) == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.01 < hole.float().mean() < 0.35
        assert 0.25 < len(rows) / len(columns) < 4


def apply(name: str, images: torch.Tensor, magnitude: float, sign: int) -> torch.Tensor:
    """One change of torchvision's RandAugment at a magnitude, on uint8 images."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import RandAugment

    space = RandAugment._AUGMENTATION_SPACE
    amounts, signed = space[name]
    magnitudes = amounts(31, *images.shape[2:])
    amount = 0.0 if magnitudes is None else float(magnitudes[int(magnitude)]) * (sign if signed else 1)
    change = RandAugment()._apply_image_or_video_transform
    return change(images.byte(), name, amount, interpolation=InterpolationMode.NEAREST, fill={}).float()


NAMES = [
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [9, 30])
@pytest.mark.parametrize("name", NAMES)
def test_each_change_of_randaugment_equals_torchvisions(images, name, magnitude, sign):
    change = randaugment.CHANGES[NAMES.index(name)]
    ours = change(images.clone(), np.full(6, sign * magnitude / 30))
    differs = (ours - apply(name, images, magnitude, sign)).abs() > 2  # theirs cuts gray, and the result, to whole levels
    # pixels that lie between two others may take either
    assert differs.float().mean() < (0.02 if name in NAMES[1:6] else 1e-6)


def test_randaugment_changes_each_image_twice_at_random(images, draw):
    batch = images[:1].expand(300, -1, -1, -1)
    changed = randaugment.randaugment(batch.clone(), 9, draw(300), "view 0")
    same = (changed == batch).flatten(1).all(1).float().mean()
    assert 0 < same < 0.05, "identity twice, or the same shift to and fro"
    assert len(torch.unique(changed.flatten(1), dim=0)) > 100
    again = randaugment.randaugment(batch[7:9].clone(), 9, type(draw(1))(0, np.zeros(2, int), np.array([7, 8])), "view 0")
    assert torch.equal(again, changed[7:9])
