"""Grids of images, and PNG files."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from ptft import lettering
from ptft.canvas import png_bytes, tile, write_png


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def test_every_image_stands_in_the_grid_enlarged_by_a_whole_factor():
    images = torch.rand(3, 3, 10, 8)
    picture = tile([images])
    factor = 10
    levels = (images * 255).round().byte().repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    strips = torch.cat([levels[0], torch.full((3, 100, 4), 240, dtype=torch.uint8), levels[1]], 2)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 100 + 16, 3 * 80 + 2 * 4 + 16)
    assert torch.equal(picture[:, 8:108, 8 : 8 + 164], strips)


def test_gray_images_become_coloured_ones_and_odd_values_do_not_break_the_picture():
    images = torch.tensor([-1.0, 2.0, float("nan"), 0.5]).view(4, 1, 1, 1).expand(4, 1, 96, 96)
    picture = tile([images])
    assert [picture[:, 50, 8 + 100 * index + 5].tolist() for index in range(4)] == [[0] * 3, [255] * 3, [0] * 3, [128] * 3]


def test_rows_of_different_sizes_are_brought_to_about_the_same_one_and_stand_in_columns():
    picture = tile([torch.zeros(4, 3, 96, 96), torch.zeros(4, 3, 32, 32), torch.zeros(4, 3, 40, 40)])
    dark = picture[0] == 0
    starts = [(line[1:] & ~line[:-1]).nonzero().flatten().tolist() for line in (dark[20], dark[150], dark[-20])]
    assert starts[0] == starts[1] == starts[2]
    assert len(starts[0]) == 4


def test_a_large_grid_is_not_enlarged_and_one_beyond_all_bounds_is_still_drawn():
    assert tile([torch.zeros(30, 3, 64, 64)]).shape[2] < 2400
    assert tile([torch.zeros(100, 1, 64, 64)]).shape[2] == 100 * 68 - 4 + 16


def test_captions_stand_below_their_images_and_titles_to_the_left():
    images = torch.ones(2, 3, 96, 96)
    plain, captioned = tile([images, images]), tile([images, images], [["one", ""], ["a caption too long for its cell", "ß漢"]])
    assert captioned.shape[1] > plain.shape[1] and captioned.shape[2] == plain.shape[2]
    below = captioned[:, 8 + 96 : 8 + 96 + 12]
    assert below[:, :, :100].min() < 120
    assert below[:, :, 110:].min() == 240
    one_row = tile([images, images], [["one"], []])
    assert one_row.shape[1] < captioned.shape[1]
    titled = tile([images, images], titles=["first row", ""])
    assert titled.shape[1] == plain.shape[1] and titled.shape[2] > plain.shape[2]
    assert titled[:, 8:104, 8:40].min() < 120
    assert titled[:, 108:204, 8:40].min() == 240


def test_a_caption_that_is_wider_than_its_image_takes_further_lines_and_loses_nothing():
    images = torch.ones(2, 3, 96, 96)
    text = "Septoria leaf spot of tomatoes: yellow leaf curl 45%"
    lines = lettering.wrapped(text, 96, 6)
    assert " ".join(lines) == text and len(lines) > 2
    assert all(lettering.width_of(line) <= 96 for line in lines)
    picture, one_line = tile([images], [[text, "short"]]), tile([images], [[lines[0], "short"]])
    assert picture.shape[1] == one_line.shape[1] + 12 * (len(lines) - 1)
    assert torch.equal(picture[:, :116], one_line[:, :116])
    for line in range(len(lines)):
        assert picture[:, 105 + 12 * line : 117 + 12 * line, 8:104].min() < 120
    assert picture[:, 120:, 104:].min() == 240


def test_a_long_title_takes_further_lines_rather_than_half_of_the_picture():
    images = torch.ones(8, 3, 96, 96)
    long = "reconstruction, with the true mean and contrast of each patch"
    narrow, wide = (tile([images, images], titles=["masked", title]).shape[2] for title in ("original", long))
    assert wide - narrow < 96
    second = tile([images, images], titles=["", long])[:, 108:204, :130].amin((0, 2)) < 120
    starts = (second[1:] & ~second[:-1]).sum()
    assert starts == len(lettering.wrapped(long, 120, 6)) > 2


def test_a_word_wider_than_its_image_is_broken_and_only_a_caption_beyond_all_bounds_is_cut():
    assert "".join(lettering.wrapped("Pneumonoultramicroscopicsilicovolcanoconiosis", 96, 6)) == (
        "Pneumonoultramicroscopicsilicovolcanoconiosis"
    )
    images = torch.ones(1, 3, 96, 96)
    assert tile([images], [["many words " * 40]]).shape[1] == 8 + 96 + 4 + 6 * 12 + 8


def test_captions_that_no_font_has_are_told_apart_and_equal_ones_are_not():
    images = torch.ones(3, 3, 96, 96)
    below = tile([images], [["\U0001fbf0: 9%", "\U0001fbf1: 9%", "\U0001fbf0: 9%"]])[:, 104:]
    first, second, third = (below[:, :, 8 + 100 * index :][:, :, :96] for index in range(3))
    assert torch.equal(first, third) and not torch.equal(first, second)


def test_letters_that_the_plain_font_lacks_are_drawn_in_one_that_has_them():
    from matplotlib.font_manager import findfont

    plain, further = (lettering._letters_of(findfont(name)) for name in ("DejaVu Sans", "STIXGeneral"))
    letter = min(filter(str.isalnum, further - plain))
    drawn = [tile([torch.ones(1, 3, 96, 96)], [[text]]) for text in (f"a{letter}b", "a#0b", "a\x00b")]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_png_file_holds_the_picture(tmp_path):
    colour, gray = torch.rand(3, 5, 7), torch.randint(0, 256, (1, 5, 7), dtype=torch.uint8)
    path = write_png(tmp_path / "picture.png", colour)
    assert np.array_equal(pixels(path.read_bytes()), (colour * 255).round().byte().permute(1, 2, 0).numpy())
    assert np.array_equal(pixels(png_bytes(gray)), gray[0].numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
