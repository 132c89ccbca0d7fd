"""What is written down of a configuration."""

from __future__ import annotations

import pytest
import yaml
from omegaconf import OmegaConf

from ptft.compose import saved_text


def test_secrets_are_blanked_out_and_what_only_sounds_like_one_is_kept():
    dataset = {"hf_token": "abc", "password": "def", "mask_token": "[MASK]", "max_tokens": 5, "keys": ["label"]}
    saved = yaml.safe_load(saved_text(OmegaConf.create({"dataset": dataset}), "pretrain"))
    assert saved["dataset"] == {**dataset, "hf_token": "REDACTED", "password": "REDACTED"}


def test_text_that_looks_like_an_interpolation_stays_as_it_was_written():
    config = OmegaConf.create({"a": r"\${b}", "b": 1, "c": "${b}"})
    again = OmegaConf.create(saved_text(config, "pretrain"))
    assert (again.a, again.c) == ("${b}", 1)


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        ((), 2.0),
        (("model=gpt", "objective=clm"), 2.0),
        (("dataset=sentence_polarity_text",), 10.0),
        (("objective=mae",), 10.0),
        (("trainer=pretrain",), 10.0),
    ],
)
def test_the_text_that_ships_is_trained_on_briefly_and_other_data_for_ten_epochs(words, epochs, compose):
    assert compose("pretrain", *words)["trainer"]["epochs"] == epochs


def test_images_from_scratch_get_no_tokenizer(compose):
    composed = compose("finetune", "ckpt=null", "model=mlp", "dataset=digits")
    assert composed["tokenizer"] is None
    assert composed["transform"]["_target_"] == "ptft.data.transforms.Views"
