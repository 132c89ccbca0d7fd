"""`ptft data preview`: the picture holds what a model will see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ptft import build
from ptft.canvas import tile, write_png
from ptft.commands.data import preview, spread
from ptft.data.transforms import Views
from ptft.randomness import Draw
from ptft.terminal import printable

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
        (("preview", "dataset=analogies", "dataset.path=x"), 2, "there is nothing to learn from it"),
        (("preview", "dataset=digits", "objective=mml"), 2, "did you mean 'mlm'?"),
        (("preview", "dataset=diabetes", "task=tag"), 2, "objective Tag is for text, and dataset Tabular holds table"),
        (("preview", "objective=skipgram"), 2, "objective SkipGram is for text, and dataset ImageArrays holds image"),
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


@pytest.mark.parametrize("objective", ["classify", "mae", "contrastive", "moco", "dino", "rotation", "denoise", "vae"])
def test_what_an_objective_of_images_brings_for_training_does_not_matter_here(objective, cli, tmp_path):
    answer = cli("data", "preview", f"objective={objective}", f"output={tmp_path / 'a.png'}", "rows=2")
    assert answer.code == 0 and (tmp_path / "a.png").exists(), answer.err


def shown(cli, tmp_path, *words) -> list[str]:
    """The lines of the examples, which are printed and written alike."""
    answer = cli("data", "preview", *words, f"output={tmp_path / 'made' / 'a.png'}", "rows=3")
    assert answer.code == 0, answer.err
    written = (tmp_path / "made" / "a.txt").read_text().splitlines()
    assert answer.out.splitlines()[: len(written)] == [line.rstrip() for line in written]
    return written


def test_the_text_shown_is_the_first_batch_of_a_run_with_its_hidden_tokens(cli, compose, data, tmp_path):
    words = (*data.text, "tokenizer=byte")
    stage = build.stage(compose("pretrain", *words))
    batch = next(stage.loader("train", 3).batches(0))
    hidden = dict(zip(batch["index"].tolist(), batch["targets"].tolist(), strict=True))
    names = dict(zip(stage.tokenizer.special_ids, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]"), strict=True))
    spell = [names.get(index) or stage.tokenizer.decode([index]) for index in range(stage.tokenizer.vocab_size)]
    expected = ""
    for row, tokens in enumerate(batch["inputs"]["tokens"].tolist()):
        places = [row * len(tokens) + place for place in range(len(tokens))]
        pairs = [(spell[token], hidden.get(place)) for token, place in zip(tokens, places, strict=True) if token]
        shown_tokens = [f"[{text.strip('[]')}->{spell[truth]}]" if truth is not None else text for text, truth in pairs]
        expected += f"row {row + 1}\n  sees   {printable('|'.join(shown_tokens)).replace(chr(10), chr(92) + 'n')}\n"
    lines = shown(cli, tmp_path, *words)
    assert "".join(f"{line}\n" for line in lines) == expected
    assert lines != shown(cli, tmp_path, *words, "seed=1")


def test_next_tokens_stand_below_those_that_are_read(cli, data, tmp_path):
    _, sees, wanted, *_ = shown(cli, tmp_path, *data.text, "objective=clm", "tokenizer=byte")
    following, wanted = sees.removeprefix("  sees   ").split("|")[1:], wanted.removeprefix("  wanted ").split("|")
    assert following and wanted[: len(following)] == following and len(wanted) - len(following) in (0, 1)


def test_labels_numbers_and_texts_to_write_stand_beside_what_is_read(cli, data, tmp_path):
    classes = shown(cli, tmp_path, *data.classes, "tokenizer=byte")
    for label, text in zip(classes[::2], classes[1::2], strict=True):
        assert label.partition(": ")[2] in text.replace("|", "")
    numbers = shown(cli, tmp_path, *data.numbers, "task=regress", "tokenizer=byte")
    for label, text in zip(numbers[::2], numbers[1::2], strict=True):
        assert float(label.partition(": ")[2]) == len(text.removeprefix("  sees   ").split("|")) - 2 + 0.5
    completions = shown(cli, tmp_path, *data.pairs, "task=generate", "tokenizer=byte")
    assert completions[2].startswith("  wanted a| |") and completions[2].endswith("|[EOS]")


def test_tags_stand_at_the_words_they_are_of(cli, tmp_path):
    (tmp_path / "tags.conll").write_text("Ann B-PER\nsings O\n\n" * 20)
    lines = shown(cli, tmp_path, "dataset=tagged_text", f"dataset.path={tmp_path / 'tags.conll'}", "tokenizer=word")
    assert "[ann->B-PER]" in lines[1].replace(" ", "") and "[sings->O]" in lines[1].replace(" ", "")


def test_features_of_a_table_are_shown_standardised_by_the_names_of_their_columns(cli, tmp_path):
    rows = [(size, kind) for size in (1.0, 3.0) for kind in ("a", "b")] * 10
    (tmp_path / "t.csv").write_text(
        "size,kind,label\n" + "".join(f"{size},{kind},{'big' if size > 2 else 'small'}\n" for size, kind in rows)
    )
    words = ("dataset=table", f"dataset.path={tmp_path / 't.csv'}", "dataset.target=label")
    words += ("dataset.valid_fraction=0", "dataset.test_fraction=0")
    for label, values in zip(*[iter(shown(cli, tmp_path, *words))] * 2, strict=True):
        assert f"size {1 if label.endswith('big') else -1}, kind=a " in values and "kind=b " in values


@pytest.mark.parametrize(
    ("target", "first"), [("dataset.target=price", "row 1: "), ("dataset.target=[old,new]", "row 1: "), (None, "row 1")]
)
def test_a_table_is_shown_for_whatever_its_target_is(target, first, cli, tmp_path):
    lines = [f"{number},{number * 1.5},{number % 2},{1 - number % 2}" for number in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["size,price,old,new", *lines]) + "\n")
    given = [target] if target else []
    written = shown(cli, tmp_path, "dataset=table", f"dataset.path={tmp_path / 't.csv'}", *given)
    assert written[0].startswith(first) and written[1].strip().startswith("size ")
    answer = written[0].removeprefix(first)
    assert ("price" in written[1]) is (target != "dataset.target=price")
    if target == "dataset.target=price":
        assert float(answer) % 1.5 == 0
    elif target:
        assert answer in ("old", "new")


def test_a_place_that_cannot_be_written_to_is_named(cli, photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("PTFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    words = ("dataset=image_folder", f"dataset.path={photographs}", f"output={tmp_path / 'file' / 'a.png'}")
    answer = cli("data", "preview", *words)
    assert answer.code == 6
    assert answer.err.splitlines()[-1].startswith(f"ptft data: output={tmp_path / 'file' / 'a.png'}")


def test_a_preview_is_never_written_over_the_data_it_shows(cli, tmp_path):
    (tmp_path / "t.txt").write_text("to be or not to be\n" * 40)
    answer = cli("data", "preview", "dataset=text", f"dataset.path={tmp_path / 't.txt'}", f"output={tmp_path / 't.png'}")
    assert answer.code == 2 and f"output={tmp_path / 't.txt'} is the file that dataset.path=" in answer.complaint
    assert (tmp_path / "t.txt").read_text() == "to be or not to be\n" * 40


def test_a_picture_replaces_an_older_one_as_a_whole(tmp_path):
    write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))
    write_png(tmp_path / "a.png", torch.ones(3, 4, 4))
    assert np.array(Image.open(tmp_path / "a.png")).min() == 255
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
