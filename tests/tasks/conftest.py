"""Transforms and backbones for small images."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ptft.data.transforms import Views
from ptft.models.resnet import ResNet
from ptft.randomness import Draw

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="session")
def views():
    """A transform by its YAML file, with some settings changed: views("dense", size=16)."""

    def build(name: str = "none", channels: int = 3, **changes) -> Views:
        settings = yaml.safe_load((CONFIGS / "transform" / "eval.yaml").read_text())
        settings |= yaml.safe_load((CONFIGS / "transform" / f"{name}.yaml").read_text())
        settings = {key: value for key, value in settings.items() if key not in ("_target_", "defaults")} | changes
        facts = {"image_size": None, "pixel_mean": [0.4] * channels, "pixel_std": [0.25] * channels}
        return Views(channels=channels, **facts, **settings)

    return build


@pytest.fixture
def make_resnet():
    """A small residual network in eval mode."""

    def make(height: int = 16, width: int = 16, channels: int = 3) -> ResNet:
        torch.manual_seed(0)
        settings = {"stem": "small", "zero_init_residual": False, "squeeze_excitation": False, "drop_path": 0.0}
        return ResNet([channels, height, width], [1, 1, 1, 1], False, 8, **settings).eval()

    return make


@pytest.fixture
def learning():
    """Randomness for `size` rows that are learned from."""
    return lambda size, epoch=0: Draw(0, np.full(size, epoch), np.arange(size), training=True)


@pytest.fixture
def images():
    """Examples with a random picture each, and what else they have: images([(24, 20), ...], label=[...])."""

    def make(sizes: list[tuple[int, int]], channels: int = 3, **fields) -> list[dict]:
        random = torch.Generator().manual_seed(0)
        pictures = [torch.randint(0, 256, (channels, *size), generator=random, dtype=torch.uint8) for size in sizes]
        columns = [{name: values[row] for name, values in fields.items()} for row in range(len(sizes))]
        return [{"image": one, "row": row, "file": f"{row}.png", **columns[row]} for row, one in enumerate(pictures)]

    return make
