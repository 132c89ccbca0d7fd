"""What is written down of a configuration."""

from __future__ import annotations

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
