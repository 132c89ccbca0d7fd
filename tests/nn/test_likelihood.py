"""Likelihoods of continuations against step-by-step reading."""

import pytest
import torch

from ptft.nn.likelihood import choose, log_likelihoods
from ptft.objectives.clm import CLM


@pytest.fixture
def objective(make_gpt, tokenizer):
    return CLM(make_gpt(), tokenizer, tie=True, document_aware=False).eval()


def test_an_option_has_the_sum_of_the_log_probabilities_of_its_tokens(objective):
    prompt, options = [7, 9, 11], [[20, 21], [30], [40, 41, 42]]
    found = log_likelihoods(objective, prompt, options)
    for option, value in zip(options, found, strict=True):
        expected, seen = 0.0, list(prompt)
        for token in option:
            expected += objective.logits(torch.tensor([seen]))[0].log_softmax(-1)[token].item()
            seen.append(token)
        assert value.item() == pytest.approx(expected, abs=1e-4)


def test_what_is_too_long_loses_its_beginning(objective):
    limit = objective.model.max_length
    prompt = [6 + number % 50 for number in range(2 * limit)]
    found = log_likelihoods(objective, prompt, [[20, 21], [30, 31]])
    torch.testing.assert_close(found, log_likelihoods(objective, prompt[-limit + 1 :], [[20, 21], [30, 31]]))


def test_long_options_are_not_held_against_by_the_measure_per_byte(objective, monkeypatch):
    likelihoods = torch.tensor([-6.0, -9.0], dtype=torch.float64)
    monkeypatch.setattr("ptft.nn.likelihood.log_likelihoods", lambda *_: likelihoods)
    assert choose(objective, {"prompt": "a", "options": ["no", "certainly so"]}) == (0, 1)
