"""Small real things that many tests need."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ptft import app, handover, pictures, schema
from ptft.arguments import implied, parse
from ptft.cli import main
from ptft.commands import train as train_command
from ptft.compose import prepare
from ptft.data.vocabulary import BPE
from ptft.logs import Console
from ptft.models.gpt import GPT
from ptft.models.transformer import Transformer
from ptft.randomness import Draw

CONFIGS = Path(__file__).parent.parent / "configs"
TEXT = """To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer
the slings and arrows of outrageous fortune, or to take arms against a sea of troubles."""
SMALL = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 32, "dropout": 0.0}
# as words of a command line
TINY = ("model.dim=16", "model.layers=2", "model.heads=2", "model.hidden=32", "model.max_length=64")

BERT_PARTS = {
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
GPT2_PARTS = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.inner": "mlp.c_fc",
    "feed_forward.outer": "mlp.c_proj",
}


def pytest_collection_finish():
    """What was imported by now stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE of Hamlet's question."""
    return BPE(vocab_size=320, min_frequency=1).train([TEXT] * 3)


@pytest.fixture(scope="session")
def settings():
    """The settings of a model's YAML file, with those of the file it builds upon."""

    def read(name: str) -> dict:
        found = yaml.safe_load((CONFIGS / "model" / f"{name}.yaml").read_text())
        parents = [entry for entry in found.pop("defaults", []) if entry != "_self_"]
        merged = {key: value for parent in parents for key, value in read(parent).items()} | found
        merged.pop("_target_", None)
        return merged

    return read


@pytest.fixture
def make_gpt(settings, tokenizer):
    """A small causal model in eval mode, with settings changed by name."""
    return lambda **changes: _make(GPT, settings("gpt"), {"vocab_size": tokenizer.vocab_size, **SMALL, **changes})


@pytest.fixture
def make_transformer(settings, tokenizer):
    """A small bidirectional model in eval mode, with settings changed by name."""
    facts = {"vocab_size": tokenizer.vocab_size}
    return lambda **changes: _make(Transformer, settings("transformer"), {**facts, **SMALL, **changes})


def _make(model, settings: dict, changes: dict):
    torch.manual_seed(0)
    return model(**(settings | changes)).eval()


@pytest.fixture
def draw():
    """Randomness for `size` rows of one epoch."""
    return lambda size, epoch=0, seed=0: Draw(seed, np.full(size, epoch), np.arange(size))


@pytest.fixture(scope="session")
def bert_weights():
    """Another library's BERT under the names of ours; queries, keys and values become one matrix."""

    def convert(bert) -> dict:
        state, names = bert.state_dict(), {"weight", "bias"}
        ours = {
            "embedding.token.weight": state["embeddings.word_embeddings.weight"],
            "embedding.position.weight": state["embeddings.position_embeddings.weight"],
            "embedding.segment.weight": state["embeddings.token_type_embeddings.weight"],
            **{f"embedding.norm.{name}": state[f"embeddings.LayerNorm.{name}"] for name in names},
        }
        for layer in range(bert.config.num_hidden_layers):
            for name in names:
                own = f"encoder.layer.{layer}.attention.self"
                qkv = torch.cat([state[f"{own}.{part}.{name}"] for part in ("query", "key", "value")])
                ours[f"stack.layers.{layer}.attention.qkv.{name}"] = qkv
                for part, theirs in BERT_PARTS.items():
                    ours[f"stack.layers.{layer}.{part}.{name}"] = state[f"encoder.layer.{layer}.{theirs}.{name}"]
        return ours

    return convert


@pytest.fixture(scope="session")
def gpt2_weights():
    """Another library's GPT-2 under the names of ours; its linear maps are stored transposed."""

    def convert(gpt2) -> dict:
        state = gpt2.state_dict()
        ours = {"embedding.token.weight": state["wte.weight"], "embedding.position.weight": state["wpe.weight"]}
        ours |= {f"stack.norm.{name}": state[f"ln_f.{name}"] for name in ("weight", "bias")}
        for layer in range(gpt2.config.n_layer):
            for part, theirs in GPT2_PARTS.items():
                weight, bias = (state[f"h.{layer}.{theirs}.{name}"] for name in ("weight", "bias"))
                ours[f"stack.layers.{layer}.{part}.weight"] = weight.T if weight.dim() == 2 else weight
                ours[f"stack.layers.{layer}.{part}.bias"] = bias
        return ours

    return convert


