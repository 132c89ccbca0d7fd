"""Boxes and classes over images."""

import itertools

import torch

from ptft.nn.drawing import colours, outlined, overlaid


def test_colours_differ_from_class_to_class():
    found = colours(30)
    assert found.shape == (30, 3)
    assert torch.cdist(found, found).fill_diagonal_(9).min() > 0.05


def test_an_overlay_shows_background_as_it_is_and_what_is_ignored_in_grey():
    images = torch.rand(2, 1, 4, 4)
    classes = torch.zeros(2, 4, 4, dtype=torch.uint8)
    classes[0, 0], classes[1, 1] = 3, 255
    found = overlaid(images, classes, 255)
    assert found.shape == (2, 3, 4, 4)
    torch.testing.assert_close(found[0, :, 1:], images[0, :, 1:].expand(3, -1, -1))
    torch.testing.assert_close(found[1, :, 1], (images[1, :, 1] / 2 + 0.25).expand(3, -1))
    torch.testing.assert_close(found[0, :, 0], images[0, :, 0] / 2 + colours(4)[3].view(3, 1) / 2)


def test_boxes_are_drawn_where_they_are_and_small_images_enlarged():
    found = outlined(torch.zeros(1, 40, 80), [[10.0, 20, 30, 35]], [2], [""])
    assert found.shape == (3, 160, 320)
    drawn = found.amax(0).nonzero()
    assert drawn.amin(0).tolist() == [80, 40] and drawn.amax(0).tolist() == [139, 119]
    assert found[:, 100, 80].sum() == 0
    torch.testing.assert_close(found[:, 80, 60], colours(3)[2], atol=1 / 255, rtol=0)


def test_captions_of_boxes_tell_classes_apart_in_any_alphabet():
    def caption(name: str, label: int):
        return (outlined(torch.zeros(3, 320, 320), [[0.0, 0, 9, 9]], [label], [name]) > 0).any(0)

    unknown, other = "\U0001fbf0", "\U0001fbf1"  # digits that no font here has
    pictures = [caption("ñandú", 1), caption("nandu", 1), caption(f"{unknown} 0.9", 1), caption(f"{other} 0.9", 2)]
    assert all(not torch.equal(one, two) for one, two in itertools.combinations(pictures, 2))


def test_a_caption_can_be_read_on_an_image_as_bright_as_it_is():
    found = outlined(torch.ones(3, 320, 320), [[10.0, 10, 200, 200]], [2], ["WBC"])
    letters = found[:, 12:24, 14:40]
    assert (letters.amax(0) < 0.2).sum() > 20 and (letters.amin(0) < 0.5).sum() > 40


def test_an_image_without_boxes_stays_as_it_is():
    image = torch.rand(3, 400, 330)
    torch.testing.assert_close(outlined(image, [], [], []), image, atol=1 / 255, rtol=0)
