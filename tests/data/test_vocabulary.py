"""Training of tokenizers."""

import pytest

from ptft.data.vocabulary import trained
from ptft.errors import DataError, UserError

LEARNED = {"bpe": 300, "wordpiece": 100, "unigram": 60}


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "character", "byte"])
def test_the_same_text_gives_the_same_tokenizer(kind, choice, corpus):
    changes = {"vocab_size": LEARNED[kind]} if kind in LEARNED else {}
    assert len({choice("tokenizer", kind, **changes).train([corpus]).to_json() for _ in range(4)}) == 1


@pytest.mark.parametrize("kind", LEARNED)
def test_vocab_size_is_an_upper_bound(kind, choice, corpus):
    assert choice("tokenizer", kind, vocab_size=LEARNED[kind]).train([corpus]).vocab_size <= LEARNED[kind]
    assert choice("tokenizer", kind, vocab_size=50000).train([corpus]).vocab_size < 1000


@pytest.mark.parametrize("kind", LEARNED)
def test_a_vocabulary_smaller_than_its_alphabet_is_refused(kind, choice, corpus):
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size=20 is too small: expected at least \d+"):
        choice("tokenizer", kind, vocab_size=20).train([corpus])


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "character"])
def test_a_tokenizer_needs_text(kind, choice):
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        choice("tokenizer", kind).train(iter([""]))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_chinese_is_learned_and_comes_back(kind, choice):
    text = "我们今天去公园。\n今天的天气很好！\n我们很高兴，公园很大。\n" * 30
    tokenizer = choice("tokenizer", kind, vocab_size=330).train([text])
    ids = tokenizer.encode([text])[0]
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text)
    assert tokenizer.unk_id not in ids


def test_wordpiece_counts_words_by_their_frequency(choice):
    tokenizer = choice("tokenizer", "wordpiece", vocab_size=23).train(["zebra " * 2500 + "abcde " * 2])
    assert "zebra" in tokenizer.backend.get_vocab()
    assert "abcde" not in tokenizer.backend.get_vocab()


def test_a_trained_tokenizer_is_kept_until_text_or_settings_change(choice, text, corpus, monkeypatch):
    trainer = choice("tokenizer", "wordpiece", vocab_size=90)
    calls = []
    monkeypatch.setattr(type(trainer), "train", lambda self, texts: calls.append(1) or choice("tokenizer", "byte").train(texts))
    first = trained(trainer, text(corpus), [])
    assert trained(trainer, text(corpus), []).hash == first.hash
    assert len(calls) == 1
    trained(choice("tokenizer", "wordpiece", vocab_size=91), text(corpus), [])
    trained(trainer, text(corpus + "more words\n"), [])
    assert len(calls) == 3