@pytest.fixture(scope="session", autouse=True)
def one_thread(tmp_path_factory):
    """One thread, so that results are the same bits everywhere; and a cache that goes away with the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@dataclass
class Answer:
    """What a command line gave back."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The only line on standard error."""
        (line,) = self.err.splitlines()
        return line


@pytest.fixture(scope="session")
def cli():
    """Run a command line in this process: cli("pretrain", "seed=1") -> Answer."""

    def run(*words) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
        return Answer(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def compose():
    """What a command gets of a command line: compose("pretrain", "seed=1") -> plain values."""

    @functools.cache
    def composed(command: str, *words: str) -> dict:
        found = []
        arguments = parse(command, list(words))
        overrides = [*arguments.overrides, *implied(command, arguments)]
        schema.register()
        handover.register(arguments.only("ckpt"), arguments.only("part"))
        if arguments.flags:
            app.hydra_main(found.append, command, [*arguments.flag_words(), *app.QUIET, *overrides])
        else:
            app.compose_once(found.append, command, overrides)
        return prepare(found[0], command, None) | {"command": command, "argv": ["ptft", command, *words]}

    return lambda command, *words: copy.deepcopy(composed(command, *map(str, words)))


@pytest.fixture
def train(compose, monkeypatch):
    """Train without drawing: train(folder, "pretrain", "seed=1", console=None, **top-level values); raises UserError."""
    monkeypatch.setattr(pictures, "_save", lambda figure, path: Path(path).touch())

    def run(folder, command: str, *words, console=None, **values) -> Path:
        config = compose(command, *words) | {"run": str(folder)} | values
        train_command.main(config, console or Console(0, stream=io.StringIO()))
        return Path(folder)

    return run


@dataclass
class Data:
    """Small files of each kind, as the settings that name them."""

    folder: Path
    text: tuple[str, ...]
    classes: tuple[str, ...]
    numbers: tuple[str, ...]
    pairs: tuple[str, ...]


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Data:
    """Sentences about animals: as plain text, with a class, with a number, with a completion."""
    folder = tmp_path_factory.mktemp("data")
    words = itertools.product(("big", "small", "old", "red"), ("cat", "dog", "cow", "ant", "owl"), ("mat", "rug", "hilltop"))
    rows = [(f"the {size} {animal} sat on the {place}", size, animal, place) for size, animal, place in words]
    (folder / "text.txt").write_text("".join(f"{row[0]}.\n" for row in rows * 2))
    (folder / "classes.csv").write_text("text,label\n" + "".join(f"{row[0]},{row[1]}\n" for row in rows))
    (folder / "numbers.csv").write_text("text,label\n" + "".join(f"{row[0]},{len(row[0]) + 0.5}\n" for row in rows))
    pairs = ({"text": f"{row[0]}, who?", "label": f"a {row[2]}{' indeed' * (len(row[3]) > 3)}"} for row in rows)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    labelled = [
        ("dataset=labelled_text", f"dataset.path={folder / name}") for name in ("classes.csv", "numbers.csv", "pairs.jsonl")
    ]
    return Data(folder, ("dataset=text", f"dataset.path={folder / 'text.txt'}"), *labelled)


@pytest.fixture(scope="session")
def mlm_run(cli, data, tmp_path_factory) -> Path:
    """A bidirectional model pretrained for a moment."""
    return _pretrained(cli, tmp_path_factory.mktemp("mlm") / "run", "model=transformer", *data.text)


@pytest.fixture(scope="session")
def clm_run(cli, data, tmp_path_factory) -> Path:
    """A causal model pretrained for a moment."""
    return _pretrained(cli, tmp_path_factory.mktemp("clm") / "run", "model=gpt", "objective=clm", *data.text)


def _pretrained(cli, folder: Path, *words: str) -> Path:
    answer = cli("pretrain", f"run={folder}", "tokenizer=byte", "preset=smoke", *TINY, *words)
    assert answer.code == 0, answer.err
    return folder
