"""Words and their pieces."""

import numpy as np
import pytest

from ptft.data.pieces import WordEncoder

SENTENCES = [["the", "sun", "don't", "rises"], ["日", "本", "の", "sun", "。"], ["Über", "1999,", "☃", "hills"]]
KINDS = ("bpe", "wordpiece", "unigram", "character", "byte")


@pytest.fixture
def encode(tokenizers):
    """A sentence by a tokenizer of some kind: ids, places, pieces of the whole sentence."""

    def found(kind: str, words: list[str], room: int = 100) -> tuple:
        encoder = WordEncoder(tokenizers[kind], room)
        encoder.learn([words])
        return encoder.pieces(words)

    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", SENTENCES, ids=["english", "japanese", "odd"])
def test_every_word_has_the_pieces_between_its_places(kind, words, encode, tokenizers):
    tokens, places, length = encode(kind, words)
    tokenizer = tokenizers[kind]
    assert tokens.dtype == np.int32 and places.shape == (len(words), 2) and length == len(tokens)
    spelt = tokenizer.encode(["".join(words)])[0]
    unknown = tokenizer.unk_id in spelt
    for word, (first, last) in zip(words, places, strict=True):
        said = tokenizer.decode(tokens[first : last + 1], skip_special=False)
        assert unknown or said.replace(" ", "") == (word.lower().replace("über", "uber") if kind == "wordpiece" else word)
    assert (places[1:, 0] > places[:-1, 1]).all()


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character", "byte"])
def test_the_pieces_of_words_are_those_of_the_running_text(kind, encode, tokenizers):
    words = ["the", "sun", "rises", "over", "日", "本", "hills"]
    text = " the sun rises over日本hills"
    tokens, _, _ = encode(kind, words)
    if kind in ("character", "byte"):
        assert tokens.tolist() == tokenizers[kind].encode([text])[0].tolist()
    assert tokenizers[kind].decode(tokens) == text


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
def test_a_word_begins_with_its_first_letter_and_not_with_the_blank_before(kind, encode, tokenizers):
    tokens, places, _ = encode(kind, ["the", "sun"])
    begins = [tokenizers[kind].decode([tokens[first]]).strip() for first, _ in places]
    assert [word[0] for word in begins] == ["t", "s"]


def test_each_chinese_character_is_a_word_of_its_own(encode):
    _, places, length = encode("byte", list("日本の"))
    assert places.tolist() == [[0, 2], [3, 5], [6, 8]] and length == 9


def test_long_sentences_are_cut_between_words(encode, tokenizers):
    tokens, places, length = encode("byte", ["the", "sun", "rises"], room=10)
    assert tokenizers["byte"].decode(tokens) == " the sun"
    assert places.tolist() == [[1, 3], [5, 7], [-1, -1]]
    assert length == 14


def test_of_a_word_longer_than_the_room_the_beginning_is_kept(encode, tokenizers):
    tokens, places, _ = encode("byte", ["rises", "over"], room=4)
    assert tokenizers["byte"].decode(tokens) == " ris"
    assert places.tolist() == [[1, 3], [-1, -1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["\u200b", "", " ", "\x00"])
def test_a_word_of_nothing_has_a_piece_all_the_same(kind, word, encode):
    tokens, places, _ = encode(kind, ["sun", word, "the"])
    first, last = places[1]
    assert 0 < first <= last < len(tokens)
