"""From YAML nodes to objects: what may be named, what may be set, and how mistakes are said."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch

from ptft.errors import UserError
from ptft.models.gpt import GPT
from ptft.resolve import BASES, HOMES, _installed, check, find, resolve

NODE = {"_target_": "ptft.models.gpt.GPT"}


@pytest.fixture
def node(settings):
    """A complete description of a small causal model."""
    return {**NODE, **settings("gpt"), "dim": 32, "layers": 1}


def test_a_node_becomes_the_object_it_describes(node):
    model = resolve("model", node, {"vocab_size": 50})
    assert type(model) is GPT
    assert model.token_embedding.weight.shape == (50, 32)


def test_facts_go_only_to_parameters_that_ask_for_them(node):
    resolve("model", node, {"vocab_size": 50, "num_classes": 3, "labels": ["a"]})


def test_a_fact_that_is_not_known_is_named(node):
    with pytest.raises(UserError, match="model GPT needs vocab_size, which this data and model do not give"):
        resolve("model", node, {})


def test_what_the_constructor_refuses_is_said_with_the_name_of_the_class(node):
    with pytest.raises(UserError, match="^model GPT: .*dim=30.*heads=4"):
        resolve("model", {**node, "dim": 30}, {"vocab_size": 50})


def test_every_fault_is_reported_at_once(node):
    faulty = {**node, "dim": "wide", "dropout": True, "layers": None, "dropuot": 0.1, "_partial_": True}
    del faulty["heads"]
    assert sorted(check("model", faulty)) == [
        "model has no setting '_partial_'; choose from: "
        "activation, bias, dim, dropout, eps, heads, hidden, init_std, layers, local_heads, logit_cap, max_length, norm, "
        "positions, qk_norm, zero_init",
        "model has no setting 'dropuot'; did you mean 'dropout'?",
        "model.dim: expected a whole number, found 'wide'",
        "model.dropout: expected a number, found true",
        "model.heads must be given: model.heads=VALUE",
        "model.layers: expected a whole number, found null",
    ]


def test_a_sound_node_has_no_faults(node):
    assert check("model", node) == []


EVIL = [
    "os.system",
    "builtins.open",
    "subprocess.run",
    "pathlib.Path",
    "torch.hub.load",
    "torch.load",
    "torch.nn.Linear",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LambdaLR",
    "ptft.models.gpt.torch",
    "ptft.models.gpt.nn.Linear",
    "ptft.models.gpt.nn",
    "ptft.models.gpt._hidden",
    "ptft.data.tokenizer.Tokenizer",
    "ptft.models_evil.Model",
    "ptft.models",
    "ptft.cli.main",
    "GPT",
    "",
    ".",
    "..GPT",
    None,
    ["ptft.models.gpt.GPT"],
]


@pytest.mark.parametrize("kind", ["model", "objective", "optimizer", "schedule", "tuning"])
@pytest.mark.parametrize("target", EVIL, ids=str)
def test_nothing_but_the_classes_of_a_kind_can_be_named(kind, target):
    with pytest.raises(UserError) as error:
        find(kind, {"_target_": target})
    assert len(str(error.value).splitlines()) == 1


def test_a_refused_module_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="not allowed: it must lie in ptft.models"):
        find("model", {"_target_": "evil.Model"})


def test_an_alias_of_a_foreign_class_is_refused(monkeypatch):
    module = types.ModuleType("ptft.models.alias")
    module.Linear = torch.nn.Linear
    monkeypatch.setitem(sys.modules, "ptft.models.alias", module)
    with pytest.raises(UserError, match="is not a class of that name"):
        find("model", {"_target_": "ptft.models.alias.Linear"})


def test_a_class_of_another_kind_is_refused():
    with pytest.raises(UserError, match="must lie in ptft.objectives or ptft.tasks"):
        find("objective", NODE)


def test_a_package_counts_only_where_the_user_trusts_it(tmp_path, monkeypatch):
    (tmp_path / "mylab.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n  def __init__(self, dim: int):\n"
        "    super().__init__()\n    self.dim = dim\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "mylab.Net", "dim": 3}
    with pytest.raises(UserError, match="trusted_modules"):
        resolve("model", node, {})
    assert resolve("model", node, {}, trusted=["mylab"]).dim == 3


def test_an_installed_package_may_offer_itself(tmp_path, monkeypatch):
    (tmp_path / "mylab4.py").write_text("import torch\nclass Net(torch.nn.Module):\n  pass\n")
    (tmp_path / "mylab4-1.0.dist-info").mkdir()
    (tmp_path / "mylab4-1.0.dist-info" / "entry_points.txt").write_text("[ptft.modules]\nmine = mylab4\n")
    (tmp_path / "mylab4-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab4\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    _installed.cache_clear()
    try:
        assert type(resolve("model", {"_target_": "mylab4.Net"}, {})).__name__ == "Net"
    finally:
        _installed.cache_clear()


def test_trust_covers_the_package_not_what_begins_like_it(tmp_path, monkeypatch):
    (tmp_path / "mylab2.py").write_text("raise SystemExit('this ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="not allowed"):
        find("model", {"_target_": "mylab2.Net"}, trusted=["mylab"])


def test_a_missing_module_is_named():
    with pytest.raises(UserError, match="there is no module 'ptft.models.nothing'"):
        find("model", {"_target_": "ptft.models.nothing.Net"})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("\n\nclass Net(:\n", r"broken\.py:3: invalid syntax"),
        ("import json\nfrom json import dumpz\n", r"broken\.py:2: cannot import name 'dumpz' from 'json'"),
        ("import json\nimport jsonn\n", r"broken\.py:2: No module named 'jsonn'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line_that_says_where(source, said, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"^model\._target_=broken\.Net: \S*{said}.*$"):
        find("model", {"_target_": "broken.Net"}, trusted=["broken"])


@pytest.mark.parametrize("kind", ["schedule", "optimizer", "tuning"])
def test_a_new_file_beside_those_of_a_kind_is_found(kind, monkeypatch):
    home, _, name = BASES[kind].rpartition(".")
    base = getattr(importlib.import_module(home), name)
    module = types.ModuleType(f"{HOMES[kind][0]}.new")
    module.New = type("New", (base,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert find(kind, {"_target_": f"{module.__name__}.New"}) is module.New
    assert importlib.import_module(HOMES[kind][0]).__path__  # a folder, for files


def test_an_optimizer_of_torch_takes_its_own_settings():
    weight = torch.nn.Parameter(torch.zeros(2))
    node = {"_target_": "torch.optim.AdamW", "lr": 0.1, "betas": [0.8, 0.9]}
    optimizer = resolve("optimizer", node, {"params": [weight]})
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert check("optimizer", {**node, "lr": "high", "beta": 1}) == [
        "optimizer.lr: expected a number, found 'high'",
        "optimizer has no setting 'beta'; did you mean 'betas'?",
    ]


def test_a_nested_target_stays_data(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "mylab3.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n  def __init__(self, extra: dict):\n"
        "    super().__init__()\n    self.extra = extra\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    extra = {"_target_": "pathlib.Path.touch", "_args_": [str(marker)]}
    model = resolve("model", {"_target_": "mylab3.Net", "extra": extra}, {}, trusted=["mylab3"])
    assert model.extra == extra
    assert not marker.exists()
