"""Published vocabularies against the tokenizers of the library that published them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, trainers

from ptft.data.published import Published, read
from ptft.data.tokenizer import Tokenizer
from ptft.errors import CheckpointError

TEXTS = ["The Cat naïvely sat; 12 mats!", "a [SEP] b <mask> c\n\n  d", "日本 the cat's hat ", ""]
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@pytest.fixture(scope="module")
def word_pieces() -> dict[str, int]:
    backend = tokenizers.BertWordPieceTokenizer(lowercase=False)
    backend.train_from_iterator(TEXTS * 2, min_frequency=1, special_tokens=list(BERT), show_progress=False)
    return backend.get_vocab()


@pytest.fixture(scope="module")
def byte_pairs() -> tuple[dict[str, int], list[str]]:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [*ROBERTA, "<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]


def word_piece_folder(folder: Path, vocabulary: dict[str, int], **settings) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.get)))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def byte_pair_folder(folder: Path, vocabulary: dict[str, int], merges: list[str], **settings) -> Path:
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def assert_same(ours: Tokenizer, theirs) -> None:
    expected = theirs(TEXTS, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert [ids.tolist() for ids in ours.encode(TEXTS)] == expected
    for role in ("pad", "unk", "cls", "sep", "mask"):
        wanted = getattr(theirs, f"{role}_token_id")
        assert wanted is None or getattr(ours, f"{role}_id") == wanted


@pytest.mark.parametrize(
    "settings", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
)
def test_vocab_txt_is_read_as_bert_reads_it(settings, word_pieces, tmp_path):
    ours = read(word_piece_folder(tmp_path, word_pieces, **settings))
    assert_same(ours, transformers.BertTokenizer(vocab=word_pieces, **settings))
    assert ours.eos_id == ours.sep_id
    assert ours.between == (ours.sep_id,)


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}])
def test_vocab_json_is_read_as_roberta_reads_it(settings, byte_pairs, tmp_path):
    vocabulary, merges = byte_pairs
    ours = read(byte_pair_folder(tmp_path, vocabulary, merges, **settings))
    pairs = [tuple(merge.split(" ")) for merge in merges]
    assert_same(ours, transformers.RobertaTokenizer(vocab=vocabulary, merges=pairs, **settings))
    assert ours.between == (ours.sep_id, ours.sep_id)


def test_gpt2s_one_special_token_plays_every_part(byte_pairs, tmp_path):
    vocabulary = {token: index - 5 for token, index in byte_pairs[0].items() if token not in ROBERTA}
    pairs = [tuple(merge.split(" ")) for merge in byte_pairs[1]]
    theirs = transformers.GPT2Tokenizer(vocab=vocabulary, merges=pairs)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert_same(ours, theirs)
    assert set(ours.special_ids) == {theirs.eos_token_id}
    assert ours.kind == "bpe"
    assert ours.decode(ours.encode(TEXTS[:1])[0]) == TEXTS[0]


def test_training_it_gives_what_was_published_whatever_the_text(word_pieces, tmp_path):
    folder = word_piece_folder(tmp_path, word_pieces)
    assert Published(str(folder)).train(["else"]).hash == read(folder).hash


def test_what_is_no_vocabulary_is_refused_by_name(word_pieces, tmp_path):
    with pytest.raises(CheckpointError, match="holds no vocabulary"):
        read(tmp_path)
    word_piece_folder(tmp_path, {token: index for index, token in enumerate(BERT[:3])})
    with pytest.raises(CheckpointError, match=r"no \[SEP\] token"):
        read(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="cannot read the vocabulary"):
        read(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: damaged"):
        read(tmp_path)


def test_ids_with_gaps_are_refused(word_pieces, tmp_path):
    vocabulary = {token: index + (index > 20) for token, index in word_pieces.items()}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="have gaps"):
        read(tmp_path)
