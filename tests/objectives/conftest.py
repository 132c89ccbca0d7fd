"""What objectives of images need: a transform, and small pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ptft.data.transforms import Views
from ptft.randomness import Draw

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="session")
def plain_view():
    """The transform of evaluations: plain_view(channels, size) -> pixels standardised with mean .4 and deviation .25."""

    def build(channels: int = 1, size: tuple[int, int] = (8, 8)) -> Views:
        settings = yaml.safe_load((CONFIGS / "transform" / "eval.yaml").read_text())
        del settings["_target_"]
        facts = {"pixel_mean": [0.4] * channels, "pixel_std": [0.25] * channels, "image_size": list(size)}
        return Views(channels=channels, **facts, **settings)

    return build


@pytest.fixture(scope="session")
def pictures():
    """Examples of bright bars on dark ground: pictures(number, channels, size)."""

    def make(number: int, channels: int = 1, size: tuple[int, int] = (8, 8)) -> list[dict]:
        random = np.random.default_rng(0)
        images = np.full((number, channels, *size), 20, dtype=np.uint8)
        for image in images:
            image[:, random.integers(size[0])] = 230
            image[:, :, random.integers(size[1])] = 140
        return [{"image": torch.from_numpy(image), "row": row, "file": str(row)} for row, image in enumerate(images)]

    return make


@pytest.fixture(scope="session")
def rows():
    """Examples of a table: four correlated standard normal numbers."""

    def make(number: int) -> list[dict]:
        random = np.random.default_rng(0)
        hidden = random.normal(size=(number, 2))
        values = hidden @ random.normal(size=(2, 4)) / 2**0.5 + 0.1 * random.normal(size=(number, 4))
        return [{"features": row, "row": place} for place, row in enumerate(values.astype(np.float32))]

    return make


@pytest.fixture
def learning():
    """Randomness for `size` rows that are learned from."""
    return lambda size, epoch=0: Draw(0, np.full(size, epoch), np.arange(size), training=True)


@pytest.fixture
def fitted():
    """Train on one batch: fitted(objective, batch, steps, lr) -> the objective, in evaluation mode."""

    def train(objective, batch, steps: int = 100, lr: float = 3e-3):
        optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr)
        objective.train()
        for step in range(steps):
            torch.manual_seed(step)
            output = objective(batch)
            optimizer.zero_grad()
            (output.loss / output.count).backward()
            optimizer.step()
            objective.after_step(step / steps)
        return objective.eval()

    return train
