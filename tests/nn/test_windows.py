"""Windows against a plain walk over the text."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from ptft.nn.windows import STRETCH, stretches


def pairs(found) -> list[tuple[int, int]]:
    """Each word with each word in its window."""
    stretch, centre, place = np.nonzero(found.inside & (found.words >= 0)[:, None, :] & (found.centres >= 0)[:, :, None])
    return list(zip(found.centres[stretch, centre].tolist(), found.words[stretch, place].tolist(), strict=True))


def test_with_the_narrowest_window_each_word_meets_its_neighbours(draw):
    rows = [{"tokens": np.arange(50)}, {"tokens": np.arange(100, 107)}]
    found = stretches(rows, draw(2), np.ones(200), 1)
    texts = [row["tokens"].tolist() for row in rows]
    expected = [pair for text in texts for one, two in zip(text, text[1:], strict=False) for pair in ((one, two), (two, one))]
    assert sorted(pairs(found)) == sorted(expected)


def test_widths_are_uniform_and_the_same_on_both_sides(draw):
    size, window = 400, 5
    found = stretches([{"tokens": np.arange(size)}] * 20, draw(20), np.ones(size), window)
    whole = found.centres[(found.centres >= window) & (found.centres < size - window)]
    before, after = (
        np.array([sum(1 for _ in group) for group in by_side])
        for by_side in zip(
            *[_sides(found, *place) for place in zip(*np.nonzero(np.isin(found.centres, whole)), strict=True)], strict=True
        )
    )
    assert (before == after).all()
    counts = np.bincount(before, minlength=window + 1)
    assert counts[0] == 0
    assert chisquare(counts[1:]).pvalue > 0.01


def _sides(found, stretch: int, centre: int) -> tuple[list[int], list[int]]:
    around = found.words[stretch][found.inside[stretch, centre]]
    middle = found.centres[stretch, centre]
    return [word for word in around if 0 <= word < middle], [word for word in around if word > middle]


def test_windows_end_with_the_document_and_with_the_row(draw):
    documents = np.repeat([3, 4, 9], [10, 1, 30])
    rows = [{"tokens": np.arange(41), "documents": documents}, {"tokens": np.arange(50, 60)}]
    found = pairs(stretches(rows, draw(2), np.ones(100), 4))
    assert all(documents[one] == documents[two] for one, two in found if one < 50)
    assert all((one < 50) == (two < 50) for one, two in found)
    assert not [pair for pair in found if 10 in pair]


def test_what_is_left_out_takes_no_place(draw):
    keep = np.ones(60)
    keep[1::2] = 0
    found = pairs(stretches([{"tokens": np.arange(60)}], draw(1), keep, 1))
    assert sorted(found) == sorted([(one, one + 2) for one in range(0, 58, 2)] + [(one + 2, one) for one in range(0, 58, 2)])


def test_words_are_kept_with_their_probability(draw):
    keep = np.array([0.2, 0.9])
    found = stretches([{"tokens": np.arange(1000) % 2}] * 40, draw(40), keep, 2)
    counts = np.bincount(found.centres[found.centres >= 0])
    assert np.abs(counts / 20_000 - keep).max() < 0.01


def test_a_text_of_which_nothing_stays_has_no_stretch(draw):
    found = stretches([{"tokens": np.arange(5)}], draw(1), np.zeros(5), 3)
    assert found.words.shape == (0, STRETCH + 6) and found.inside.shape == (0, STRETCH, STRETCH + 6)
