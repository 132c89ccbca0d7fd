"""The README tells the truth: its tree, its commands, its recipe for an objective."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = README.split("## The tree")[1].split("## ")[0]


def named_files() -> set[str]:
    return set(re.findall(r"[\w]+\.py\b", TREE))


@pytest.mark.parametrize("path", sorted(ROOT.glob("ptft/**/*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_of_the_package_is_in_the_tree(path):
    assert path.name == "__init__.py" or path.name in named_files()


def test_every_file_in_the_tree_exists():
    assert not named_files() - {path.name for path in ROOT.glob("ptft/**/*.py")}


def test_every_group_of_options_is_in_the_tree():
    groups = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    assert groups == set(re.findall(r"(\w+)/", TREE.split("configs/ ")[1].splitlines()[1]))


@pytest.mark.parametrize("line", sorted(set(re.findall(r"scripts/\w+", README))))
def test_every_script_it_names_exists(line):
    assert (ROOT / line).exists()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_its_objective_works_as_written(tmp_path):
    """One .py and one .yaml, in a package of one's own here, make an objective that trains."""
    (python,), (yaml,) = blocks("python"), blocks("yaml")
    package = tmp_path / "mine"
    (tmp_path / "configs" / "objective").mkdir(parents=True)
    package.mkdir()
    (package / "first_half.py").write_text(python)
    mine = yaml.replace("ptft.objectives.first_half", "mine.first_half")
    (tmp_path / "configs" / "objective" / "first_half.yaml").write_text(mine)
    words = "pretrain --config-dir configs trusted_modules=[mine] objective=first_half preset=smoke tokenizer=byte run=out"
    result = subprocess.run(
        [sys.executable, "-m", "ptft", *words.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PTFT_CACHE": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "scores.json").exists()
