"""Bengio's model against its formula, word by word."""

import numpy as np
import pytest
import torch

from ptft.models.nnlm import NNLM
from ptft.nn.generation import generate
from ptft.objectives.clm import CLM

N, M, H = 4, 6, 9  # the paper's letters: words of a window with the one to guess, width of a word, hidden units


@pytest.fixture
def make_nnlm(tokenizer):
    def make(direct: bool = True, vocab_size: int | None = None) -> NNLM:
        torch.manual_seed(0)
        return NNLM(vocab_size or tokenizer.vocab_size, N - 1, M, H, direct, max_length=32, init_std=1.0).eval()

    return make


@pytest.fixture
def make_clm(make_nnlm, tokenizer):
    def make(direct: bool = True, std: float = 0.02) -> CLM:
        objective = CLM(make_nnlm(direct), tokenizer, tie=False, document_aware=False, bias=True).eval()
        for parameter in objective.parameters() if std > 0.02 else ():
            torch.nn.init.normal_(parameter, std=std)
        return objective

    return make


@pytest.mark.parametrize("direct", [True, False])
def test_scores_are_those_of_the_papers_formula(direct, make_clm):
    objective = make_clm(direct, std=0.5)
    tokens = torch.randint(6, 300, (1, 12))
    found = objective.answer({"tokens": tokens})[0]
    table, b = objective.model.token_embedding.weight, objective.head.bias
    d, matrix_h = objective.model.hidden.bias, objective.model.hidden.weight
    u, w = objective.head.weight[:, :H], objective.head.weight[:, H:]
    for place in range(12):
        words = [table[tokens[0, at]] if at >= 0 else torch.zeros(M) for at in range(place, place - N + 1, -1)]
        x = torch.cat(words)
        expected = b + u @ torch.tanh(d + matrix_h @ x) + (w @ x if direct else 0)
        torch.testing.assert_close(found[place], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("direct", [True, False])
def test_the_number_of_parameters_is_the_papers(direct, make_clm, tokenizer):
    size = tokenizer.vocab_size
    expected = size * (1 + N * M + H) + H * (1 + (N - 1) * M)
    without = 0 if direct else size * (N - 1) * M
    assert sum(parameter.numel() for parameter in make_clm(direct).parameters()) == expected - without


def test_a_word_is_guessed_from_its_window_and_nothing_else(make_nnlm):
    model = make_nnlm()
    table = model.token_embedding.weight
    tokens = torch.arange(6, 26)[None]
    model(tokens)[0, 10].sum().backward()
    assert table.grad.abs().sum(1).nonzero()[:, 0].tolist() == (tokens[0, 8:11]).tolist()


def test_padding_changes_nothing(make_nnlm):
    model = make_nnlm()
    tokens = torch.randint(300, (2, 10))
    mask = torch.arange(10) < torch.tensor([[10], [4]])
    torch.testing.assert_close(model(tokens, mask=mask)[1, :4], model(tokens[1:, :4])[0])


def test_packed_documents_get_the_features_they_get_alone(make_nnlm):
    model = make_nnlm()
    tokens = torch.randint(300, (1, 12))
    documents = torch.tensor([[0] * 5 + [1] + [2] * 6])
    packed = model(tokens, documents=documents)
    for part in (slice(0, 5), slice(5, 6), slice(6, 12)):
        torch.testing.assert_close(packed[:, part], model(tokens[:, part]))


def test_reading_in_parts_equals_reading_at_once(make_nnlm):
    model = make_nnlm()
    tokens = torch.randint(300, (3, 16))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens[:, :8].split([1, 1, 6], dim=1)]
    cache.select(torch.tensor([2, 0]))
    rest = model(tokens[[2, 0], 8:], cache=cache)
    whole = model(tokens)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, :8])
    torch.testing.assert_close(rest, whole[[2, 0], 8:])


def test_text_written_with_a_memory_is_the_text_written_without(make_clm, tokenizer):
    objective = make_clm(std=0.5)
    prompt = tokenizer.encode(["to be"])[0].tolist()
    texts = [generate(objective, prompt, 15, temperature=0, cache=cache) for cache in (True, False)]
    assert texts[0] == texts[1]


def test_a_fresh_model_is_as_unsure_as_can_be(make_clm, tokenizer, draw):
    objective = make_clm()
    output = objective(objective.collate([{"tokens": torch.randint(300, (32,)).numpy()}] * 4, draw(4)))
    assert (output.loss / output.count).item() == pytest.approx(np.log(tokenizer.vocab_size), rel=0.01)


def test_what_follows_a_window_is_learnt(make_clm, tokenizer, draw):
    objective = make_clm(std=0.1).train()
    text = tokenizer.encode(["to be, or not to be, that is the question"])[0]
    batch = objective.collate([{"tokens": text}], draw(1))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(100):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert generate(objective.eval(), text[:3].tolist(), len(text) - 3, temperature=0)[0] == text[3:].tolist()


def test_a_head_of_its_own_stands_in_where_none_can_be_tied(make_nnlm, tokenizer):
    objective = CLM(make_nnlm(), tokenizer, tie=None, document_aware=False)
    assert objective.head is not None and objective.head.in_features == objective.model.dim


def test_a_tied_head_is_refused_with_the_way_out(make_nnlm, tokenizer):
    with pytest.raises(ValueError, match="give tie=false"):
        CLM(make_nnlm(), tokenizer, tie=True, document_aware=False)
    with pytest.raises(ValueError, match="bias=true.*tie=false"):
        CLM(make_nnlm(), tokenizer, tie=True, document_aware=False, bias=True)
