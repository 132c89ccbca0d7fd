"""`ptft data preview`: the picture holds what a model will see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ptft.canvas import tile, write_png
from ptft.commands.data import preview, spread
from ptft.data.transforms import Views
from ptft.randomness import Draw

QUIET = {"scale": (1.0, 1.0), "ratio": (0.75, 1.33), "flip": 0.0, "jitter": (0, 0, 0, 0), "jitter_prob": 0.0, "strength": 1.0}
QUIET |= {"gray": 0.0, "blur": [0.0], "blur_sigma": (0.1, 2.0), "blur_above": 32, "solarize": [0.0], "randaugment": None}
QUIET |= {"erasing": 0.0, "local_views": 0, "local_size": None, "local_scale": (0.05, 0.4), "interpolation": "bilinear"}
QUIET |= {"size": None, "center_crop": 0.875, "views": 1}


def make(**changes) -> Views:
    facts = {"channels": 3, "image_size": [24, 24], "pixel_mean": [0.5] * 3, "pixel_std": [0.2] * 3}
    return Views(**{**facts, **QUIET, **changes})


@pytest.fixture
def examples() -> list[dict]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 24, 24), dtype=torch.uint8)
    return [{"image": image, "row": row, "label": row % 2} for row, image in enumerate(images)]


@pytest.fixture
def photographs(tmp_path):
    """A folder for each of two classes, with small coloured images in it."""
    for name, level in (("dark", 40), ("light", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            noise = np.random.default_rng(number).integers(0, 60, (20, 20, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def test_the_picture_holds_the_images_the_evaluations_view_and_every_view_of_the_first_epoch(examples):
    made = make(views=2, scale=(0.3, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.4, 0.1), jitter_prob=0.8)
    images = [example["image"] for example in examples]
    draw = Draw(5, np.zeros(4, dtype=int), np.arange(4), training=True)
    first, second = (made.restore(view) for view in made.views(images, draw))
    plain = torch.stack(images) / 255
    names = [["cat", "dog", "cat", "dog"], [], [], []]
    expected = tile([plain, plain, first, second], names, ["original", "evaluation", "view 1", "view 2"])
    assert torch.equal(preview(examples, made, seed=5, labels=["cat", "dog"]), expected)
    assert not torch.equal(preview(examples, made, seed=6, labels=["cat", "dog"]), expected)


def test_the_rows_shown_are_spread_over_the_split_by_the_seed():
    found = spread(80, 8, seed=0)
    assert [row // 10 for row in found] == list(range(8)) and found == spread(80, 8, seed=0) != spread(80, 8, seed=1)
    assert spread(3, 8, seed=0) == [0, 1, 2]


def test_images_of_other_shapes_are_shown_whole(examples):
    examples[1]["image"] = torch.zeros(3, 50, 100, dtype=torch.uint8)
    picture = preview(examples, make(size=24), seed=0, labels=[])
    cell = picture[:, 8 : 8 + 96, picture.shape[2] - 8 - 3 * 100 + 4 :][:, :, :96]
    assert (cell[:, :20] == 240).all() and (cell[:, 30:66] == 0).all() and (cell[:, -20:] == 240).all()


def test_masks_and_boxes_are_drawn_where_they_come_to_lie(examples):
    for example in examples:
        example["image"] = torch.full((3, 24, 24), 100, dtype=torch.uint8)
    made = make(scale=(0.3, 0.5), flip=0.5)
    mask = torch.zeros(24, 24, dtype=torch.uint8)
    mask[6:18, 6:18] = 1
    masked = preview([example | {"mask": mask} for example in examples], made, 0, ["background", "thing"])
    boxes = {"boxes": torch.tensor([[6.0, 6.0, 18.0, 18.0]]), "classes": torch.tensor([0])}
    boxed = preview([example | boxes for example in examples], made, 0, ["thing"])
    for picture in (masked, boxed):
        colourful = (picture.int().amax(0) - picture.int().amin(0)) > 100
        assert colourful.any() and not colourful[:104].any()


def test_preview_writes_a_png_file_without_training(cli, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("PTFT_CACHE", str(tmp_path / "cache"))
    words = ("dataset=image_folder", f"dataset.path={photographs}", "transform=simclr", "rows=3")
    answer = cli("data", "preview", *words, f"output={tmp_path / 'made' / 'a.png'}")
    assert answer.code == 0, answer.err
    assert "dark, light" in answer.out
    picture = np.array(Image.open(tmp_path / "made" / "a.png"))
    assert picture.shape[0] > 4 * 100 and picture.shape[2] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "made", "photos"], "no run was started"
    again = cli("data", "preview", *words, f"output={tmp_path / 'b.png'}")
    assert again.code == 0 and np.array_equal(np.array(Image.open(tmp_path / "b.png")), picture)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("peview",), 2, "there is no such action; did you mean 'preview'?"),
        (("preview", "dataset=shakespeare"), 2, "holds text, and data preview draws images"),
        (("preview", "~transform"), 2, "transform must be given"),
        (("preview", "rows=0"), 2, "rows: expected at least 1, found 0"),
        (("preview", "transform=simclir"), 2, "did you mean 'simclr'?"),
        (("preview", "transform.flipp=1"), 2, "did you mean 'flip'?"),
        (("preview", "transform.flip=2"), 2, "flip=2 is no probability"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(cli, words, code, message):
    answer = cli("data", *words)
    assert answer.code == code
    assert message in answer.complaint


def test_a_place_that_cannot_be_written_to_is_named(cli, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("PTFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    words = ("dataset=image_folder", f"dataset.path={photographs}", f"output={tmp_path / 'file' / 'a.png'}")
    answer = cli("data", "preview", *words)
    assert answer.code == 6
    assert answer.err.splitlines()[-1].startswith(f"ptft data: output={tmp_path / 'file' / 'a.png'}")


def test_a_picture_replaces_an_older_one_as_a_whole(tmp_path):
    write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))
    write_png(tmp_path / "a.png", torch.ones(3, 4, 4))
    assert np.array(Image.open(tmp_path / "a.png")).min() == 255
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
