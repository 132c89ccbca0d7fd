"""What comes out of transforms: the views each stack promises, and the same ones whoever makes them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as theirs

from ptft import resolve
from ptft.choices import config_dir
from ptft.data.resample import random_windows, resample
from ptft.data.transforms import Views
from ptft.errors import UserError
from ptft.locate import read_yaml
from ptft.randomness import Draw

MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
FACTS = {"channels": 3, "image_size": [32, 32], "pixel_mean": MEAN, "pixel_std": STD}
STACKS = sorted(path.stem for path in (config_dir() / "transform").glob("*.yaml"))
# one line of the table of stacks each: views, scale, interpolation, flip, jitter, gray, blur and solarisation by view
PUBLISHED = {
    "train": (1, (0.08, 1), "bilinear", 0.5, (0, 0, 0, 0), 0, [0], [0]),
    "simclr": (2, (0.08, 1), "bilinear", 0.5, (0.8, 0.8, 0.8, 0.2), 0.2, [0.5], [0]),
    "moco": (2, (0.2, 1), "bilinear", 0.5, (0.4, 0.4, 0.4, 0.1), 0.2, [0.5], [0]),
    "byol": (2, (0.08, 1), "bicubic", 0.5, (0.4, 0.4, 0.2, 0.1), 0.2, [1, 0.1], [0, 0.2]),
    "barlow": (2, (0.08, 1), "bicubic", 0.5, (0.4, 0.4, 0.2, 0.1), 0.2, [1, 0.1], [0, 0.2]),
    "vicreg": (2, (0.08, 1), "bilinear", 0.5, (0.4, 0.4, 0.2, 0.1), 0.2, [0.5], [0.1]),
    "dino": (2, (0.4, 1), "bicubic", 0.5, (0.4, 0.4, 0.2, 0.1), 0.2, [1, 0.1, 0.5], [0, 0.2, 0]),
    "mae": (1, (0.2, 1), "bicubic", 0.5, (0, 0, 0, 0), 0, [0], [0]),
    "eval": (1, (1, 1), "bilinear", 0, (0, 0, 0, 0), 0, [0], [0]),
    "none": (1, (1, 1), "bilinear", 0, (0, 0, 0, 0), 0, [0], [0]),
}


def settings(name: str) -> dict:
    found = read_yaml(config_dir() / "transform" / f"{name}.yaml")
    parents = [entry for entry in found.pop("defaults", []) if entry != "_self_"]
    return {key: value for parent in parents for key, value in settings(parent).items()} | found


def make(stack: str, **changes) -> Views:
    """A stack as its YAML file has it, with settings and facts changed by name."""
    facts = FACTS | {name: changes.pop(name) for name in FACTS if name in changes}
    return resolve.resolve("transform", settings(stack) | changes, facts)


def pictures(count: int, height: int, width: int, channels: int = 3, seed: int = 0) -> list[torch.Tensor]:
    """Smooth images with some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.rand(count, channels, height, width, generator=generator)
    return list(((0.8 * smooth + 0.2 * noise) * 255).byte())


def drawn(rows, training: bool = True, epoch: int = 3) -> Draw:
    rows = np.asarray(rows)
    return Draw(7, np.full(len(rows), epoch), rows, training)


@pytest.mark.parametrize("stack", PUBLISHED)
def test_every_stack_has_the_published_parameters(stack):
    views, scale, interpolation, flip, jitter, gray, blur, solarize = PUBLISHED[stack]
    made = make(stack, image_size=[224, 224])
    assert (made.count, made.scale, made.interpolation, made.flip, made.gray) == (views, scale, interpolation, flip, gray)
    assert made.jitter == pytest.approx(jitter)
    assert (made.blur, made.solarize) == (blur, solarize)
    assert (made.ratio, made.jitter_prob, made.blur_sigma) == ((3 / 4, 4 / 3), 0.8, (0.1, 2.0))
    assert (made.randaugment, made.erasing) == (None, 0)
    assert (made.local_count, made.local_size, made.local_scale) == (8 * (stack == "dino"), (96, 96), (0.05, 0.4))


