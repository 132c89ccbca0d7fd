"""Features as points in the plane, coloured by class: what lies together there is alike to the model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ptft.lettering import legible, width_of, write
from ptft.nn.drawing import colours

LEAST = 6  # points; fewer have no perplexity to speak of
PERPLEXITY = 30.0
EXAGGERATION, EXAGGERATED = 12.0, 100
STEPS = 400
SIDE, LEGEND, LINE, MARGIN, RADIUS = 560, 180, 18, 16, 3  # pixels
BISECTIONS = 50
HUES, LIGHT, DARK = 8, 220, 120  # after so many classes hues come again, in another shade


def principal(features: Tensor) -> Tensor:
    """The coordinates of [N, D] along the two directions of most variance: [N, 2]."""
    centred = (features - features.mean(0)).double()
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    found = left[:, :2] * values[:2]
    return torch.nn.functional.pad(found, (0, 2 - found.size(1)))


def neighbourly(features: Tensor) -> Tensor:
    """Coordinates [N, 2] that keep neighbours together: exact t-SNE of [N, D], for up to about a thousand points.

    Deterministic: it starts from the principal components, and stays there where there are too few to have neighbours.
    Features that are not finite, of a run that diverged, count as 0.
    Source: van der Maaten & Hinton 2008, with the rate of Belkina et al. 2019.
    """
    features, size = features.nan_to_num(0.0, 0.0, 0.0), len(features)
    if size <= LEAST:
        return principal(features).float()
    alike = _likeness(features.double(), min(PERPLEXITY, (size - 1) / 3)).float()
    points = principal(features).float()
    points = points / points[:, 0].std().clamp(min=1e-12) * 1e-4
    rate = max(size / EXAGGERATION / 4, 50.0)
    speed, gains = torch.zeros_like(points), torch.ones_like(points)
    for step in range(STEPS):
        early = step < EXAGGERATED
        slope = _slope(points, alike * EXAGGERATION if early else alike)
        gains = torch.where(slope * speed < 0, gains + 0.2, gains * 0.8).clamp(min=0.01)
        speed = (0.5 if early else 0.8) * speed - rate * gains * slope
        points = points + speed
    return points


def _slope(points: Tensor, alike: Tensor) -> Tensor:
    """The gradient of the divergence between likeness in the data and in the plane."""
    near = 1 / (1 + torch.cdist(points, points).square())
    near.fill_diagonal_(0)
    pull = (alike - near / near.sum()) * near
    return 4 * (pull.sum(1, keepdim=True) * points - pull @ points)


def _likeness(features: Tensor, perplexity: float) -> Tensor:
    """Joint probabilities of neighbours [N, N], each row as wide as gives it the perplexity."""
    distances = torch.cdist(features, features).square()
    distances = distances / distances.mean().clamp(min=1e-12)
    distances.fill_diagonal_(torch.inf)
    low, high = distances.new_zeros(len(features), 1), distances.new_full((len(features), 1), torch.inf)
    precision = distances.new_ones(len(features), 1)
    for _ in range(BISECTIONS):
        shares = (-distances * precision).softmax(1)
        narrow = torch.special.entr(shares).sum(1, keepdim=True) < math.log(perplexity)
        low, high = torch.where(narrow, low, precision), torch.where(narrow, precision, high)
        precision = torch.where(high.isinf(), precision * 2, (low + high) / 2)
    return (shares + shares.mT) / (2 * len(features))


def scatter(points: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
    """Points [N, 2] as dots in the colour of their class, names beside and what they are below: uint8 [3, H, W]."""
    from PIL import Image, ImageDraw

    shown = legible(names)[0][: (SIDE - MARGIN) // LINE]
    legend = min(LEGEND, 4 * RADIUS + MARGIN + max(map(width_of, shown), default=0))
    picture = Image.new("RGB", (SIDE + legend, SIDE + LINE + MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    write(
        pen,
        (MARGIN, SIDE + MARGIN // 2),
        f"features of {len(points):,} rows by t-SNE: near each other, alike to the model",
        "black",
    )
    shades = torch.tensor([LIGHT if index // HUES % 2 == 0 else DARK for index in range(len(names))])
    palette = [tuple(colour) for colour in (colours(len(names)) * shades[:, None]).round().int().tolist()]
    low, high = points.amin(0), points.amax(0)
    places = MARGIN + (points - low) / (high - low).clamp(min=1e-12) * (SIDE - 2 * MARGIN)
    for (x, y), label in zip(places.tolist(), labels.tolist(), strict=True):
        pen.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=palette[label])
    for line, name in enumerate(shown):
        y = MARGIN + line * LINE
        pen.ellipse((SIDE, y + RADIUS, SIDE + 2 * RADIUS, y + 3 * RADIUS), fill=palette[line])
        write(pen, (SIDE + 4 * RADIUS, y), name, "black", legend - 4 * RADIUS)
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)
