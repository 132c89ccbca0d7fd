"""Beam search against trying out every text."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from ptft.nn.beams import length_penalty, search

WORDS, END = 4, 3


class Table:
    """A writer whose scores depend on all that a text has so far: one random table for each prompt."""

    def __init__(self, seeds: list[int], sharpness: float = 2.0):
        self.seeds, self.sharpness = seeds, sharpness
        self.texts: list[tuple[int, ...]] = [()] * len(seeds)

    def scores(self, seed: int, text: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, text)) % 2**40)
        return torch.randn(WORDS, generator=generator) * self.sharpness

    def advance(self, tokens):
        if tokens is not None:
            self.texts = [(*text, token) for text, token in zip(self.texts, tokens.tolist(), strict=True)]
        return torch.stack([self.scores(*pair) for pair in zip(self.seeds, self.texts, strict=True)])

    def select(self, rows):
        self.seeds, self.texts = ([part[row] for row in rows.tolist()] for part in (self.seeds, self.texts))


def every_text(longest: int):
    """All texts that end, and all of the longest length that do not."""
    for length in range(longest):
        for text in itertools.product(range(WORDS - 1), repeat=length):
            yield (*text, END)
    yield from itertools.product(range(WORDS - 1), repeat=longest)


def best_of_all(table: Table, seed: int, longest: int, alpha: float) -> list[int]:
    def score(text) -> float:
        steps = [table.scores(seed, text[:place]).double().log_softmax(-1)[token] for place, token in enumerate(text)]
        return sum(steps).item() / length_penalty(len(text), alpha)

    return [token for token in max(every_text(longest), key=score) if token != END]


def greedy(table: Table, seed: int, longest: int) -> list[int]:
    text = ()
    while len(text) < longest and (token := table.scores(seed, text).argmax().item()) != END:
        text = (*text, token)
    return list(text)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0, -0.5])
def test_enough_beams_find_the_best_of_all_texts(alpha):
    seeds = list(range(12))
    table = Table(seeds)
    expected = [best_of_all(table, seed, 4, alpha) for seed in seeds]
    assert search(Table(seeds), len(seeds), WORDS**4, alpha, 4, END) == expected
    assert len({len(text) for text in expected}) > 1


def test_one_beam_is_greedy():
    seeds = list(range(20))
    table = Table(seeds)
    assert search(table, 20, 1, 0.6, 6, END) == [greedy(Table([]), seed, 6) for seed in seeds]


def test_more_beams_find_likelier_texts_and_length_penalty_longer_ones():
    seeds = list(range(30))

    def likelihood(texts) -> float:
        table, total = Table([]), 0.0
        for seed, text in zip(seeds, texts, strict=True):
            whole = (*text, END)[:6]
            total += sum(
                table.scores(seed, whole[:place]).double().log_softmax(-1)[token].item() for place, token in enumerate(whole)
            )
        return total

    one, four = (search(Table(seeds), 30, beams, 0.0, 6, END) for beams in (1, 4))
    assert likelihood(four) > likelihood(one)
    longer = search(Table(seeds), 30, 4, 3.0, 6, END)
    assert sum(map(len, longer)) > sum(map(len, four))


def test_a_text_does_not_depend_on_those_beside_it():
    seeds = list(range(8))
    whole = search(Table(seeds), 8, 3, 0.6, 6, END)
    assert whole == [search(Table([seed]), 1, 3, 0.6, 6, END)[0] for seed in seeds]


def test_the_length_penalty_is_that_of_gnmt():
    assert length_penalty(1, 0.7) == 1
    assert length_penalty(7, 0.6) == pytest.approx(math.exp(0.6 * math.log(2)))
    assert length_penalty(50, 0.0) == 1