def test_small_images_get_half_of_simclrs_colour_changes_and_no_blur():
    assert make("simclr").jitter == pytest.approx((0.4, 0.4, 0.4, 0.1))
    assert make("simclr", strength=1.0).jitter == (0.8, 0.8, 0.8, 0.2)
    assert make("simclr", size=33).jitter == (0.8, 0.8, 0.8, 0.2)
    flat = {"scale": [1.0, 1.0], "flip": 0.0, "jitter_prob": 0.0, "gray": 0.0, "blur": [1.0]}
    for size, blurred in ((32, False), (33, True)):
        images = pictures(4, size, size)
        made = make("simclr", image_size=[size, size], **flat)
        assert torch.equal(made.views(images, drawn(range(4)))[0], made.plain(images)) is not blurred


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("side", [32, 72])
def test_a_sample_has_the_same_views_to_the_bit_in_whatever_batch_and_with_however_many_threads(stack, side):
    images = pictures(13, side, side)
    strong = {"randaugment": 9, "erasing": 0.5} if stack == "train" else {}
    made = make(stack, image_size=[side, side], **strong)
    before = [image.clone() for image in images]
    together = made.views(images, drawn(range(13)))
    assert all(map(torch.equal, images, before))
    for part in (slice(0, 1), slice(1, 3), slice(3, 12), slice(12, 13)):
        alone = made.views(images[part], drawn(range(13)[part]))
        assert all(torch.equal(view, whole[part]) for view, whole in zip(alone, together, strict=True))
    shuffled = [5, 0, 12, 7]
    found = made.views([images[row] for row in shuffled], drawn(shuffled))
    assert all(torch.equal(view, whole[shuffled]) for view, whole in zip(found, together, strict=True))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert all(torch.equal(*pair) for pair in zip(made.views(images, drawn(range(13))), together, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_views_differ_between_each_other_images_epochs_and_seeds():
    images = pictures(1, 32, 32) * 6
    first, second = make("simclr").views(images, drawn(range(6)))
    later = make("simclr").views(images, drawn(range(6), epoch=4))[0]
    seeded = make("simclr").views(images, Draw(8, np.full(6, 3), np.arange(6), True))[0]
    everything = torch.cat([first, second, later, seeded]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything)


def test_one_view_is_changed_while_training_only():
    images = pictures(4, 32, 32)
    made = make("simclr")
    assert torch.equal(made.one(images, drawn(range(4))), made.views(images, drawn(range(4)))[0])
    assert torch.equal(made.one(images, drawn(range(4), training=False)), made.plain(images))


def test_images_of_the_right_size_are_only_normalised():
    images = pictures(4, 32, 32)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    expected = (torch.stack(images) / 255 - mean) / std
    for stack in ("eval", "none", "simclr"):
        assert torch.allclose(make(stack).plain(images), expected, atol=1e-5)
    assert torch.equal(make("eval").views(images, drawn(range(4)))[0], make("eval").plain(images))
    assert torch.allclose(make("eval").restore(make("eval").plain(images)), torch.stack(images) / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(80, 80), (50, 75), (61, 40), (20, 20), (20, 30), (300, 200)])
def test_the_evaluations_view_is_the_centre_of_the_resized_image(shape):
    images = pictures(3, *shape)
    made = make("eval", size=32)
    short = min(shape)
    resized = round(32 / 0.875) if short > 32 else 32
    size = [max(32, round(side * resized / short)) if short <= 32 else round(side * 32 / short / 0.875) for side in shape]
    expected = torch.stack([theirs.center_crop(theirs.resize(image, size), [32, 32]) for image in images])
    found = made.restore(made.plain(images)) * 255
    assert (found - expected).abs().max() <= 1.01


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("shape", "size"), [((32, 32), (32, 32)), ((40, 28), (24, 36)), ((64, 64), (20, 20)), ((90, 70), (48, 48))]
)
def test_random_windows_are_resized_as_by_torchvision(shape, size, filter):
    images = pictures(20, *shape)
    windows = random_windows(images, (0.08, 1.0), (3 / 4, 4 / 3), drawn(range(20)).uniform("crop", (10, 4)))
    mirrored = np.arange(20) % 2 == 0
    found = resample(images, windows, mirrored, size, filter)
    for image, window, mirror, ours in zip(images, windows.tolist(), mirrored, found, strict=True):
        expected = theirs.resized_crop(image, *window, list(size), InterpolationMode[filter.upper()], antialias=True)
        expected = theirs.horizontal_flip(expected) if mirror else expected
        assert (ours - expected).abs().max() <= 1.3  # theirs is rounded to whole levels, twice


def test_windows_are_distributed_as_those_of_torchvision():
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
    ours = random_windows([image] * 3000, scale, ratio, drawn(range(3000)).uniform("crop", (10, 4))).astype(float)
    torch.manual_seed(0)
    expected = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(3000)], dtype=float)
    for column in range(4):
        spread = expected[:, column].std()
        assert abs(ours[:, column].mean() - expected[:, column].mean()) < 4 * spread * (2 / 3000) ** 0.5
        assert abs(ours[:, column].std() / spread - 1) < 0.06
    top, left, tall, wide = ours.T
    assert (top >= 0).all() and (left >= 0).all() and (top + tall <= 60).all() and (left + wide <= 100).all()


def test_where_no_window_fits_the_largest_one_in_the_middle_is_taken():
    thin = torch.zeros(3, 10, 100, dtype=torch.uint8)
    windows = random_windows([thin] * 5, (0.9, 1.0), (3 / 4, 4 / 3), drawn(range(5)).uniform("crop", (10, 4)))
    assert windows.tolist() == [[0, 43, 10, 13]] * 5


def test_images_of_unequal_sizes_come_out_as_each_does_alone():
    images = [pictures(1, 20 + 9 * row, 90 - 8 * row, seed=row)[0] for row in range(9)]
    made = make("byol", image_size=None, size=40)
    together = made.views(images, drawn(range(9)))
    assert together[0].shape == (9, 3, 40, 40)
    for row in range(9):
        alone = made.views(images[row : row + 1], drawn([row]))
        assert all(torch.equal(view[0], whole[row]) for view, whole in zip(alone, together, strict=True))
        assert torch.equal(made.plain(images[row : row + 1])[0], made.plain(images)[row])
    assert make("eval", image_size=None).size == (64, 64)


