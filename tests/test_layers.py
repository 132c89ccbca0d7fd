"""Who may import whom, where Hydra may be seen, and what is packed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
FRONT = {
    "__main__",
    "app",
    "arguments",
    "cli",
    "completion",
    "compose",
    "explain",
    "handover",
    "help",
    "rehearsal",
    "schema",
    "sweep",
}
MIDDLE = {"build", "outcome"}
SHELVES = {"models", "objectives", "tasks"}
GROUND = {"canvas", "direction", "distributed", "duration", "errors", "lean", "lettering", "metrics", "nn", "objective"}
GROUND |= {"durable", "randomness"}
# what answers a question or a mistake before a command is imported
BEFORE_TORCH = FRONT | {
    "annotations",
    "choices",
    "duration",
    "elsewhere",
    "errors",
    "exactjson",
    "locate",
    "lock",
    "manifest",
    "protocols",
    "settings",
    "terminal",
}


def modules() -> dict[str, ast.Module]:
    """Every file of the package by its dotted name below ptft."""
    paths = sorted((ROOT / "ptft").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT / "ptft").with_suffix("").parts) for path in paths]
    return {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}


def imported(tree: ast.AST) -> set[str]:
    """Every module a piece of code imports, at any depth; names imported from ptft itself count as modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"ptft.{alias.name}" for alias in node.names} if node.module == "ptft" else {node.module}
    return found - {"ptft.__version__"}


MODULES = modules()
INNER = {
    name: {other.removeprefix("ptft.") for other in imported(tree) if other.startswith("ptft.")}
    for name, tree in MODULES.items()
}


def level(name: str) -> int:
    """The layer of a module: 5 the command line, 4 commands, 3 build, 1 what stands on torch alone, 2 all between."""
    top = name.partition(".")[0]
    layers = {5: FRONT, 4: {"commands"}, 3: MIDDLE, 1: GROUND}
    return next((number for number, members in layers.items() if top in members), 2)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_own_layer_or_a_lower_one(name):
    assert not [other for other in INNER[name] if level(other) > level(name)]


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] in SHELVES])
def test_files_on_a_shelf_know_neither_each_other_nor_another_shelf(name):
    assert not [other for other in INNER[name] if level(other) != 1]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("data.")])
def test_data_knows_nothing_of_models_and_runs(name):
    assert not [other for other in INNER[name] if level(other) != 1 and other.partition(".")[0] != "data"]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("commands.")])
def test_commands_do_not_call_each_other(name):
    assert not [other for other in INNER[name] if other.startswith("commands")]


def test_no_module_imports_itself_by_a_detour():
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name in MODULES and name not in order:
            for other in INNER[name]:
                visit(other, (*path, name))
            order.append(name)

    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in MODULES if name not in FRONT])
def test_hydra_is_seen_at_the_command_line_only(name):
    assert not {other.partition(".")[0] for other in imported(MODULES[name])} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("name", sorted(BEFORE_TORCH))
def test_what_answers_mistakes_imports_no_torch(name):
    assert "torch" not in {other.partition(".")[0] for other in imported(MODULES[name])}
    assert not [other for other in INNER[name] if level(other) < 5 and other.partition(".")[0] not in SAID_LATE]


# imported inside functions, when torch is there already or the question is answered
SAID_LATE = BEFORE_TORCH | {"metrics"}
PLAIN_TENSORS = "torch.load(path, map_location='cpu', weights_only=True)"  # for other programs' files, in one place
UNSAFE = {"pickle", "shelve", "marshal", "dill", "joblib"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_unpickles_and_nothing_is_built_by_hydra(name):
    assert not {other.partition(".")[0] for other in imported(MODULES[name])} & UNSAFE
    source = ast.unparse(MODULES[name])
    source = source.replace(PLAIN_TENSORS, "") if name == "weight_files" else source
    assert "torch.load(" not in source and "hydra.utils" not in source and "instantiate" not in source


def test_every_package_is_packed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("ptft/**/__init__.py")}
    assert set(packages) == folders | {"ptft.configs"}
