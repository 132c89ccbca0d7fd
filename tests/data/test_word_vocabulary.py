"""The tokenizer of whole words, and of phrases."""

from __future__ import annotations

import pytest
from gensim.models.phrases import Phrases

from ptft.errors import UserError

TEXT = "New York is new. He's in New York; Über-Straße «да»\n我们 today\n"


@pytest.fixture
def word(choice):
    """A tokenizer of words, trained: word(text, min_count=1, ...)."""
    return lambda text, **changes: choice("tokenizer", "word", **{"min_count": 1} | changes).train([text])


def said(tokenizer, text: str) -> list[str]:
    return [tokenizer.token(index) for index in tokenizer.encode([text])[0]]


def test_marks_are_apart_and_chinese_characters_words_of_their_own(word):
    assert said(word(TEXT), TEXT) == [
        *["new", "york", "is", "new", ".", "he's", "in", "new", "york", ";", "über", "-", "straße", "«", "да", "»"],
        *["我", "们", "today"],
    ]


def test_marks_can_be_kept_and_case_too(word):
    tokenizer = word(TEXT, marks="kept", lowercase=False)
    assert said(tokenizer, TEXT)[:9] == ["New", "York", "is", "new.", "He's", "in", "New", "York;", "Über-Straße"]


def test_text_that_was_cut_into_words_before_is_cut_at_its_blanks_only(word):
    text = "東京 の 道 は 閉まっ て いる 。\nDie Straße , im Lager-Süd\n東京 の 道\n"
    tokenizer = word(text, marks="blanks", lowercase=False)
    assert said(tokenizer, text) == text.split()
    assert tokenizer.kind == "word"
    phrases = word(text + "富士 山 、 富士 山 。\n", marks="blanks", lowercase=False, phrases=0.5)
    assert said(phrases, "富士 山 。 道") == ["富士_山", "。", "道"]


def test_a_text_cannot_spell_a_special_token(word):
    for marks in ("apart", "kept", "blanks"):
        tokenizer = word("a [EOS] [PAD] b", marks=marks, lowercase=False)
        assert not set(tokenizer.encode(["[EOS] [PAD][UNK] [MASK]"])[0]) & {0, 4, 5}


def test_words_are_numbered_by_frequency_and_rare_ones_unknown(word):
    tokenizer = word("c c c b b a a d", min_count=2)
    assert [tokenizer.token(index) for index in range(6, tokenizer.vocab_size)] == ["c", "a", "b"]
    assert said(tokenizer, "d c") == ["[UNK]", "c"]
    assert word("c c c b b a a d", vocab_size=8).vocab_size == 8


def test_a_text_whose_words_are_all_rare_is_refused(word):
    with pytest.raises(UserError, match=r"tokenizer\.min_count=5: no word of this text occurs that often"):
        word("all words once", min_count=5)


def test_words_decode_with_blanks_between_them(word):
    tokenizer = word(TEXT)
    assert tokenizer.decode(tokenizer.encode(["in New York"])[0]) == "in new york"


def word2phrase(worda_count, wordb_count, bigram_count, len_vocab, min_count, corpus_word_count):
    """The score of word2phrase.c; gensim's own multiplies by the number of different words."""
    return (bigram_count - min_count) / worda_count / wordb_count * corpus_word_count


def test_phrases_are_those_that_gensim_finds(word, corpus):
    text = corpus.replace(".", "").replace(",", "").replace("日本", "rare")
    lines = [line.split() for line in text.splitlines()]
    theirs = Phrases(lines, min_count=3, threshold=0.8, delimiter="_", scoring=word2phrase)
    tokenizer = word(text, min_count=3, phrases=0.8, marks="kept", lowercase=False)
    found = {token for token in tokenizer.backend.get_vocab() if "_" in token}
    assert found == theirs.export_phrases().keys()
    assert 1 < len(found) < 60


def test_a_phrase_is_two_words_with_one_blank_between_them_and_is_joined_from_the_left(word):
    text = "we like san francisco bay .\n" * 20 + "".join(
        f"{name}\n" * 40 for name in ("we", "like", "san", "bay", "francisco", ".")
    )
    tokenizer = word(text, phrases=1.5, min_count=1)
    assert {token for token in tokenizer.backend.get_vocab() if "_" in token} >= {"we_like", "like_san", "san_francisco"}
    assert said(tokenizer, "Like San Francisco, san francisco's san  francisco") == [
        *["like_san", "francisco", "[UNK]"],
        *["san", "[UNK]", "san", "francisco"],
    ]
    assert said(tokenizer, "san\nfrancisco san_francisco san francisco") == [
        "san",
        "francisco",
        "san_francisco",
        "san_francisco",
    ]


def test_words_of_a_phrase_stay_known(word):
    tokenizer = word("new york\n" * 50 + "old\n" * 50, phrases=0.5, min_count=1)
    assert said(tokenizer, "new york\nold york") == ["new_york", "old", "york"]
