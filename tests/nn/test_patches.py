"""Images as rows of patches, and their positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ptft.nn.patches import PatchEmbedding, cut, grid_of, join, pick, resize_positions, sincos


@pytest.mark.parametrize(("channels", "height", "width", "patch"), [(1, 28, 28, 4), (3, 6, 10, 2), (2, 9, 21, 3), (3, 8, 8, 8)])
def test_patches_are_cut_row_by_row_and_joined_again(channels, height, width, patch):
    images = torch.randn(2, channels, height, width)
    patches, (rows, columns) = cut(images, patch), grid_of(height, width, patch)
    assert patches.shape == (2, rows * columns, channels * patch**2)
    for number in range(rows * columns):
        top, left = patch * (number // columns), patch * (number % columns)
        assert torch.equal(patches[:, number], images[:, :, top : top + patch, left : left + patch].flatten(1))
    assert torch.equal(join(patches, (rows, columns), channels), images)


def test_a_linear_map_of_patches_is_a_convolution_with_their_size_as_stride():
    images, weight = torch.randn(2, 3, 12, 8), torch.randn(5, 3, 4, 4)
    expected = torch.nn.functional.conv2d(images, weight, stride=4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(cut(images, 4) @ weight.flatten(1).T, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patch", [0, 3, 5])
def test_patches_that_do_not_fill_the_image_are_refused(patch):
    with pytest.raises(ValueError, match=f"patch={patch} does not divide images of 28x32"):
        grid_of(28, 32, patch)


def test_picking_takes_each_images_own_patches():
    patches = torch.arange(12.0).view(2, 3, 2)
    assert pick(patches, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_fixed_positions_are_those_of_the_paper():
    """The formula of MAE's code (pos_embed.py) in numpy; there, too, columns come first."""
    dim, (rows, columns) = 24, (3, 5)
    omega = 1.0 / 10000 ** (np.arange(dim // 4, dtype=np.float64) / (dim / 4))
    for number, found in enumerate(sincos((rows, columns), dim).double().numpy()):
        row, column = divmod(number, columns)
        waves = [np.sin(column * omega), np.cos(column * omega), np.sin(row * omega), np.cos(row * omega)]
        np.testing.assert_allclose(found, np.concatenate(waves), atol=1e-6)


def test_fixed_positions_need_a_width_for_four_kinds_of_waves():
    with pytest.raises(ValueError, match="dim=30"):
        sincos((2, 2), 30)


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("new", [(7, 7), (16, 16), (14, 20), (5, 28)])
def test_a_table_for_another_grid_is_resized_like_an_image_and_the_prefix_stays(prefix, new):
    table = torch.randn(prefix + 14 * 14, 3, generator=torch.Generator().manual_seed(0))
    resized = resize_positions(table, (14, 14), new, prefix)
    assert resized.shape == (prefix + new[0] * new[1], 3)
    assert torch.equal(resized[:prefix], table[:prefix])
    for plane, found in zip(table[prefix:].T, resized[prefix:].T, strict=True):
        image = Image.fromarray(plane.reshape(14, 14).numpy(), mode=None)  # its resizing is antialiased
        expected = np.asarray(image.resize((new[1], new[0]), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found.reshape(new).numpy(), expected, atol=1e-5)


def test_a_table_for_the_same_grid_stays_as_it_is():
    table = torch.randn(1 + 6, 4)
    assert resize_positions(table, (2, 3), (2, 3)) is table


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_kept_patches_are_embedded_as_they_are_among_all(positions):
    embedding = PatchEmbedding(3, (2, 3), 4, 8, positions, 0.0)
    values, kept = torch.randn(2, 3, 8, 12), torch.tensor([[5, 0], [3, 2]])
    whole, some = embedding(values), embedding(values, kept)
    torch.testing.assert_close(some[:, 0], whole[:, 0])
    torch.testing.assert_close(some[:, 1:], pick(whole[:, 1:], kept))


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_images_of_another_size_are_embedded_too(positions):
    embedding = PatchEmbedding(1, (4, 4), 4, 8, positions, 0.0)
    assert embedding(torch.randn(2, 1, 8, 12)).shape == (2, 1 + 6, 8)
    if positions == "sincos":
        assert torch.equal(embedding.positions((2, 3))[1:], sincos((2, 3), 8))
