"""Tokenizers against the library that their files belong to."""

import json
import pickle
import random

import numpy as np
import pytest
import tokenizers as library

from ptft.data.tokenizer import SPECIALS, Tokenizer
from ptft.errors import CheckpointError

KINDS = ("bpe", "wordpiece", "unigram", "character", "byte", "word", "phrase")


def from_library(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    return library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_equal_those_of_the_saved_file_in_the_library(kind, tokenizers, odd_texts, corpus, tmp_path):
    theirs = from_library(tokenizers[kind], tmp_path)
    texts = [*odd_texts, corpus, ""]
    expected = [entry.ids for entry in theirs.encode_batch(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in tokenizers[kind].encode(texts)] == expected
    assert [ids.tolist() for ids in tokenizers[kind].encode(texts)] == expected, "words seen before give other ids"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word", "phrase"])
def test_ids_equal_the_librarys_beside_characters_of_every_kind(kind, tokenizers, tmp_path):
    theirs = from_library(tokenizers[kind], tmp_path)
    characters = [chr(code) for code in (*range(0x3400), *range(0x3400, 0xD800, 41), *range(0xE000, 0x110000, 41))]
    texts = [f"a{letter}b {letter}1{letter}, {letter}字" for letter in characters]
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    pairs = zip(texts, tokenizers[kind].encode(texts), expected, strict=True)
    assert not [text for text, ids, entry in pairs if ids.tolist() != entry.ids]


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_decoding_gives_back_any_text(kind, tokenizers, odd_texts):
    ids = tokenizers[kind].encode(odd_texts)
    assert [tokenizers[kind].decode(entry) for entry in ids] == odd_texts


def test_characters_that_were_seen_come_back_and_others_are_unknown(tokenizers, corpus):
    tokenizer = tokenizers["character"]
    assert tokenizer.decode(tokenizer.encode([corpus])[0]) == corpus
    assert tokenizer.encode(["s\u0414\U0001f600"])[0].tolist()[1:] == [tokenizer.unk_id] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_the_first_ids_and_are_never_read_from_text(kind, tokenizers):
    tokenizer = tokenizers[kind]
    assert [tokenizer.token(index) for index in range(6)] == list(SPECIALS)
    assert tokenizer.special_ids == tuple(range(6))
    ids = tokenizer.encode(["the [EOS] [MASK] sun"])[0]
    assert not set(ids.tolist()) & {tokenizer.eos_id, tokenizer.mask_id}


def test_special_tokens_are_left_out_of_decoded_text_unless_wanted(tokenizers):
    tokenizer = tokenizers["bpe"]
    ids = [*tokenizer.encode(["the sun"])[0], tokenizer.eos_id]
    assert tokenizer.decode(ids) == "the sun"
    assert tokenizer.decode(ids, skip_special=False) == "the sun[EOS]"


@pytest.mark.parametrize("kind", ["bpe", "byte", "character"])
def test_byte_lengths_add_up_to_the_bytes_of_the_text(kind, tokenizers, corpus):
    tokenizer = tokenizers[kind]
    assert tokenizer.byte_lengths[tokenizer.encode([corpus])[0]].sum() == len(corpus.encode())
    assert not tokenizer.byte_lengths[:6].any()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "phrase"])
def test_words_start_where_a_blank_or_a_mark_is(kind, tokenizers):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(["rises hills, 日本"])[0]
    pieces = ["".join(tokenizer.decode(group)) for group in np.split(ids, np.flatnonzero(tokenizer.starts_word[ids]))]
    words = [piece.strip() for piece in pieces if piece.strip()]
    assert words[:3] == ["rises", "hills", ","]


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_pickling_keep_ids_and_hash(kind, tokenizers, corpus, tmp_path):
    tokenizer = tokenizers[kind]
    tokenizer.save(tmp_path / "tokenizer.json")
    for copy in (Tokenizer.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):
        assert (copy.hash, copy.kind) == (tokenizer.hash, kind)
        assert (copy.encode([corpus])[0] == tokenizer.encode([corpus])[0]).all()


def test_other_tokenizers_have_other_hashes(tokenizers):
    assert len({tokenizer.hash for tokenizer in tokenizers.values()}) == len(tokenizers)


def test_damaged_tokenizers_are_refused_by_name_of_the_file(tokenizers, tmp_path):
    path = tmp_path / "tokenizer.json"
    text = tokenizers["bpe"].to_json()
    chance = random.Random(0)
    damaged = [text[: chance.randrange(len(text) - 2)] for _ in range(20)] + ["", "{}", "[]", "null", '{"model": 1}']
    for content in damaged:
        path.write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            Tokenizer.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Tokenizer.load(path)
    with pytest.raises(CheckpointError, match="missing.json"):
        Tokenizer.load(tmp_path / "missing.json")


def test_a_tokenizer_without_a_special_token_is_refused(tokenizers, tmp_path):
    text = tokenizers["character"].to_json().replace("[MASK]", "<mask>")
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"no \[MASK\] token"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_foreign_pipeline_goes_through_the_library(tokenizers, corpus):
    state = json.loads(tokenizers["bpe"].to_json())
    state["pre_tokenizer"]["add_prefix_space"] = True
    foreign = Tokenizer.from_json(json.dumps(state))
    assert (foreign.kind, foreign.streams) == ("other", False)
    assert foreign.encode([corpus])[0].tolist() == foreign.backend.encode(corpus).ids
