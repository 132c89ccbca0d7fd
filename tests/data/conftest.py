"""Datasets by the defaults of their YAML files, tokenizers that are quickly trained, and odd texts."""

import importlib
import random
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "configs"
LETTERS = (
    "   \n\n\t\r\x0b\x0c\x1c\x85\xa0\u3000\u2028\u200b\ufeffab'''sdmtlver.,A1_\u2581#?![]字，。éÀ×ɏҁ½²Ⅷ”’—e\u0301\U0001f600$"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Encoded data of a test stays in its own folder."""
    monkeypatch.setenv("PTFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def choice():
    """An object of a YAML file, with some settings changed."""

    def build(group: str, name: str, **changes):
        settings = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text("utf-8")) | changes
        module, _, cls = settings.pop("_target_").rpartition(".")
        return getattr(importlib.import_module(module), cls)(**settings)

    return build


@pytest.fixture
def text(choice, tmp_path):
    """dataset=text on a file of the given content, or on a path."""

    def build(content: str | Path, **changes):
        path = content if isinstance(content, Path) else tmp_path / "corpus.txt"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        return choice("dataset", "text", path=str(path), **changes)

    return build


@pytest.fixture
def labelled(choice, tmp_path):
    """dataset=labelled_text on a csv file of the given rows."""

    def build(rows: list[tuple], header: tuple = ("text", "label"), name: str = "rows.tsv", **changes):
        lines = ["\t".join(map(str, row)) for row in [header, *rows]]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return choice("dataset", "labelled_text", path=str(tmp_path / name), **changes)

    return build


@pytest.fixture(scope="session")
def odd_texts():
    """Short texts of letters that tokenizers treat differently, in every order."""
    chance = random.Random(0)
    return ["".join(chance.choice(LETTERS) for _ in range(chance.randrange(16))) for _ in range(3000)]


@pytest.fixture(scope="session")
def corpus():
    """Lines of words, with some that are rare."""
    chance = random.Random(1)
    words = ["the", "sun", "rises", "over", "hills", "don't", "stop,", "1999", "Über", "日本", "rare"]
    return "\n".join(" ".join(chance.choices(words, k=chance.randrange(1, 12))) + "." for _ in range(400)) + "\n"


@pytest.fixture(scope="session")
def tokenizers(choice, corpus):
    """One trained tokenizer of each kind."""
    sizes = {"bpe": 320, "wordpiece": 120, "unigram": 80}
    changes = {name: {"vocab_size": size} for name, size in sizes.items()}
    changes |= {"word": {"min_count": 1}, "phrase": {"min_count": 1, "phrases": 0.9}}
    kinds = ("bpe", "wordpiece", "unigram", "character", "byte", "word", "phrase")
    options = {"phrase": "word"}
    return {kind: choice("tokenizer", options.get(kind, kind), **changes.get(kind, {})).train([corpus]) for kind in kinds}
