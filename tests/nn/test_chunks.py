"""Chunks of sentences: nothing lost, nothing mixed, read from the file."""

import pickle

import numpy as np
import pytest

from ptft.data.rows import Blocks
from ptft.data.vocabulary import BPE, Character, Unigram, WordPiece
from ptft.nn.chunks import Chunks, closing, enough, sentence_ends

EOS, DOT = 5, 6


@pytest.fixture
def running(tmp_path):
    """Rows of running text: running([document, ...], length), each document its tokens without [EOS]."""

    def build(documents: list, length: int = 16) -> Blocks:
        ids = [np.append(document, EOS) for document in documents]
        np.concatenate(ids).astype("uint16").tofile(tmp_path / "x.ids")
        np.cumsum([len(part) for part in ids], dtype=np.int64).tofile(tmp_path / "x.ends")
        return Blocks(tmp_path / "x.ids", tmp_path / "x.ends", "uint16", length, EOS)

    return build


@pytest.fixture
def closes():
    """One token of a hundred ends sentences."""
    return np.arange(100) == DOT


@pytest.fixture
def prose():
    """Documents of many lengths, with sentences of about ten tokens, some of them endless."""
    random = np.random.default_rng(0)
    documents = [random.integers(7, 100, size) for size in (1, 2, 5, 16, 17, 40, 150, 700)]
    for document in documents[:-1]:
        document[random.random(len(document)) < 0.1] = DOT
    return documents


def test_sentences_end_after_their_marks_and_nowhere_else(closes):
    tokens = np.array([9, DOT, 9, 9, 9, DOT, DOT, 9])
    assert sentence_ends(tokens, closes, 8).tolist() == [2, 6, 7, 8]
    assert sentence_ends(tokens[:6], closes, 8).tolist() == [2, 6]


def test_sentences_without_an_end_are_cut(closes):
    tokens = np.full(20, 9)
    tokens[13] = DOT
    assert sentence_ends(tokens, closes, 4).tolist() == [4, 8, 12, 14, 18, 20]


def test_the_first_sentences_that_are_enough():
    ends = np.array([3, 5, 9])
    assert [enough(ends, size).tolist() for size in (2, 3, 4, 9, 50)] == [[3], [3], [3, 5], [3, 5, 9], [3, 5, 9]]


@pytest.mark.parametrize("room", [3, 8, 13, 16, 1000])
def test_chunks_are_all_the_text_of_all_documents_in_order(room, running, closes, prose):
    chunks = Chunks(running(prose), room, closes)
    found: list[list] = [[] for _ in range(chunks.documents)]
    for row, example in enumerate(chunks.take(range(len(chunks)))):
        document = np.searchsorted(chunks.firsts, row, side="right") - 1
        found[document].append(example["tokens"])
        assert example["ends"][-1] == len(example["tokens"]) >= 2
    kept = [document for document in prose if len(document) > 1]
    assert [np.concatenate(parts).tolist() for parts in found] == [document.tolist() for document in kept]


@pytest.mark.parametrize("room", [8, 16, 50])
def test_a_chunk_ends_with_the_sentence_that_fills_the_room(room, running, closes, prose):
    chunks = Chunks(running(prose), room, closes)
    lasts = set((chunks.firsts[1:] - 1).tolist())
    for row, example in enumerate(chunks.take(range(len(chunks)))):
        assert np.diff(example["ends"], prepend=0).max() <= room // 2
        if row not in lasts:
            before = example["ends"][:-1]
            assert before[-1] < room <= len(example["tokens"])


def test_sentences_elsewhere_are_of_another_document_begin_a_sentence_and_are_enough(running, closes):
    random = np.random.default_rng(1)
    # the document of a token is told by its tens
    documents = [random.integers(10 * tens, 10 * tens + 10, 60) for tens in range(1, 9)]
    for document in documents:
        document[9::10] = DOT
    chunks = Chunks(running(documents), 16, closes)
    met = set()
    for row in range(len(chunks)):
        own = chunks[row]["tokens"]
        for place in random.random((20, 3)):
            found = chunks.elsewhere(row, 12, place)
            others = set((found[found != DOT] // 10).tolist())
            assert len(others) == 1 and others.isdisjoint((own[own != DOT] // 10).tolist())
            document = documents[others.pop() - 1]
            begin = max(at for at in range(60) if np.array_equal(document[at : at + len(found)], found))
            assert begin == 0 or document[begin - 1] == DOT or begin % 10 == 8  # or where a long sentence is cut
            assert 12 <= len(found) < 12 + 8 or begin + len(found) == 60
            met.add((row, begin))
    assert len({begin for _, begin in met}) >= 6


def test_chunks_travel_to_other_processes(running, closes, prose):
    chunks = Chunks(running(prose), 16, closes)
    chunks.take([0])
    again = pickle.loads(pickle.dumps(chunks))
    for one, other in zip(chunks.take(range(5)), again.take(range(5)), strict=True):
        assert np.array_equal(one["tokens"], other["tokens"])
    assert chunks.longest(3) == np.argsort(-chunks.lengths(), kind="stable")[:3].tolist()


TOKENIZERS = {
    "bpe": lambda: BPE(vocab_size=400, min_frequency=1),
    "wordpiece": lambda: WordPiece(vocab_size=90, min_frequency=1, lowercase=True),
    "unigram": lambda: Unigram(vocab_size=60),
    "character": Character,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_sentences_of_every_kind_of_tokenizer_end_where_marks_and_lines_do(kind):
    text = "He said no. Why? Ah!\n今日は。 So be it… "
    tokenizer = TOKENIZERS[kind]().train([text] * 20)
    closes = closing(tokenizer)
    assert not closes[list(tokenizer.special_ids)].any()
    (ids,) = tokenizer.encode([text])
    ends = sentence_ends(ids, closes, 1000)
    said = [tokenizer.decode(part).replace(" ", "").strip().lower() for part in np.split(ids, ends[:-1])]
    assert [part for part in said if part] == ["hesaidno.", "why?", "ah!", "今日は。", "sobeit…"]