def test_dinos_local_views_are_small_and_come_last():
    views = make("dino", image_size=[64, 64]).views(pictures(2, 64, 64), drawn(range(2)))
    assert [tuple(view.shape[2:]) for view in views] == [(64, 64)] * 2 + [(24, 24)] * 8
    assert make("dino", image_size=[28, 28]).local_size == (16, 16)
    assert make("dino", local_size=[12, 20]).local_size == (12, 20)


@pytest.mark.parametrize("stack", STACKS)
def test_gray_images_go_through_every_stack(stack):
    images = pictures(5, 40, 40, channels=1)
    made = make(stack, channels=1, image_size=[40, 40], pixel_mean=[0.2], pixel_std=[0.3])
    assert {view.shape[1] for view in made.views(images, drawn(range(5)))} == {1}
    assert made.restore(made.plain(images)).mul(255).round().byte().equal(torch.stack(images))


def test_half_of_the_views_are_mirrored():
    images = pictures(1, 16, 16) * 1000
    made = make("none", image_size=[16, 16], flip=0.5)
    plain = made.plain(images)
    flipped = (made.views(images, drawn(range(1000)))[0] == plain.flip(-1)).flatten(1).all(1)
    assert 440 < flipped.sum() < 560
    assert torch.equal(made.views(images, drawn(range(1000)))[0][~flipped], plain[~flipped])


def test_masks_and_boxes_move_with_their_image():
    images, masks, boxes = [], [], []
    for row in range(40):
        mask = torch.zeros(60, 60, dtype=torch.uint8)
        top, left = 5 + row % 25, 30 - row % 20
        mask[top : top + 20, left : left + 12] = 1
        images.append(mask.expand(3, -1, -1) * 255)
        masks.append(mask)
        boxes.append(torch.tensor([[left, top, left + 12.0, top + 20.0], [0, 0, 60.0, 60.0]]))
    made = make("train", image_size=[60, 60], size=[40, 50], pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3, scale=[0.3, 1.0])
    for training in (True, False):
        values, moved, found = made.joint(images, drawn(range(40), training), masks=masks, boxes=boxes)
        assert moved.shape == (40, 40, 50) and moved.dtype == torch.int64
        assert ((values[:, 0] > 0.5) == (moved == 1)).float().mean() > 0.985
        for mask, (inner, outer) in zip(moved, found, strict=True):
            assert outer.tolist() == [0, 0, 50, 40]
            x1, y1, x2, y2 = inner.round().int().tolist()
            assert abs(int(mask.sum()) - (x2 - x1) * (y2 - y1)) <= 2 * (x2 - x1 + y2 - y1)
            assert mask[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
    assert made.joint(images, drawn(range(40)))[1:] == (None, None)


def test_a_box_outside_the_window_is_left_without_width_or_height():
    image = torch.zeros(3, 50, 50, dtype=torch.uint8)
    corner = torch.tensor([[0, 0, 2.0, 2.0]])
    made = make("train", image_size=[50, 50], scale=[0.1, 0.2], flip=0.0)
    _, _, found = made.joint([image] * 30, drawn(range(30)), boxes=[corner] * 30)
    sides = torch.cat([box[:, 2:] - box[:, :2] for box in found])
    assert (sides >= 0).all()
    assert (sides.amin(1) == 0).sum() > 15
    none = made.joint([image], drawn([0]), boxes=[torch.zeros(0, 4)])[2]
    assert none[0].shape == (0, 4)


def test_a_transform_can_be_sent_to_a_worker():
    made = pickle.loads(pickle.dumps(make("dino")))
    images = pictures(2, 32, 32)
    assert torch.equal(made.views(images, drawn([0, 1]))[3], make("dino").views(images, drawn([0, 1]))[3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": 1.5}, "flip=1.5 is no probability"),
        ({"blur": [0.5, -1.0]}, r"blur\[1\]=-1.0 is no probability"),
        ({"scale": [1.0, 0.2]}, r"scale=\[1.0,0.2\]: give two shares"),
        ({"ratio": [0.0, 1.0]}, "ratio=.*above 0"),
        ({"jitter": [0.4, 0.4, 0.4, 0.6], "strength": 1.0}, "hue at most 0.5"),
        ({"size": [32, 0]}, "size=.*give pixels"),
        ({"views": 0}, "views=0: expected at least 1"),
        ({"local_views": -1}, "local_views=-1: expected at least 0"),
        ({"solarize": []}, r"solarize=\[\]: expected a probability"),
        ({"randaugment": 31}, "magnitude from 0 to 30"),
        ({"center_crop": 0.0}, "center_crop=0.0"),
        ({"interpolation": "nearest"}, "transform.interpolation: expected one of bilinear, bicubic"),
        ({"strength": "some"}, "transform.strength: expected"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make("simclr", **changes)
