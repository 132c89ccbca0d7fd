"""Small real things that many tests need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ptft.data.vocabulary import BPE
from ptft.models.gpt import GPT
from ptft.models.transformer import Transformer
from ptft.randomness import Draw

CONFIGS = Path(__file__).parent.parent / "configs"
TEXT = """To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer
the slings and arrows of outrageous fortune, or to take arms against a sea of troubles."""
SMALL = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 32, "dropout": 0.0}

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
