"""Tiny random models as Hugging Face's own library saves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, trainers

TEXTS = [
    "The big cat sat on the mat; who sat on it?",
    "An old DOG, a small ant and 12 cows naïvely hid under the hill's top!",
    "it sat",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
BERT_LIKE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_LIKE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
# kind -> name of the configuration, its sizes, the tokenizer
KINDS = {
    "bert": ("Bert", SIZES | {"max_position_embeddings": 64}, "Bert"),
    "roberta": ("Roberta", SIZES | {"max_position_embeddings": 66, "layer_norm_eps": 1e-5}, "Roberta"),
    "distilbert": ("DistilBert", DISTILBERT | {"max_position_embeddings": 64}, "Bert"),
    "gpt2": ("GPT2", GPT2, "GPT2"),
}


@pytest.fixture(scope="session", autouse=True)
def quiet():
    """The library says nothing of what it loads."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def byte_pairs(specials: tuple[str, ...]) -> dict:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(backend.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def word_pieces() -> dict:
    backend = tokenizers.BertWordPieceTokenizer()
    backend.train_from_iterator(TEXTS * 3, vocab_size=200, min_frequency=1, special_tokens=list(BERT_LIKE), show_progress=False)
    return {"vocab": backend.get_vocab()}


def make_tokenizer(kind: str) -> transformers.PreTrainedTokenizerBase:
    """One of the library's own tokenizers, of a vocabulary learned from TEXTS."""
    if kind == "Bert":
        return transformers.BertTokenizer(**word_pieces())
    if kind == "GPT2":
        return transformers.GPT2Tokenizer(**byte_pairs(("<|endoftext|>",)), pad_token="<|endoftext|>")
    return transformers.RobertaTokenizer(**byte_pairs(ROBERTA_LIKE))


@pytest.fixture
def publish(tmp_path):
    """Save a random model: publish("bert", "ForMaskedLM", hidden_act="relu") -> folder, network, tokenizer."""

    def save(kind: str, head: str = "Model", rows: int = 0, **changes) -> tuple[Path, torch.nn.Module, object]:
        name, sizes, tokenizer = KINDS[kind]
        tokenizer = make_tokenizer(tokenizer)
        config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer) + rows, **sizes, **changes)
        torch.manual_seed(1)
        more = {"add_pooling_layer": False} if head == "Model" and name in ("Bert", "Roberta") else {}
        network = getattr(transformers, f"{name}{head}")(config, **more)
        for parameter in network.eval().parameters():  # fresh biases and norms are zero and one: they would hide mistakes
            torch.nn.init.normal_(parameter, std=0.2)
        folder = tmp_path / f"{kind}{head}"
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder, network, tokenizer

    return save
