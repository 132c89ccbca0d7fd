"""What comes from elsewhere is written once, as a checkpoint that proves itself."""

from __future__ import annotations

import pytest
import torch
import yaml

from ptft import imported
from ptft.checkpoint import read, read_asset, read_config
from ptft.errors import CheckpointError
from ptft.imported import Imported, keep
from ptft.locate import saved_config
from ptft.manifest import verify


@pytest.fixture
def found():
    """A model of one matrix, and how often it was read."""

    def read_it() -> Imported:
        read_it.calls += 1
        parts = {"tokenizer": None, "model": {"_target_": "ptft.models.gpt.GPT", "eps": 1e-12}}
        notes = ["the head is left out"]
        return Imported(parts, {"weight": torch.eye(2)}, {"bias": torch.ones(2)}, '{"a": "é"}', {"channels": 3}, notes)

    read_it.calls = 0
    return read_it


def test_a_checkpoint_holds_all_of_it(found):
    path = keep("elsewhere:all", "1", found)
    manifest = verify(path)
    assert manifest["identity"]["source"] == "elsewhere:all"
    assert manifest["identity"]["notes"] == ["the head is left out"]
    assert torch.equal(read(path, "model")["weight"], torch.eye(2))
    assert torch.equal(read(path, "objective")["bias"], torch.ones(2))
    assert saved_config(path)["model"] == {"_target_": "ptft.models.gpt.GPT", "eps": 1e-12}
    assert yaml.safe_load(read_config(path))["seed"] == 0
    assert read_asset(path, "tokenizer.json").decode() == '{"a": "é"}'


def test_it_is_read_once_for_each_source_and_content(found):
    first = keep("elsewhere:a", "1", found)
    imported.KEPT.clear()  # as another process finds it
    assert keep("elsewhere:a", "1", found) == first
    assert found.calls == 1
    assert keep("elsewhere:a", "2", found) != first
    assert keep("elsewhere:b", "1", found) != first
    assert found.calls == 3


def test_what_was_damaged_is_made_again(found):
    path = keep("elsewhere:damaged", "1", found)
    imported.KEPT.clear()
    (path / "model.safetensors").write_bytes(b"")
    assert verify(keep("elsewhere:damaged", "1", found))
    assert found.calls == 2


def test_weights_that_are_not_finite_are_refused_and_nothing_stays():
    with pytest.raises(CheckpointError, match="elsewhere:nan: its weights are not all finite"):
        keep("elsewhere:nan", "1", lambda: Imported({}, {"weight": torch.tensor([torch.nan])}))
