"""Adapters against the library whose layout they have."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ptft import adapters
from ptft.nn import lora


class Small(nn.Module):
    """A linear layer and a convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3)
        self.second = nn.Linear(12, 5)

    def forward(self, values):
        return self.second(self.first(values).flatten(1))


@pytest.fixture
def trained():
    """A model whose layers carry factors that are not zero."""
    torch.manual_seed(3)
    model = Small()
    lora.inject(model, ["*"], rank=2, alpha=6.0, seed=1)
    for adaptation in lora.adapted(model).values():
        nn.init.normal_(adaptation.up)
    return model


def test_the_library_makes_the_merged_weights_of_the_files(trained, tmp_path):
    raw = lora.raw_state(trained)
    adapters.write(tmp_path, raw, alpha=6.0, base="somewhere")
    fresh = Small()
    plain = lora.merged_state(trained)
    originals = {f"{name}.weight": raw[f"{name}.parametrizations.weight.original"] for name in ("first", "second")}
    fresh.load_state_dict({**plain, **originals})
    again = peft.PeftModel.from_pretrained(fresh, str(tmp_path)).merge_and_unload()
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, plain[name])


def test_what_is_read_back_is_what_was_merged(trained, tmp_path):
    raw = lora.raw_state(trained)
    adapters.write(tmp_path, raw, alpha=6.0, base="somewhere")
    found = adapters.merged(tmp_path, raw)
    assert found.keys() == {"first.weight", "second.weight"}
    for name, value in found.items():
        torch.testing.assert_close(value, lora.merged_state(trained)[name])


def test_the_files_hold_the_factors_alone_and_say_what_they_adapt(trained, tmp_path):
    adapters.write(tmp_path, lora.raw_state(trained), alpha=6.0, base="somewhere")
    shapes = {name: list(value.shape) for name, value in load_file(tmp_path / adapters.WEIGHTS).items()}
    assert shapes == {
        "base_model.model.first.lora_A.weight": [2, 2, 3, 3],
        "base_model.model.first.lora_B.weight": [3, 2, 1, 1],
        "base_model.model.second.lora_A.weight": [2, 12],
        "base_model.model.second.lora_B.weight": [5, 2],
    }
    config = json.loads((tmp_path / adapters.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 6.0, "somewhere")


def test_the_weights_of_an_lstm_have_no_place_in_the_files_and_are_named():
    model = nn.ModuleDict({"read": nn.LSTM(4, 3), "head": nn.Linear(3, 2)})
    lora.inject(model, ["*"], rank=2, alpha=6.0, seed=1)
    raw = lora.raw_state(model)
    assert adapters.layers(raw) == ["head"]
    assert adapters.without_a_place(raw) == ["read.weight_hh_l0", "read.weight_ih_l0"]
