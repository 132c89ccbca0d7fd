"""Co-occurrence counts against a plain double loop."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from ptft.nn import cooccurrence
from ptft.nn.cooccurrence import TRIPLE, Triples, count_pairs

WINDOW, VOCABULARY = 4, 12


@pytest.fixture
def text():
    """Words and documents."""
    random = np.random.default_rng(0)
    return random.integers(0, VOCABULARY, 300), np.sort(random.integers(0, 5, 300))


def counted(words, documents) -> dict[tuple[int, int], float]:
    found = defaultdict(float)
    for place, word in enumerate(words):
        for other in range(max(0, place - WINDOW), place):
            if documents[place] == documents[other]:
                found[int(word), int(words[other])] += 1 / (place - other)
                found[int(words[other]), int(word)] += 1 / (place - other)
    return found


def triples(stretches, folder) -> dict[tuple[int, int], float]:
    total = count_pairs(iter(stretches), WINDOW, VOCABULARY, folder)
    found = np.fromfile(folder / "triples", TRIPLE)
    assert len(found) == total
    assert [path.name for path in folder.iterdir()] == ["triples"]
    table = {(int(first), int(second)): float(count) for first, second, count in found}
    assert len(table) == total
    return table


def test_words_count_by_one_over_their_distance_in_both_orders(text, tmp_path):
    found = triples([text], tmp_path)
    assert found == pytest.approx(counted(*text))
    assert all(found[other, one] == count for (one, other), count in found.items())


def test_pieces_of_any_size_give_the_counts_of_the_whole(text, tmp_path, monkeypatch):
    monkeypatch.setattr(cooccurrence, "MERGED_AT_ONCE", 30)
    monkeypatch.setattr(cooccurrence, "SHUFFLED_AT_ONCE", 40)
    words, documents = text
    cuts = [0, 3, 5, 100, 101, 250, 300]
    pieces = [(words[a:b], documents[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert triples(pieces, tmp_path) == pytest.approx(counted(*text))


def test_rows_of_triples_are_all_of_them_in_an_order_without_meaning(text, tmp_path):
    total = count_pairs(iter([text]), WINDOW, VOCABULARY, tmp_path)
    rows = Triples(tmp_path / "triples", total, 10)
    examples = rows.take(range(len(rows)))
    assert [len(example["count"]) for example in examples] == rows.lengths().tolist()
    first = np.concatenate([example["first"] for example in examples])
    assert len(first) == total
    assert abs(np.corrcoef(np.arange(total), first)[0, 1]) < 0.2


def test_text_of_one_word_has_no_pairs(tmp_path):
    assert count_pairs(iter([(np.array([3]), np.array([0]))]), WINDOW, VOCABULARY, tmp_path) == 0
