"""Next-token prediction against another library's GPT-2, packing against documents alone."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from ptft.nn.generation import generate
from ptft.nn.language import capped
from ptft.objective import heads
from ptft.objectives.clm import CLM
from ptft.state import load_heads


@pytest.fixture
def make_clm(make_gpt, tokenizer):
    return lambda model=None, tie=True, document_aware=False, **others: CLM(
        model or make_gpt(), tokenizer, tie, document_aware, **others
    ).eval()


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


def test_a_cap_bounds_logits_keeps_their_order_and_hardly_touches_small_ones():
    logits = torch.linspace(-60, 60, 241, requires_grad=True)
    found = capped(logits, 15.0)
    assert found.abs().max() < 15 and (found.diff() > 0).all()
    torch.testing.assert_close(found[119:122], logits[119:122], atol=1e-3, rtol=0)
    assert capped(logits, None) is logits
    assert capped(logits.bfloat16(), 15.0).dtype == torch.float32
    slope = torch.autograd.grad(found.sum(), logits)[0]
    torch.testing.assert_close(slope, 1 - (found.detach() / 15) ** 2, atol=1e-5, rtol=1e-4)


def test_a_cap_holds_in_training_evaluation_and_generation(make_clm, make_gpt, draw):
    model = make_gpt(logit_cap=2.0, init_std=0.5)
    objective = make_clm(model)
    batch = objective.collate(rows(32, 20), draw(2))
    expected = 2 * torch.tanh(model(**batch["inputs"]) @ model.token_embedding.weight.T / 2)
    assert expected.abs().max() > 1.9
    torch.testing.assert_close(objective.answer(batch["inputs"]), expected)
    loss = F.cross_entropy(expected.flatten(0, 1), batch["targets"].flatten(), ignore_index=-1, reduction="sum")
    losses = [objective.train(training)(batch).loss for training in (True, False)]
    torch.testing.assert_close(losses, [loss, loss])
    tokens = batch["inputs"]["tokens"][:1]
    torch.testing.assert_close(objective.logits(tokens, model.new_cache()), expected[:1, -1])


@pytest.mark.parametrize("change", [{"qk_norm": True}, {"logit_cap": 2.0}, {"activation": "relu_squared"}], ids=str)
def test_what_is_written_with_the_cache_is_what_is_written_without(change, make_clm, make_gpt):
    objective = make_clm(make_gpt(**change))
    with_cache, without = (generate(objective, [7, 8, 9], 20, num_samples=3, cache=cache) for cache in (True, False))
    assert with_cache == without


def test_texts_grow_from_an_eighth_to_their_full_length_in_a_share_of_the_run(make_clm):
    objective = make_clm(length_schedule=0.6).train()
    pieces = []
    for step in range(10):
        pieces.append(objective.pieces)
        objective.after_step(step / 10)
    assert pieces == [8, 8, 8, 4, 4, 2, 2, 1, 1, 1]  # the share is known from the step before
    assert make_clm(length_schedule=0.6).pieces == 1  # evaluations read all
    with pytest.raises(ValueError, match="length_schedule=1.5 is no share"):
        make_clm(length_schedule=1.5)


def test_shorter_texts_are_the_parts_of_the_longer_ones_and_none_is_left_out(make_clm, draw):
    objective, plain = make_clm(length_schedule=0.5).train(), make_clm().train()
    examples = rows(32, 21, 3)
    found = objective(objective.collate(examples, draw(3)))
    parts = []
    for example in examples:
        whole = np.append(example["tokens"], example["next"])
        starts = range(0, len(whole) - 1, 4)
        parts += [
            {"tokens": whole[at : at + 4][: len(whole) - 1 - at], "next": int(whole[min(at + 4, len(whole) - 1)])}
            for at in starts
        ]
    expected = plain(plain.collate(parts, draw(len(parts))))
    assert found.count == expected.count == 56
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=0)


def test_shorter_texts_of_packed_documents_still_keep_these_apart(make_clm, packed, draw):
    aware = make_clm(document_aware=True, length_schedule=0.5).train()
    batch = aware.collate(packed, draw(2))
    cut = aware._shorter(batch)
    assert cut["inputs"]["documents"].shape == cut["inputs"]["positions"].shape == cut["targets"].shape == (16, 4)
    assert torch.equal(cut["inputs"]["documents"].flatten(), batch["inputs"]["documents"].flatten())
    assert aware(batch).loss.isfinite()


def test_how_far_texts_have_grown_is_saved_and_runs_with_and_without_go_on_from_each_other(make_clm):
    grown, plain = make_clm(length_schedule=0.6), make_clm()
    grown.after_step(0.25)
    resumed = make_clm(length_schedule=0.6)
    load_heads(resumed, heads(grown))
    assert resumed.train().pieces == grown.train().pieces == 4
    load_heads(plain, heads(grown))
    assert plain.train().pieces == 1
    load_heads(grown, heads(make_clm()))
    assert grown.pieces == 1
    grown.after_step(0.6)
    assert heads(grown) == {}
