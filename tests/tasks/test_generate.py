"""Prompts and completions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.tasks.generate import Generate


@pytest.fixture
def make_generate(make_gpt, tokenizer):
    return lambda **changes: Generate(make_gpt(**changes), tokenizer, True, max_tokens=20, temperature=0.0).eval()


def pair(prompt, completion=None) -> dict:
    example = {"tokens": np.array(prompt)}
    return example if completion is None else example | {"completion": np.array(completion)}


def test_loss_is_on_the_completion_and_its_end_only(make_generate, draw, tokenizer):
    objective = make_generate()
    sep, eos = tokenizer.sep_id, tokenizer.eos_id
    batch = objective.collate([pair([10, 11, 12], [20, 21]), pair([13], [22])], draw(2))
    assert batch["inputs"]["tokens"].tolist() == [[10, 11, 12, sep, 20, 21], [13, sep, 22, 0, 0, 0]]
    assert batch["targets"].tolist() == [20, 21, eos, 22, eos]
    logits = F.linear(objective.model(**batch["inputs"]), objective.output_weight)
    chosen = torch.cat((logits[0, 3:6], logits[1, 1:3]))
    output = objective(batch)
    torch.testing.assert_close(output.loss, F.cross_entropy(chosen, batch["targets"], reduction="sum"))
    assert output.count == 5


@pytest.mark.parametrize(("prompt", "completion"), [(60, 5), (5, 60), (60, 60)])
def test_long_pairs_are_cut_where_it_hurts_least(prompt, completion, make_generate, draw, tokenizer):
    objective = make_generate(max_length=32)
    begin, end = np.arange(100, 100 + prompt), np.arange(200, 200 + completion)
    batch = objective.collate([pair(begin, end)], draw(1))
    tokens, length = batch["inputs"]["tokens"][0].tolist(), batch["prompt_lengths"][0]
    assert len(tokens) <= 32
    assert tokens[length - 1] == tokenizer.sep_id and tokens[length - 2] == begin[-1]
    assert batch["targets"][0] == 200
    whole = len(batch["targets"]) == completion + 1
    assert (batch["targets"][-1] == tokenizer.eos_id) == whole == (completion == 5)


def test_ten_pairs_learnt_by_heart_are_written_and_end(make_generate, draw, tokenizer):
    objective = make_generate(dim=64)
    random = np.random.default_rng(0)
    pairs = [pair(random.integers(6, 300, 4), random.integers(6, 300, 1 + place % 5)) for place in range(10)]
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    batch = objective.collate(pairs, draw(10))
    for _ in range(120):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    asked = objective.collate([pair(example["tokens"]) for example in pairs], draw(10))
    output = objective(asked)
    assert output.count == 0
    written = [row["text"] for row in objective.predict(output, asked)]
    assert written == [tokenizer.decode(example["completion"]) for example in pairs]


def test_samples_show_prompt_and_completion(make_generate, draw, tokenizer):
    objective = make_generate()
    batch = objective.collate([pair(tokenizer.encode(["to be"])[0], [20])], draw(1))
    (line,) = objective.samples(batch, objective(batch))
    assert line.startswith("to be --> ")


def test_scores_are_perplexity_and_accuracy(make_generate, draw):
    objective = make_generate()
    output = objective(objective.collate([pair([10], [20, 21])], draw(1)))
    assert output.means["accuracy"][1] == 3
    assert objective.scores({"loss": 0.0}) == {"perplexity": 1.0}
