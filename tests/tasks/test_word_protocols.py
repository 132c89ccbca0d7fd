"""Word similarity and analogies, against scipy and gensim on the same vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from scipy.stats import spearmanr

from ptft.data.word_vocabulary import Word
from ptft.errors import DataError, UserError
from ptft.models.embedding import Embedding
from ptft.tasks.analogy import Analogy
from ptft.tasks.word_similarity import WordSimilarity

NAMES = [f"w{number}" for number in range(40)]


@pytest.fixture
def tokenizer():
    return Word(None, 1, False, "kept", None).train([" ".join(NAMES)])


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return Embedding(tokenizer.vocab_size, 6, 100)


@pytest.fixture
def theirs(model, tokenizer):
    """gensim's view of the vectors."""
    vectors = KeyedVectors(6)
    ids = [int(tokenizer.encode([name])[0][0]) for name in NAMES]
    vectors.add_vectors(NAMES, model.token_embedding.weight.detach().numpy()[ids])
    return vectors


def test_similarities_are_ranked_as_scipy_does(model, tokenizer, theirs):
    random = np.random.default_rng(0)
    pairs = [tuple(NAMES[place] for place in random.integers(0, 40, 2)) for _ in range(30)]
    judgements = random.normal(size=30)
    rows = [
        {"tokens": tokenizer.encode([one])[0], "pair": tokenizer.encode([two])[0], "label": label}
        for (one, two), label in zip(pairs, judgements, strict=True)
    ]
    unknown = {"tokens": tokenizer.encode(["nobody"])[0], "pair": tokenizer.encode(["w1"])[0], "label": 100.0}
    found = WordSimilarity(model, tokenizer).measure([*rows, unknown, unknown])
    expected = spearmanr([theirs.similarity(*pair) for pair in pairs], judgements).statistic
    assert found["spearman"] == pytest.approx(expected)
    assert found["coverage"] == pytest.approx(30 / 32)


def test_rows_that_are_no_pairs_and_pairs_of_unknown_words_are_refused(model, tokenizer):
    task = WordSimilarity(model, tokenizer)
    with pytest.raises(UserError, match=r"dataset\.text_pair=COLUMN"):
        task.measure([{"tokens": np.array([7]), "label": 1.0}])
    with pytest.raises(DataError, match="both words of 0 of 1 pairs"):
        task.measure([{"tokens": np.array([7]), "pair": np.array([tokenizer.unk_id]), "label": 1.0}])


def test_analogies_are_answered_as_gensim_does(model, tokenizer, theirs):
    random = np.random.default_rng(1)
    asked = [tuple(NAMES[place] for place in random.choice(40, 3, replace=False)) for _ in range(60)]
    answers = [theirs.most_similar(positive=[b, c], negative=[a], topn=1)[0][0] for a, b, c in asked]
    answers[::3] = [NAMES[(NAMES.index(answer) + 1) % 40] for answer in answers[::3]]
    ids = [tokenizer.encode([" ".join((*words, answer))])[0] for words, answer in zip(asked, answers, strict=True)]
    rows = [{"tokens": row, "section": "one" if place % 3 else "other"} for place, row in enumerate(ids)]
    rows.append({"tokens": np.array([7, 8, 9, -1]), "section": "one"})
    found = Analogy(model, tokenizer).measure(rows)
    assert found["analogy_accuracy"] == pytest.approx(40 / 60)
    assert found["coverage"] == pytest.approx(60 / 61)
    assert (found["analogy_accuracy/one"], found["analogy_accuracy/other"]) == (1.0, 0.0)


def test_questions_without_a_known_word_are_refused(model, tokenizer):
    with pytest.raises(DataError, match="none of the 1 questions"):
        Analogy(model, tokenizer).measure([{"tokens": np.full(4, -1), "section": "one"}])
