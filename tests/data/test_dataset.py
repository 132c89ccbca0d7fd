"""A dataset of one's own: one file that derives from Dataset, and one YAML file."""

import json
import re
import sys

import pytest

PARITY = """
import numpy as np

from ptft.data.dataset import Dataset
from ptft.data.rows import Rows


class Bits(Rows):
    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def take(self, indices):
        bits = [np.array([self.numbers[row] >> place & 1 for place in range(4)], dtype=np.float32) for row in indices]
        return [{"features": found, "label": int(found.sum()) % 2, "row": row} for found, row in zip(bits, indices)]


class Parity(Dataset):
    modality = "table"
    targets = ("class",)

    def __init__(self, copies: int):
        self.copies = copies

    def rows(self, split):
        return Bits(list(range(16)) * (self.copies if split == "train" else 1)) if split != "test" else None

    @property
    def fingerprint(self):
        return f"parity {self.copies}"

    @property
    def facts(self):
        return {"input_shape": [4], "num_classes": 2, "labels": ["even", "odd"]}
"""
YAML = """# Whether the sum of four bits is odd
defaults:
  - override /tokenizer@_global_.tokenizer: null
  - override /transform@_global_.transform: null
_target_: own_lab.Parity
copies: 8
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The words that make the dataset known."""
    (tmp_path / "own_lab.py").write_text(PARITY)
    (tmp_path / "configs" / "dataset").mkdir(parents=True)
    (tmp_path / "configs" / "dataset" / "parity.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield "--config-dir", "configs", "trusted_modules=[own_lab]"
    sys.modules.pop("own_lab", None)


def test_a_dataset_that_says_no_more_than_it_must_is_learned_and_scored(own, cli, tmp_path):
    words = "ckpt=null", "model=mlp", "model.widths=[128]", "dataset=parity", "optimizer.lr=0.01", "device=cpu"
    answer = cli("finetune", *own, *words, "trainer.steps=150", "run=run")
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["valid"]["accuracy"] > 0.9
    (line,) = re.findall("ptft (evaluate .*)", answer.out)
    assert cli(*line.replace("'", "").split(), "device=cpu").code == 0
    answer = cli("predict", "ckpt=run", "trusted_modules=[own_lab]", "input=x.csv")
    assert answer.code == 2
    assert answer.complaint == "ptft predict: dataset Parity reads no rows to predict on: it has no reader"


def test_features_without_names_are_previewed_by_their_numbers(own, cli):
    answer = cli("data", "preview", *own, "dataset=parity", "rows=2")
    assert answer.code == 0, answer.err
    assert len(re.findall(r"feature 0 [01], feature 1 [01], feature 2 [01], feature 3 [01]", answer.out)) == 2


def test_a_class_that_is_no_dataset_is_refused_by_name(own, cli, tmp_path):
    (tmp_path / "own_lab.py").write_text(PARITY.replace("(Dataset)", ""))
    answer = cli("finetune", *own, "ckpt=null", "model=mlp", "dataset=parity")
    assert answer.code == 2
    assert answer.complaint.endswith("is not a class of that name that derives from ptft.data.dataset.Dataset")


def test_a_dataset_that_does_not_say_what_it_holds_is_refused_by_name(own, cli, tmp_path):
    (tmp_path / "own_lab.py").write_text(PARITY.replace('modality = "table"', ""))
    answer = cli("finetune", *own, "ckpt=null", "model=mlp", "dataset=parity")
    assert answer.code == 2
    assert answer.complaint.endswith("own_lab.Parity has no modality: expected text, image or table")
