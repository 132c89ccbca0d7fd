"""Spans hidden behind one mask each, and the text they were taken from."""

import numpy as np
import pytest
import torch

from ptft.models.transformer_seq2seq import TransformerSeq2Seq
from ptft.objectives.infill import Infill, fitting, poisson
from ptft.randomness import Draw

SHAPE = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 128, "dropout": 0.0}


@pytest.fixture
def make_infill(settings, tokenizer):
    """The objective around a small model."""

    def make(mask_prob: float = 0.3, span_length: float = 3.0, **model) -> Infill:
        torch.manual_seed(0)
        built = TransformerSeq2Seq(vocab_size=tokenizer.vocab_size, **settings("transformer_seq2seq") | SHAPE | model)
        return Infill(built, tokenizer, True, mask_prob, span_length).eval()

    return make


@pytest.fixture
def texts():
    """Texts of random ordinary tokens, no two of them alike in a row."""

    def make(count: int, longest: int = 120) -> list[dict]:
        random = np.random.default_rng(0)
        return [{"tokens": 6 + random.permutation(300)[: random.integers(1, longest + 1)]} for _ in range(count)]

    return make


def seen(batch: dict) -> list[list[int]]:
    """The sources without what stands around them."""
    mask = batch["inputs"].get("mask", torch.ones_like(batch["inputs"]["tokens"], dtype=torch.bool))
    return [row[real].tolist()[1:-1] for row, real in zip(batch["inputs"]["tokens"], mask, strict=True)]


def spans(source: list[int], text: list[int], mask_id: int) -> list[list[int]]:
    """What each mask stands for: tokens differ, so those that stay say where spans begin and end."""
    found, position = [], 0
    for place, token in enumerate(source):
        if token != mask_id:
            assert text[position] == token
            position += 1
            continue
        stop = text.index(source[place + 1]) if place + 1 < len(source) else len(text)
        found.append(text[position:stop])
        position = stop
    assert position == len(text)
    return found


def test_the_source_with_its_spans_put_back_is_the_text_and_the_target_is_all_of_it(make_infill, texts, draw, tokenizer):
    examples = texts(200)
    batch = make_infill().collate(examples, draw(200))
    begun = batch["inputs"]["target"]
    targets = torch.zeros(begun.numel(), dtype=torch.int64)
    targets[batch["index"]] = batch["targets"]
    for row, (source, example) in enumerate(zip(seen(batch), examples, strict=True)):
        text = example["tokens"].tolist()
        hidden = spans(source, text, tokenizer.mask_id)
        assert sum(map(len, hidden)) == max(1, round(0.3 * len(text)))
        assert begun[row, : len(text) + 1].tolist() == [tokenizer.cls_id, *text]
        assert targets.view_as(begun)[row, : len(text) + 1].tolist() == [*text, tokenizer.eos_id]


def test_lengths_of_spans_are_poisson_and_their_places_everywhere(make_infill, draw, tokenizer):
    text = 6 + np.arange(120)
    batch = make_infill().collate([{"tokens": text}] * 1500, draw(1500))
    hidden = [spans(source, text.tolist(), tokenizer.mask_id) for source in seen(batch)]
    lengths = np.array([len(span) for several in hidden for span in several[:6]])  # the last ones may be cut
    assert abs(lengths.mean() - 3) < 0.1 and abs(lengths.var() - 3) < 0.25
    assert abs((lengths == 0).mean() - np.exp(-3)) < 0.01
    counts = np.bincount([token for several in hidden for span in several for token in span], minlength=126)[6:]
    assert abs(counts[10:-10] / 1500 - 0.3).max() < 0.06  # at the ends there is less room for spans


def test_special_tokens_are_never_hidden(make_infill, draw, tokenizer):
    text = np.arange(10, 110)
    text[[20, 21, 60]] = tokenizer.eos_id
    sources = seen(make_infill(mask_prob=0.5).collate([{"tokens": text}] * 200, draw(200)))
    assert all(source.count(tokenizer.eos_id) == 3 for source in sources)


@pytest.mark.parametrize("mask_prob", [0.01, 0.9, 0.99])
@pytest.mark.parametrize("span_length", [0.5, 3.0, 40.0])
def test_extreme_shares_still_hide_something_and_keep_the_rest(mask_prob, span_length, make_infill, texts, draw, tokenizer):
    examples = texts(60, 30)
    batch = make_infill(mask_prob, span_length).collate(examples, draw(60))
    for source, example in zip(seen(batch), examples, strict=True):
        hidden = sum(map(len, spans(source, example["tokens"].tolist(), tokenizer.mask_id)))
        assert tokenizer.mask_id in source and hidden <= max(1, round(mask_prob * len(example["tokens"])))


def test_spans_depend_on_seed_epoch_and_row_and_on_nothing_else(make_infill, texts, draw):
    collate, examples = make_infill().collate, texts(16)
    whole = seen(collate(examples, draw(16)))
    assert seen(collate(examples, draw(16))) == whole
    part = Draw(0, np.zeros(3, dtype=int), np.arange(4, 7))
    assert seen(collate(examples[4:7], part)) == whole[4:7]
    assert seen(collate(examples, draw(16, epoch=1))) != whole != seen(collate(examples, draw(16, seed=1)))


def test_lengths_are_cut_to_the_number_wanted():
    assert fitting(np.array([2, 0, 3, 4]), 4).tolist() == [2, 0, 2]
    assert fitting(np.array([2, 0, 3, 4]), 5).tolist() == [2, 0, 3]
    assert fitting(np.array([1, 1]), 5).tolist() == [1, 1]


def test_poisson_sums_are_those_of_the_distribution():
    chances = np.diff(poisson(3.0), prepend=0)
    assert chances[:4] == pytest.approx(np.exp(-3) * np.array([1, 3, 4.5, 4.5]))
    assert np.arange(len(chances)) @ chances == pytest.approx(3)


@pytest.mark.slow
def test_a_text_is_rebuilt_once_it_is_learnt_by_heart(make_infill, draw, tokenizer):
    objective = make_infill()
    text = tokenizer.encode(["to be, or not to be, that is the question"])[0]
    optimizer = torch.optim.Adam(objective.parameters(), 5e-3)
    for step in range(60):
        output = objective(objective.collate([{"tokens": text}] * 8, draw(8, epoch=step)))
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    batch = objective.collate([{"tokens": text}], draw(1, epoch=1000))
    (line,) = objective.samples(batch, objective(batch))
    assert "[MASK]" in line and line.endswith("--> to be, or not to be, that is the question")


def test_a_prompt_may_say_where_something_is_hidden(make_infill, tokenizer):
    prompt = make_infill().prompt("to be[MASK] the question")
    first, second = (part.tolist() for part in tokenizer.encode(["to be", " the question"]))
    assert prompt == [tokenizer.cls_id, *first, tokenizer.mask_id, *second, tokenizer.sep_id]


@pytest.mark.parametrize("wrong", [{"mask_prob": 0.0}, {"mask_prob": 1.0}, {"span_length": 0.0}, {"span_length": 99.0}])
def test_settings_out_of_range_are_refused_by_name(make_infill, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        make_infill(**wrong)
