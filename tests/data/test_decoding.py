"""Image files to pixels."""

import io
import zlib
from struct import pack

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from ptft.data.decoding import Undecodable, as_shown, decode, in_parallel, luminance

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREYS = COLOURS[..., 0]


def file(image: Image.Image | np.ndarray, kind: str = "PNG", **settings) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **settings)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_formats_give_back_the_pixels_that_were_written(kind):
    settings = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(file(COLOURS, kind, **settings)), COLOURS.transpose(2, 0, 1))


def test_grey_files_have_one_channel():
    np.testing.assert_array_equal(decode(file(GREYS)), GREYS[None])
    assert decode(file(GREYS, "JPEG")).shape == (1, 12, 20)
    assert decode(file(Image.fromarray(GREYS > 128))).tolist() == np.where(GREYS > 128, 255, 0)[None].tolist()


def test_sixteen_bits_a_pixel_keep_their_upper_eight():
    deep = GREYS.astype(np.uint16) * 256 + 77
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(file(deep, kind)), GREYS[None])


def test_numbers_from_0_to_1_become_bytes():
    np.testing.assert_array_equal(decode(file(Image.fromarray((GREYS / 255).astype(np.float32)), "TIFF")), GREYS[None])


def test_palettes_and_printers_colours_become_red_green_blue():
    palette = Image.fromarray(COLOURS).quantize(16)
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(file(palette)), expected)
    np.testing.assert_array_equal(decode(file(palette, "GIF")), expected)
    ink = Image.fromarray(COLOURS).convert("CMYK")
    np.testing.assert_array_equal(decode(file(ink, "TIFF")), COLOURS.transpose(2, 0, 1))
    assert decode(file(ink, "JPEG")).shape == (3, 12, 20)


def blended(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Pixels [C, H, W] on white."""
    return pixels * (alpha / 255) + 255 * (1 - alpha / 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_shows_white(kind):
    alpha = np.random.default_rng(1).integers(0, 256, GREYS.shape, dtype=np.uint8)
    clear = Image.fromarray(COLOURS).convert("RGBA")
    clear.putalpha(Image.fromarray(alpha))
    found, transparent = as_shown(file(clear, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})), None)
    assert transparent and np.abs(found - blended(COLOURS.transpose(2, 0, 1), alpha)).max() <= 1
    if kind != "WEBP":
        grey, transparent = as_shown(file(Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(alpha)]), kind), None)
        assert transparent and grey.shape[0] == 1 and np.abs(grey - blended(GREYS[None], alpha)).max() <= 1


def test_strokes_on_transparent_ground_are_seen():
    strokes = np.zeros((12, 20, 4), dtype=np.uint8)
    strokes[5, :, 3] = 255
    np.testing.assert_array_equal(decode(file(strokes))[0], np.where(strokes[..., 3], 0, 255))


def test_a_transparent_colour_of_a_palette_shows_white():
    palette = Image.fromarray(COLOURS).quantize(16)
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1).copy()
    expected[:, np.asarray(palette) == 3] = 255
    for kind in ("PNG", "GIF"):
        (found,) = in_parallel(decode, [file(palette, kind, transparency=3)])  # where Pillow's warnings are off
        np.testing.assert_array_equal(found, expected)


def test_of_full_and_of_no_opacity_throughout_nothing_is_lost():
    for opacity in (0, 255):
        clear = Image.fromarray(COLOURS).convert("RGBA")
        clear.putalpha(opacity)
        found, transparent = as_shown(file(clear), None)
        assert not transparent
        np.testing.assert_array_equal(found, COLOURS.transpose(2, 0, 1))


def test_of_moving_pictures_the_first_frame_is_taken():
    frames = [Image.fromarray(np.full((4, 4), shade, dtype=np.uint8)) for shade in (10, 200)]
    assert set(decode(file(frames[0], "GIF", save_all=True, append_images=frames[1:])).ravel()) == {10}


# what a viewer does with the pixels of a file for each note of how the camera was held (EXIF 2.3, 4.6.4)
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("held", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_photographs_are_shown_upright(held, kind):
    exif = TiffImagePlugin.ImageFileDirectory_v2() if kind == "TIFF" else Image.Exif()
    exif[0x0112] = held
    settings = {"tiffinfo": exif} if kind == "TIFF" else {"exif": exif}
    np.testing.assert_array_equal(decode(file(GREYS, kind, **settings))[0], TURNS[held](GREYS))


def test_a_damaged_note_of_how_the_camera_was_held_counts_as_none():
    (found,) = in_parallel(decode, [file(GREYS, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")])
    assert found.shape == (1, 12, 20)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_images_are_stored_smaller_with_their_proportions(kind):
    smooth = np.add.outer(np.linspace(0, 100, 300), np.linspace(0, 150, 500)).astype(np.uint8)
    for pixels in (smooth, np.stack([smooth] * 3, -1)):
        small = decode(file(pixels, kind), 60)
        assert small.shape[1:] == (60, 100)
        expected = pixels.reshape(60, 5, 100, 5, -1).mean((1, 3)).transpose(2, 0, 1)  # a linear slope: any filter agrees
        assert np.abs(small[:, 2:-2, 2:-2] - expected[:, 2:-2, 2:-2]).max() <= 2
        assert decode(file(pixels, kind), 300).shape[1:] == (300, 500)


def bomb() -> bytes:
    """A PNG of a few bytes that announces 50,000 x 50,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


WHOLE = {kind: file(np.kron(COLOURS, np.ones((8, 8, 1), np.uint8)), kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")}
DAMAGED = {
    "empty": (b"", "the file is empty"),
    "a page of the web": (b"<html><body>404 Not Found</body></html>", "no image of a known format"),
    "PostScript, which would be run": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
    "bomb": (bomb(), "pixels"),
    **{f"half a {kind}": (whole[: len(whole) // 2], "") for kind, whole in WHOLE.items()},
    **{f"the first bytes of a {kind}": (whole[:20], "") for kind, whole in WHOLE.items()},
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_refused_with_a_reason(name):
    raw, reason = DAMAGED[name]
    with pytest.raises(Undecodable) as refusal:
        decode(raw)
    assert reason in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_random_damage_never_raises_anything_else():
    chance = np.random.default_rng(0)
    for whole in WHOLE.values():
        for _ in range(30):
            raw = np.frombuffer(whole, dtype=np.uint8).copy()
            raw[chance.integers(0, min(len(raw), 600), 8)] = chance.integers(0, 256, 8)
            try:
                found = next(iter(in_parallel(decode, [raw.tobytes()])))
            except Undecodable:
                continue
            assert found.dtype == np.uint8 and found.ndim == 3


def test_grey_of_colours_is_that_of_pillow():
    expected = np.asarray(Image.fromarray(COLOURS).convert("L"))[None]
    np.testing.assert_array_equal(luminance(COLOURS.transpose(2, 0, 1)), expected)


def test_work_in_parallel_comes_back_in_order_and_its_errors_reach_the_caller():
    assert list(in_parallel(lambda number: number * number, range(1000))) == [number * number for number in range(1000)]
    answers = in_parallel(lambda number: 1 / (5 - number), range(10), at_once=1)
    with pytest.raises(ZeroDivisionError):
        list(answers)
