"""Next-token prediction against another library's GPT-2, packing against documents alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from ptft.objective import heads
from ptft.objectives.clm import CLM


@pytest.fixture
def make_clm(make_gpt, tokenizer):
    return lambda model=None, tie=True, document_aware=False: CLM(model or make_gpt(), tokenizer, tie, document_aware).eval()


def rows(*lengths: int, following: int = 77) -> list[dict]:
    random = np.random.default_rng(0)
    return [{"tokens": random.integers(6, 300, length), "next": following} for length in lengths]


@pytest.fixture
def packed(tokenizer):
    """Two blocks of 32 tokens with documents of 9, 1, 22 and of 32 tokens; each whole one ends in [EOS]."""
    examples = rows(32, 32)
    examples[0]["tokens"][[8, 9, 31]] = tokenizer.eos_id
    examples[0]["documents"] = np.array([0] * 9 + [1] + [2] * 22)
    examples[1]["documents"] = np.full(32, 3)
    return examples


def test_targets_are_the_tokens_moved_by_one(make_clm, draw):
    examples = rows(5, 3)
    examples[1].pop("next")
    batch = make_clm().collate(examples, draw(2))
    first, second = (example["tokens"].tolist() for example in examples)
    assert batch["targets"].tolist() == [[*first[1:], 77], [*second[1:], -1, -1, -1]]
    assert batch["inputs"]["tokens"].tolist() == [first, [*second, 0, 0]]


def test_loss_and_gradient_equal_those_of_gpt2_given_its_weights(make_clm, make_gpt, draw, gpt2_weights):
    model = make_gpt(positions="learned", activation="gelu_tanh")
    vocab_size = model.token_embedding.num_embeddings
    torch.manual_seed(1)
    config = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 32}
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **config)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.load_state_dict(gpt2_weights(theirs.transformer))
    objective = make_clm(model)
    examples = rows(32, 20, 2, following=-1)
    batch = objective.collate(examples, draw(3))
    inputs = batch["inputs"]
    labels = inputs["tokens"].masked_fill(~inputs["mask"], -100)
    expected = theirs(inputs["tokens"], attention_mask=inputs["mask"], labels=labels).loss
    output = objective(batch)
    assert output.count == 31 + 19 + 1
    found = output.loss / output.count
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.backward()
    expected.backward()
    gradients = model.token_embedding.weight.grad, theirs.transformer.wte.weight.grad
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=0)


def test_logits_of_packed_documents_equal_those_of_each_alone(make_clm, packed, draw):
    objective = make_clm(document_aware=True)
    inputs = objective.collate(packed, draw(2))["inputs"]
    together = F.linear(objective.model(**inputs), objective.output_weight)
    for row, begin, end in ((0, 0, 9), (0, 9, 10), (0, 10, 32), (1, 0, 32)):
        document = inputs["tokens"][row : row + 1, begin:end]
        alone = F.linear(objective.model(document), objective.output_weight)
        torch.testing.assert_close(together[row : row + 1, begin:end], alone, atol=1e-5, rtol=0)


def test_no_document_guesses_how_the_next_one_begins(make_clm, packed, draw):
    apart, joined = (make_clm(document_aware=aware).collate(packed, draw(2)) for aware in (True, False))
    assert (joined["targets"] == -1).sum() == 0
    assert (apart["targets"] == -1).nonzero().tolist() == [[0, 8], [0, 9], [0, 31]]


def test_blocks_of_one_document_each_need_no_document_mask(make_clm, packed, draw):
    assert "documents" not in make_clm(document_aware=True).collate(packed[1:], draw(1))["inputs"]
    assert "documents" not in make_clm().collate(packed, draw(2))["inputs"]


def test_sums_and_counts_of_ragged_micro_batches_add_up_to_the_big_batch(make_clm, draw):
    objective, examples = make_clm(), rows(32, 5, 17, 30)
    whole = objective(objective.collate(examples, draw(4)))
    parts = [objective(objective.collate(examples[part], draw(4))) for part in (slice(0, 1), slice(1, 4))]
    assert sum(part.count for part in parts) == whole.count == 84
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss, rtol=1e-5, atol=0)


def test_a_fresh_model_hesitates_between_all_tokens(make_clm, draw, tokenizer):
    objective = make_clm()
    output = objective(objective.collate(rows(32, 32), draw(2)))
    assert output.loss.item() / output.count == pytest.approx(math.log(tokenizer.vocab_size), rel=0.03)


def test_bits_per_byte_count_the_bytes_of_the_targets(make_clm, draw, tokenizer):
    objective = make_clm()
    text = "To be, or not to be"
    tokens = tokenizer.encode([text])[0]
    output = objective(objective.collate([{"tokens": tokens}], draw(1)))
    means = {name: (total / count).item() for name, (total, count) in output.means.items()}
    size = len(text.encode()) - len(tokenizer.decode(tokens[:1]).encode())
    scores = objective.scores(means | {"loss": output.loss.item() / output.count.item()})
    assert scores["bits_per_byte"] == pytest.approx(output.loss.item() / math.log(2) / size)
    assert scores["perplexity"] == pytest.approx(math.exp(output.loss.item() / output.count.item()))


def test_accuracy_is_that_of_the_likeliest_token(make_clm, draw):
    objective = make_clm()
    batch = objective.collate(rows(32, 9), draw(2))
    guesses = F.linear(objective.model(**batch["inputs"]), objective.output_weight).argmax(-1)
    real = batch["targets"] != -1
    right, count = objective(batch).means["accuracy"]
    assert (right, count) == ((guesses == batch["targets"])[real].sum(), 41)


def test_a_tied_head_survives_with_the_model_and_an_untied_one_does_not(make_clm, tokenizer):
    assert heads(make_clm(tie=True)) == {}
    untied = heads(make_clm(tie=False))
    assert {name: tuple(value.shape) for name, value in untied.items()} == {"head.weight": (tokenizer.vocab_size, 32)}


def test_logits_are_those_of_the_token_after_the_text(make_clm):
    objective = make_clm(tie=False)
    tokens = torch.randint(6, 300, (2, 9))
    expected = objective.model(tokens)[:, -1] @ objective.head.weight.T
    torch.testing.assert_close(objective.logits(tokens), expected)


def test_samples_continue_the_first_text_the_same_way_each_time(make_clm, draw):
    objective = make_clm()
    batch = objective.collate(rows(32, 32), draw(2))
    first, again = (objective.samples(batch, objective(batch)) for _ in range(2))
    assert first == again and "-->" in first[0]
