"""Every objective and task with every dataset and kind of model: it trains, or is refused by name before anything runs.

The YAML files in configs/ are the list: a new one joins by itself.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ptft import misfits, resolve
from ptft.choices import config_dir, groups
from ptft.errors import DataError, UserError
from ptft.locate import read_yaml
from ptft.objective import lacking, learned
from ptft.records import metrics, read_json

ROOT = Path(__file__).parent.parent
OPTIONS = groups([config_dir()])
SMALL = {"dim": 16, "layers": 2, "heads": 2, "hidden": 32, "max_length": 512}
OWN = {"text", "labelled_text", "parallel_text", "table"}  # made in `files`
OWN |= {"image_folder", "image_arrays", "idx_images", "image_triplets"}
# whose files stand in tests of their own, named here
ELSEWHERE = {
    "analogies": "tests/commands/test_word_vectors.py",
    "choices": "tests/commands/test_choice.py",
    "srl": "tests/data/test_propositions.py",
}
FEW = {"sample:nuclei", "sample:blood_cells"}  # samples of a few images
LIGHT = {"ResNet": "resnet_small", "VAE": "vae", "ViT": "vit"}  # options of their classes that train in a moment
HEAVY = {"densenet121", "googlenet", "inception_v3", "vgg11"}
SIDE = 28  # pixels
# what some objectives and models ask of other parts
ASKED = {"bert": {"dataset": {"documents": "line"}}}
TASKS_OF_TEXT = {"class": "classes", "number": "numbers", "text": "pairs", None: "classes"}


@functools.cache
def read(group: str, name: str) -> dict:
    return read_yaml(OPTIONS[group][name])


def node(group: str, name: str) -> dict:
    """The settings of an option, with those of the options it builds upon."""
    found = copy.deepcopy(read(group, name))
    parents = [entry for entry in found.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return {key: value for parent in parents for key, value in node(group, parent).items()} | found


def brought(group: str, name: str, part: str) -> str | None:
    """The option of another part that an option brings along."""
    entries = [entry for entry in read(group, name).get("defaults", []) if isinstance(entry, dict)]
    return next((value for entry in entries for key, value in entry.items() if f"/{part}@" in key), None)


def families() -> dict[str, str]:
    """One option for each class of model."""
    found = {node("model", name)["_target_"]: name for name in sorted(OPTIONS["model"], reverse=True)}
    return {target: LIGHT.get(target.rpartition(".")[2], name) for target, name in found.items()}


AIMS = [*(("objective", name) for name in OPTIONS["objective"]), *(("task", name) for name in OPTIONS["task"])]
MODELS = {name: resolve.find("model", node("model", name)) for name in families().values()}
DATASETS = {name: resolve.find("dataset", node("dataset", name)) for name in OPTIONS["dataset"]}
OBJECTIVES = {aim: resolve.find("objective", node(*aim)) for aim in AIMS}


def fits(aim: tuple[str, str], dataset: str, model: str) -> bool:
    """Whether three choices go together, by what each says of itself."""
    objective, data, kind = OBJECTIVES[aim], DATASETS[dataset], MODELS[model]
    reads = objective.needs & misfits.MODALITIES or misfits.MODALITIES
    read = data.modality in reads & kind.traits
    return bool(read and not lacking(objective.needs, kind.traits) and learned(objective, data.targets))


def sources() -> list[str]:
    """One dataset of each class that needs no download."""
    here = [name for name in DATASETS if name in OWN or "???" not in node("dataset", name).values()]
    here = [name for name in here if "download" not in node("dataset", name)]
    return list({DATASETS[name]: name for name in sorted(here, key=OWN.__contains__)}.values())


def covering(aim: tuple[str, str]) -> list[tuple[str, str]]:
    """Datasets and light models, so many pairs that each that fits this aim is in one."""
    pairs = [(dataset, model) for dataset in sources() for model in MODELS if model not in HEAVY and fits(aim, dataset, model)]
    chosen, met = [], set()
    for pair in sorted(pairs, key=lambda pair: hash_of(*pair)):
        if not met.issuperset(pair):
            chosen.append(pair)
            met |= set(pair)
    return chosen


def hash_of(*names: str) -> int:
    """A number that mixes datasets and models well, the same on every machine."""
    return zlib.crc32(" ".join(names).encode())


def grid() -> list:
    """Each aim with all it fits; all but the first of every third aim slow."""
    return [
        pytest.param(aim, *pair, marks=[pytest.mark.slow] if index or number % 3 else [], id=f"{aim[1]}-{'-'.join(pair)}")
        for number, aim in enumerate(AIMS)
        for index, pair in enumerate(covering(aim))
    ]


@pytest.fixture
def launch(train, tmp_path):
    """Train two steps with some parts replaced; returns the run's folder."""

    def run(**parts):
        words = "tokenizer=byte", "preset=smoke", "trainer.steps=2", "device=cpu"
        return train(tmp_path / "run", "pretrain", *words, **parts)

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of two kinds, as folders and as arrays; pairs of texts; a table."""
    folder, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(low, low + 120, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    triplets = [f"dark/{number}.png,dark/{(number + 1) % 12}.png,light/{number}.png\n" for number in range(12)]
    (folder / "images" / "triplets.csv").write_text("anchor,positive,negative\n" + "".join(triplets))
    images = random.integers(0, 255, (40, SIDE, SIDE), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 2
    np.savez(folder / "arrays.npz", images=images, labels=labels)
    (folder / "images.idx").write_bytes(bytes([0, 0, 8, 3]) + np.array([40, SIDE, SIDE], ">i4").tobytes() + images.tobytes())
    (folder / "labels.idx").write_bytes(bytes([0, 0, 8, 1]) + np.array([40], ">i4").tobytes() + labels.tobytes())
    pairs = "".join(f"who sat on mat {number}?,cat {number}\n" for number in range(40))
    (folder / "pairs.csv").write_text(f"source,target\n{pairs}")
    alike = "".join(f"who sat on mat {number}?,cat {number},{number % 5}\n" for number in range(40))
    (folder / "alike.csv").write_text(f"text,other,label\n{alike}")
    rows = "".join(f"{random.normal():.3f},{random.normal():.3f},{number % 2},{number % 3 == 0:d}\n" for number in range(40))
    (folder / "table.csv").write_text(f"width,height,kind,spotted\n{rows}")
    return folder


def filled(name: str, target: str | None, data, files) -> dict:
    """A dataset's settings, with small files of the user's where it asks for some."""
    settings = node("dataset", name)
    own = {
        "text": {"path": str(data.folder / "text.txt")},
        "labelled_text": {"path": getattr(data, TASKS_OF_TEXT.get(target, "classes"))[1].partition("=")[2]},
        "parallel_text": {"path": str(files / "pairs.csv")},
        "table": {"path": str(files / "table.csv"), "target": ["kind", "spotted"] if target == "classes" else "kind"},
        "image_folder": {"path": str(files / "images")},
        "image_arrays": {"path": str(files / "arrays.npz")},
        "image_triplets": {"path": str(files / "images" / "triplets.csv")},
        "idx_images": {"images": str(files / "images.idx"), "labels": str(files / "labels.idx")},
    }
    if target == "likeness":
        own["labelled_text"] = {"path": str(files / "alike.csv"), "text_pair": "other"}
    little = {"valid_path": None, "test_path": None, "valid_fraction": 0.02, "test_fraction": 0.0}
    shares = {"valid_fraction": 0.2, "test_fraction": 0.0} if name in own or settings.get("path") in FEW else little
    return settings | {key: value for key, value in shares.items() if key in settings} | own.get(name, {})


def parts_of(aim: tuple[str, str], dataset: str, model: str, data, files) -> dict:
    """The nodes of three choices, and of what goes with them."""
    texts, pictures = (DATASETS[dataset].modality == kind for kind in ("text", "image"))
    small = SMALL if "text" in MODELS[model].traits else {}
    settings = {key: small.get(key, value) for key, value in node("model", model).items()}
    transform = brought(*aim, "transform") or "eval"
    parts = {"objective": node(*aim), "model": settings, "dataset": filled(dataset, OBJECTIVES[aim].target, data, files)}
    parts["transform"] = node("transform", transform) | {"size": SIDE} if pictures else None
    for part, settings in [*ASKED.get(aim[1], {}).items(), *ASKED.get(model, {}).items()]:
        parts[part] |= {key: value for key, value in settings.items() if key in parts[part]}
    return parts if texts else parts | {"tokenizer": None}


def train_a_moment(aim, dataset, model, launch, data, files) -> None:
    """Two steps; the labels of a shipped set are what they are, and may be none that this aim can learn."""
    parts = parts_of(aim, dataset, model, data, files)
    try:
        if "teacher" in parts["objective"]:
            other = {"tokenizer": node("tokenizer", "byte"), **parts, "objective": node("task", "classify")}
            taught = launch(**other, saved=yaml.safe_dump(other))  # what a checkpoint says of itself
            parts["objective"]["teacher"] = str(taught.rename(taught.with_name("teacher")))
        run = launch(**parts)
    except DataError as error:
        assert OBJECTIVES[aim].target in ("number", "classes")
        assert "expected" in str(error)
        return
    losses = [row["loss"] for row in metrics(run) if row["split"] == "train"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert math.isfinite(read_json(run / "scores.json")["valid"]["loss"])


def name_of(value) -> str:
    return value if isinstance(value, str) else value[1]


@pytest.mark.parametrize(("aim", "dataset", "model"), grid())
def test_whatever_fits_trains(aim, dataset, model, launch, data, files):
    train_a_moment(aim, dataset, model, launch, data, files)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(HEAVY & MODELS.keys()))
def test_a_large_convolutional_network_trains(model, launch, data, files):
    parts = parts_of(("task", "classify"), "image_folder", model, data, files)
    parts["transform"]["size"] = 96
    assert all(math.isfinite(row["loss"]) for row in metrics(launch(**parts)) if "loss" in row)


@pytest.mark.parametrize("aim", AIMS, ids=name_of)
def test_whatever_does_not_fit_is_refused_by_name_before_anything_is_read(aim, compose, data, files):
    composed = compose("pretrain", "device=cpu")
    each = {kind: name for name, kind in DATASETS.items()}.values()
    for dataset, model in itertools.product(each, MODELS):
        if fits(aim, dataset, model):
            continue
        with pytest.raises(UserError, match=rf"{OBJECTIVES[aim].__name__}|{DATASETS[dataset].__name__}") as refusal:
            misfits.check(composed | parts_of(aim, dataset, model, data, files))
        assert refusal.value.exit_code == 2


@pytest.mark.parametrize("aim", AIMS, ids=name_of)
def test_every_objective_and_task_has_a_dataset_and_a_model_that_fit(aim):
    assert any(fits(aim, dataset, model) for dataset in DATASETS for model in MODELS)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_is_in_the_matrix_or_has_tests_of_its_own(name):
    if "download" in node("dataset", name) or (ROOT / ELSEWHERE.get(name, "none")).exists():
        return
    assert DATASETS[name] in {DATASETS[source] for source in sources()}, (
        f"dataset={name} asks for files: add its name to OWN and small files of its kind to files() and filled(), "
        f"all three in {Path(__file__).name}"
    )


GROUPS = ("schedule", "optimizer", "tuning", "tokenizer")
PARTS = [(group, name) for group in GROUPS for name in OPTIONS[group] if "???" not in node(group, name).values()]


@pytest.mark.parametrize(("group", "name"), PARTS)
def test_every_schedule_optimizer_tuning_and_tokenizer_trains(group, name, launch, data):
    dataset = {**node("dataset", "text"), "path": data.text[1].partition("=")[2], "max_length": 32}
    run = launch(dataset=dataset, **{group: node(group, name)})
    losses = [row["loss"] for row in metrics(run) if row["split"] == "train"]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))


@pytest.mark.parametrize("trait", misfits.BETTER)
def test_a_model_that_is_named_in_place_of_another_has_what_that_one_lacks(trait):
    for name in misfits.BETTER[trait].split(" or "):
        assert not lacking(frozenset({trait}), resolve.find("model", node("model", name)).traits)
