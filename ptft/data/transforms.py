"""What a model sees of an image: the evaluation's view, and views changed at random, a whole batch at once.

Every random number comes from the sample's own Draw, and every operation is exact or rounded once for each pixel: a sample's
views are the same to the bit whatever batch, worker or number of threads makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ptft.data import augment
from ptft.data.boxes import cut_boxes
from ptft.data.randaugment import randaugment
from ptft.data.resample import ATTEMPTS, LEVELS, Size, by_shape, nearest, random_windows, resample, whole
from ptft.randomness import Draw

UNEQUAL_SIZE = 64  # pixels a side where the images have no size in common and none is given
SMALL = 32  # pixels a side up to which strength: auto halves the jitter (2002.05709, B.9)
LOCAL_SHARE, LOCAL_STEP = 96 / 224, 8  # a local crop's side beside a whole view's (2104.14294), in steps a patch grid fits


class Views:
    """Views of images: random crop, flip, colour jitter, gray, blur, solarisation, RandAugment and erasing, in that order.

    Keys are described in configs/transform/eval.yaml, upon which all stacks build. channels, image_size, pixel_mean,
    pixel_std: facts of the data. Raises ValueError.
    """

    def __init__(
        self,
        channels: int,
        image_size: list[int] | None,
        pixel_mean: list[float],
        pixel_std: list[float],
        size: int | list[int] | None,
        center_crop: float,
        interpolation: Literal["bilinear", "bicubic"],
        views: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip: float,
        jitter: tuple[float, float, float, float],
        jitter_prob: float,
        strength: float | Literal["auto"],
        gray: float,
        blur: list[float],
        blur_sigma: tuple[float, float],
        blur_above: int,
        solarize: list[float],
        randaugment: float | None,
        erasing: float,
        local_views: int,
        local_size: int | list[int] | None,
        local_scale: tuple[float, float],
    ):
        self.size = _pair("size", size) if size is not None else tuple(image_size or (UNEQUAL_SIZE, UNEQUAL_SIZE))
        self.local_size = _pair("local_size", local_size) if local_size is not None else _local(self.size)
        self.channels = channels
        self.mean = LEVELS * torch.tensor(pixel_mean).view(-1, 1, 1)
        self.std = LEVELS * torch.tensor(pixel_std).view(-1, 1, 1)
        self.center_crop, self.interpolation = center_crop, interpolation
        self.count, self.local_count = views, local_views
        self.scale, self.local_scale, self.ratio, self.flip = tuple(scale), tuple(local_scale), tuple(ratio), flip
        self.blur, self.blur_sigma, self.blur_above, self.solarize = list(blur), tuple(blur_sigma), blur_above, list(solarize)
        strength = (0.5 if max(self.size) <= SMALL else 1.0) if strength == "auto" else strength
        self.jitter = tuple(amount * strength for amount in jitter)
        self.jitter_prob, self.gray = jitter_prob, gray
        self.randaugment, self.erasing = randaugment, erasing
        self._check()

    def _check(self) -> None:
        """Refuse settings that mean nothing."""
        shares = {"flip": self.flip, "jitter_prob": self.jitter_prob, "gray": self.gray, "erasing": self.erasing}
        shares |= {f"blur[{index}]": value for index, value in enumerate(self.blur)}
        shares |= {f"solarize[{index}]": value for index, value in enumerate(self.solarize)}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value} is no probability between 0 and 1")
        for name, (low, high) in {"scale": self.scale, "local_scale": self.local_scale}.items():
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}=[{low},{high}]: give two shares of the area, such as [0.08,1]")
        for name, (low, high) in {"ratio": self.ratio, "blur_sigma": self.blur_sigma}.items():
            if not 0 < low <= high:
                raise ValueError(f"{name}=[{low},{high}]: give two numbers above 0, the smaller one first")
        if not 0 < self.center_crop <= 1:
            raise ValueError(f"center_crop={self.center_crop}: give a share in (0, 1]")
        for name, count, least in (("views", self.count, 1), ("local_views", self.local_count, 0)):
            if count < least:
                raise ValueError(f"{name}={count}: expected at least {least}")
        for name, entries in (("blur", self.blur), ("solarize", self.solarize)):
            if not entries:
                raise ValueError(f"{name}=[]: expected a probability for each view, or one for all")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(f"jitter x strength = {list(self.jitter)}: give at least 0, and for hue at most 0.5")
        if self.randaugment is not None and not 0 <= self.randaugment <= 30:
            raise ValueError(f"randaugment={self.randaugment}: give a magnitude from 0 to 30, such as 9, or null")

    def plain(self, images: list[Tensor]) -> Tensor:
        """The evaluation's view: resized so that the centre crop of `size` fits, normalised: [B, C, h, w]."""
        return self.normalized(self._centered(images, self.size))

    def one(self, images: list[Tensor], draw: Draw) -> Tensor:
        """One view changed at random while training, else the evaluation's."""
        return self._view(images, draw, 0) if draw.training else self.plain(images)

    def views(self, images: list[Tensor], draw: Draw) -> list[Tensor]:
        """All views changed at random, [B, C, h, w] each, the local ones last."""
        return [self._view(images, draw, number) for number in range(self.count + self.local_count)]

    def joint(
        self,
        images: list[Tensor],
        draw: Draw,
        masks: list[Tensor] | None = None,
        boxes: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None, list[Tensor] | None]:
        """Images with what is marked in them, cut and mirrored alike while training, else the whole image at `size`.

        masks: [H, W] classes of each image. boxes: [n, 4] corners x, y, x, y in pixels. Returns values [B, C, h, w], masks
        [B, h, w] int64 and boxes at the new size; those that lie outside are left without width or height.
        """
        windows, mirrored = whole(images), np.zeros(len(images), dtype=bool)
        if draw.training:
            windows, mirrored = self._windows(images, draw, "view 0", self.scale), self._flips(draw, "view 0")
        levels = resample(images, windows, mirrored, self.size, self.interpolation)
        values = self._finished(levels, draw, 0) if draw.training else self.normalized(levels)
        cuts = list(zip(windows.tolist(), mirrored.tolist(), strict=True))
        if masks is not None:
            parts = zip(masks, cuts, strict=True)
            masks = torch.stack([nearest(mask, *cut, self.size).long() for mask, cut in parts])
        if boxes is not None:
            boxes = [cut_boxes(found, *cut, self.size) for found, cut in zip(boxes, cuts, strict=True)]
        return values, masks, boxes

    def normalized(self, levels: Tensor) -> Tensor:
        """Grey levels as a model reads them, in place."""
        return levels.sub_(self.mean).div_(self.std)

    def restore(self, values: Tensor) -> Tensor:
        """What a model reads as pixels in 0..1, for pictures."""
        mean, std = self.mean.to(values.device), self.std.to(values.device)
        return ((values.float() * std + mean) / LEVELS).clamp(0, 1)

    def _view(self, images: list[Tensor], draw: Draw, number: int) -> Tensor:
        """View `number` of each image."""
        size, scale = (self.size, self.scale) if number < self.count else (self.local_size, self.local_scale)
        name = f"view {number}"
        if scale == (1, 1):
            levels = augment.on_rows(self._centered(images, size), self._flips(draw, name), lambda found: found.flip(-1))
        else:
            windows = self._windows(images, draw, name, scale)
            levels = resample(images, windows, self._flips(draw, name), size, self.interpolation)
        return self._finished(levels, draw, number)

    def _windows(self, images: list[Tensor], draw: Draw, name: str, scale: tuple[float, float]) -> np.ndarray:
        if scale == (1, 1):
            return whole(images)
        return random_windows(images, scale, self.ratio, draw.uniform(f"{name} crop", (ATTEMPTS, 4)))

    def _flips(self, draw: Draw, name: str) -> np.ndarray:
        return draw.uniform(f"{name} flip") < self.flip

    def _centered(self, images: list[Tensor], size: Size) -> Tensor:
        """The middle of each image at one size, in grey levels."""
        found = torch.empty(len(images), self.channels, *size)
        for rows in by_shape(images):
            group = [images[row] for row in rows]
            near = _covering(tuple(group[0].shape[-2:]), size, self.center_crop)
            resized = resample(group, whole(group), np.zeros(len(rows), dtype=bool), near, self.interpolation)
            top, left = (round((long - short) / 2) for long, short in zip(near, size, strict=True))
            found[torch.from_numpy(rows)] = resized[:, :, top : top + size[0], left : left + size[1]]
        return found

    def _finished(self, levels: Tensor, draw: Draw, number: int) -> Tensor:
        """Colours and sharpness of view `number` changed, in place; then normalised, and perhaps partly erased."""
        name = f"view {number}"
        if any(self.jitter) and self.jitter_prob:
            chosen = draw.uniform(f"{name} jitter") < self.jitter_prob
            order = draw.uniform(f"{name} order", (4,)).argsort(1)
            levels = augment.jitter(levels, chosen, order, self._factors(draw, name), self.jitter)
        if self.channels == 3 and self.gray:
            augment.on_rows(levels, draw.uniform(f"{name} gray") < self.gray, augment.grayscale)
        width = _kernel(min(levels.shape[2:])) if min(levels.shape[2:]) > self.blur_above else 1
        if _of_view(self.blur, number) and width > 1:
            low, high = self.blur_sigma
            sigma = low + (high - low) * draw.uniform(f"{name} sigma")
            chosen = draw.uniform(f"{name} blur") < _of_view(self.blur, number)
            augment.on_rows(levels, chosen, lambda found, sigmas: augment.blur(found, sigmas, width), sigma)
        if _of_view(self.solarize, number):
            augment.on_rows(levels, draw.uniform(f"{name} solarize") < _of_view(self.solarize, number), augment.solarize)
        if self.randaugment is not None:
            levels = randaugment(levels, self.randaugment, draw, name)
        values = self.normalized(levels)
        if self.erasing:
            chosen = draw.uniform(f"{name} erase") < self.erasing
            augment.erase(values, chosen, draw.uniform(f"{name} erased", (ATTEMPTS, 4)))
        return values

    def _factors(self, draw: Draw, name: str) -> np.ndarray:
        """How far brightness, contrast, saturation (factors) and hue (a turn) go in each image: [B, 4]."""
        amounts = np.array(self.jitter)
        low, high = np.maximum(0, 1 - amounts), 1 + amounts
        low[3], high[3] = -amounts[3], amounts[3]
        return low + (high - low) * draw.uniform(f"{name} factors", (4,))


def _pair(name: str, size: int | Sequence[int]) -> Size:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"{name}={size}: give pixels a side, such as 64, or [height,width]")
    return pair


def _local(size: Size) -> Size:
    """The size of local crops where none is given."""
    return tuple(max(LOCAL_STEP, LOCAL_STEP * round(side * LOCAL_SHARE / LOCAL_STEP)) for side in size)


def _covering(shape: Size, size: Size, center_crop: float) -> Size:
    """The size to which an image is brought so that its centre crop of `size` leaves as little out as may be.

    Only an image larger than `size` loses the border that center_crop asks for.
    """
    if shape == size:
        return size
    grow = max(wanted / found for wanted, found in zip(size, shape, strict=True))
    if grow < 1:
        grow /= center_crop
    return tuple(max(wanted, round(found * grow)) for wanted, found in zip(size, shape, strict=True))


def _kernel(side: int) -> int:
    """The width of the blur's filter, a tenth of the image, odd (2002.05709, appendix A)."""
    return side // 10 // 2 * 2 + 1


def _of_view(values: list[float], number: int) -> float:
    """A setting of view `number`: the last entry holds for all further views."""
    return values[min(number, len(values) - 1)]
