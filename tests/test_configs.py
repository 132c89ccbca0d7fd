"""The YAML files say what the code takes: no key more, no key less, each option described, each default written once."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
import yaml

from ptft import resolve, schema
from ptft.choices import commands, config_dir, description, groups
from ptft.locate import locate, read_yaml

OPTIONS = groups([config_dir()])
KINDS = {"task": "objective"}  # groups that fill the slot of another
BUILT = [(group, name) for group in OPTIONS if KINDS.get(group, group) in resolve.HOMES for name in OPTIONS[group]]
EVERY = [(group, name) for group in OPTIONS for name in OPTIONS[group]]
NOT_SETTINGS = {"defaults", "_target_"}
FOR_THE_LOOP = {"base_lr", "scale", "vector_lr", "weight_decay_end"}  # what becomes rates and decays


def node(group: str, name: str) -> dict:
    """The settings of an option, with those of the options it builds upon."""
    found = read_yaml(OPTIONS[group][name])
    parents = [entry for entry in found.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return {key: value for parent in parents for key, value in node(group, parent).items()} | found


@pytest.mark.parametrize(("group", "name"), BUILT)
def test_the_keys_of_an_option_are_the_arguments_of_its_constructor(group, name):
    settings = node(group, name)
    target = resolve.find(KINDS.get(group, group), settings)
    parameters = inspect.signature(target).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind not in resolve.VARIADIC}
    keys = settings.keys() - NOT_SETTINGS - (FOR_THE_LOOP if group == "optimizer" else set())
    facts = resolve.FACTS - keys  # a tokenizer is told the vocab_size that a model gets to know
    assert keys <= named
    if target.__module__.startswith("ptft."):  # torch's own optimizers have switches that nobody should need
        assert keys == named - facts


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_option_says_in_its_first_line_what_it_is(group, name):
    text = description(OPTIONS[group][name])
    assert len(text.split()) >= 3
    assert len(text) <= 110


def test_the_trainers_defaults_in_code_are_those_of_its_yaml_file():
    assert dataclasses.asdict(schema.Settings()) == read_yaml(OPTIONS["trainer"]["default"])


def test_finds_defaults_in_code_are_those_of_its_yaml_file():
    found = read_yaml(config_dir() / "find.yaml")["find"]
    assert dataclasses.asdict(schema.Finding()) == found


@pytest.mark.parametrize("command", commands())
def test_every_command_has_exactly_the_settings_its_yaml_file_shows(command):
    if command == "check":  # it takes those of the command it names
        return
    shown = read_yaml(config_dir() / f"{command}.yaml")
    shared = read_yaml(config_dir() / "base.yaml") if "base" in shown["defaults"] else {}
    parts = [next(iter(entry)) for entry in shown["defaults"] if isinstance(entry, dict)]
    slots = {KINDS.get(part, part) for part in parts} - {"preset", "experiment"}
    fields = {field.name: field for field in dataclasses.fields(schema.ROOTS[command])}
    assert (shown.keys() | shared.keys() | slots) - {"defaults"} == fields.keys()
    for name, value in {**shared, **shown}.items():
        default = fields[name].default if name in fields else None
        if name not in slots and name not in ("ckpt", "ckpt_load", "find", "defaults"):
            factory = fields[name].default_factory
            assert value == (default if factory is dataclasses.MISSING else factory()), name


@pytest.mark.parametrize("preset", OPTIONS["preset"])
@pytest.mark.parametrize("words", [("pretrain",), ("finetune", "ckpt=null", "model=transformer")])
def test_every_preset_goes_with_every_training_command(preset, words, compose):
    written = read_yaml(OPTIONS["preset"][preset])["trainer"]
    composed = compose(*words, f"preset={preset}")["trainer"]
    assert {name: composed[name] for name in written} == written


@pytest.mark.slow
def test_every_experiment_composes_for_the_command_it_names(compose):
    for name, path in OPTIONS.get("experiment", {}).items():
        command = re.search(r"# Command: ptft (\w+)", path.read_text())[1]
        fresh = "ckpt=null", "model=transformer", "tokenizer=bpe"
        parent = () if command == "pretrain" or "ckpt" in read_yaml(path) else fresh
        assert compose(command, *parent, f"experiment={name}")["trainer"]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_launching_from_the_saved_configuration_gives_the_same_run_and_the_same_configuration(
    stage, train, mlm_run, data, tmp_path
):
    start = ("finetune", f"ckpt={mlm_run}", *data.classes) if stage == "finetune" else ("pretrain", *data.text)
    own = () if stage == "finetune" else ("tokenizer=byte", "model=transformer_tiny", "seed=3")
    first = train(tmp_path / "first", *start, *own, "preset=smoke", "trainer.steps=2", "device=cpu")
    again = train(tmp_path / "again", stage, "--config-dir", str(first), "--config-name", "config")
    assert (again / "config.yaml").read_text() == (first / "config.yaml").read_text()
    for name in ("model.safetensors", "optim.safetensors"):
        assert (locate(f"{again}/last") / name).read_bytes() == (locate(f"{first}/last") / name).read_bytes()


def test_the_saved_configuration_names_every_value_and_keeps_no_interpolation(mlm_run):
    saved = yaml.safe_load((mlm_run / "config.yaml").read_text())
    assert saved["model"]["dim"] == 16
    assert saved["run"] is None
    assert "${" not in str(saved)
