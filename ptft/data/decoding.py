"""Image files to pixels: whatever is in them, upright, as uint8 [C, H, W], shared out over the cores."""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

Raw = bytes | np.ndarray  # an image file as it is, or pixels [H, W] or [H, W, C]
Item, Result = TypeVar("Item"), TypeVar("Result")

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # Pillow knows others, which run programs
LARGEST = 1 << 27  # pixels; more in a file are taken for an attack on memory
GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
WITH_KEY = {"1", "L", "P", "RGB"}  # one of whose colours may be declared transparent
ORIENTATION = 0x0112  # the EXIF field that says how a camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Undecodable(Exception):
    """What is wrong with an image file, in words."""


def decode(raw: Raw, size: int | None = None) -> np.ndarray:
    """Pixels uint8 [C, H, W], C = 1 for grey and 3 for all else, the shorter side at most `size`. Raises Undecodable."""
    return as_shown(raw, size)[0]


def as_shown(raw: Raw, size: int | None) -> tuple[np.ndarray, bool]:
    """What `decode` gives, and whether parts of the image were transparent and have become white."""
    if isinstance(raw, np.ndarray):
        return shrunk(as_channels(raw), size), False
    if not raw:
        raise Undecodable("the file is empty")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            whole, transparent = opened(image, size)
            return shrunk(as_channels(np.array(whole)), size), transparent
    except Image.UnidentifiedImageError:
        raise Undecodable("its content is no image of a known format") from None
    except Undecodable:
        raise
    except Exception as error:  # what decoders raise on damaged files has no common type
        raise Undecodable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def opened(image: Image.Image, size: int | None) -> tuple[Image.Image, bool]:
    """An image in mode L or RGB, read whole and upright, and whether it was transparent in parts.

    A JPEG much larger than `size` is scaled down while it is read.
    """
    width, height = image.size
    if width * height > LARGEST:
        raise Undecodable(f"{width} x {height} pixels are more than ptft reads ({LARGEST:,})")
    if size is not None and min(width, height) > size:
        share = size / min(width, height)
        image.draft(None, (round(width * share), round(height * share)))
    image.load()
    turn = UPRIGHT.get(orientation(image))  # asked late: Pillow itself turns TIFF while it reads
    image, transparent = opaque(image)
    image = plain(image)
    return (image if turn is None else image.transpose(turn)), transparent


def orientation(image: Image.Image) -> Any:
    """How the camera was held; a damaged note of it counts as none."""
    if image.format not in ("JPEG", "MPO", "PNG", "WEBP", "TIFF"):
        return None
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # as in decode
        return None


def opaque(image: Image.Image) -> tuple[Image.Image, bool]:
    """An image on white, as browsers show it, and whether any of that is seen. One that hides all its pixels stays as it is."""
    if image.mode not in WITH_ALPHA and not (image.mode in WITH_KEY and "transparency" in image.info):
        return image, False
    grey = image.mode in GREY
    whole = image.convert("LA" if grey else "RGBA")
    alpha = whole.getchannel("A")
    colours = whole.convert("L" if grey else "RGB")
    lowest, highest = alpha.getextrema()
    if lowest == 255 or highest == 0:  # some programs leave alpha at 0 throughout where they mean none
        return colours, False
    ground = Image.new(colours.mode, colours.size, "white")
    ground.paste(colours, mask=alpha)
    return ground, True


def plain(image: Image.Image) -> Image.Image:
    """Any mode to L where it is grey, else to RGB; 16 bits a pixel become 8."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.nan_to_num(np.asarray(image.convert("F")))
        return Image.fromarray(np.clip(values * scale_of(image, values), 0, 255).astype(np.uint8))
    return image.convert("L" if image.mode in GREY else "RGB")


def scale_of(image: Image.Image, values: np.ndarray) -> float:
    """What brings the values of one image to 0..255: 16 bits are known by the mode, others by the largest value."""
    highest = values.max(initial=0)
    if image.mode == "F":
        return 255.0 if highest <= 1 else 1.0
    return 1 / 256 if image.mode != "I" or highest > 255 else 1.0


def as_channels(pixels: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] to [C, H, W]."""
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def shrunk(pixels: np.ndarray, size: int | None) -> np.ndarray:
    """Pixels [C, H, W] in one piece, scaled so that the shorter side is at most `size`."""
    height, width = pixels.shape[1:]
    if size is None or min(height, width) <= size:
        return np.array(pixels, order="C")
    share = size / min(height, width)
    wanted = (max(size, round(height * share)), max(size, round(width * share)))
    whole = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy("K"))[None]
    return F.interpolate(whole, wanted, mode="bilinear", antialias=True)[0].contiguous().numpy()


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Colours uint8 [..., 3, H, W] as grey [..., 1, H, W] (ITU-R 601, rounded as Pillow does)."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -3, 0)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None, :, :]


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], at_once: int = 4) -> Iterator[Result]:
    """work(item) of each item in order, on all cores; only a few are ever in flight.

    Threads: decoders, hashes and array operations run outside the interpreter's lock.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source = iter(items)
    groups = iter(lambda: list(islice(source, at_once)), [])
    with warnings.catch_warnings(), ThreadPoolExecutor(cores) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata and transparency; what matters is raised
        waiting: deque = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(lambda some: [work(item) for item in some], group))
                if len(waiting) > cores:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
