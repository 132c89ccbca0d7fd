"""Vocabularies that were published with a model, in Hugging Face's layout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from ptft.data import hub
from ptft.data.tokenizer import CASTS, Tokenizer
from ptft.errors import CheckpointError

FILES = "tokenizer.json, vocab.txt, or vocab.json with merges.txt"


class Published:
    """A tokenizer that exists already.

    path: a folder with tokenizer.json, vocab.txt, or vocab.json and merges.txt; or a name on the hub.
    """

    def __init__(self, path: str):
        self.path = path

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The published tokenizer, whatever the texts."""
        return read(hub.folder(self.path))


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a published model. Raises CheckpointError."""
    file = folder / "tokenizer.json"
    found = Tokenizer.load(file) if file.exists() else _from_vocabulary(folder)
    if max(found.backend.get_vocab().values()) + 1 != found.vocab_size:
        raise CheckpointError(
            f"{folder}: the ids of the vocabulary have gaps: {found.vocab_size} tokens have other ids than 0, 1, ..."
        )
    return found


def _from_vocabulary(folder: Path) -> Tokenizer:
    """BERT's pipeline for vocab.txt, GPT-2's for vocab.json, as the settings in tokenizer_config.json vary them."""
    settings = hub.read_json(folder / "tokenizer_config.json")
    try:
        backend = _word_pieces(folder, settings) if (folder / "vocab.txt").exists() else _byte_pairs(folder, settings)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises nothing more precise
        raise CheckpointError(f"{folder}: cannot read the vocabulary ({str(error).splitlines()[0]})") from error
    known = backend.get_vocab()
    backend.add_special_tokens(list(dict.fromkeys(name for names in CASTS for name in names if name in known)))
    return Tokenizer(backend)


def _word_pieces(folder: Path, settings: dict) -> tokenizers.Tokenizer:
    with (folder / "vocab.txt").open(encoding="utf-8") as lines:
        vocabulary = {line.rstrip("\n"): index for index, line in enumerate(lines)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _byte_pairs(folder: Path, settings: dict) -> tokenizers.Tokenizer:
    if not (folder / "vocab.json").exists() or not (folder / "merges.txt").exists():
        raise CheckpointError(f"{folder} holds no vocabulary; expected {FILES}")
    backend = tokenizers.Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    return backend
