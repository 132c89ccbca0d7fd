"""Permutation language modelling: what is to be guessed, from what, and what is remembered."""

import numpy as np
import pytest
import torch

from ptft.models.xlnet import XLNet
from ptft.objective import heads
from ptft.objectives.plm import PLM
from ptft.randomness import Draw

SETTINGS = {"context": 6, "longest_span": 5, "whole_word": True, "mem_len": 0}
SMALL = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 64, "dropout": 0.0}


@pytest.fixture
def make_plm(settings, tokenizer):
    """An objective in eval mode around a small model, with settings of either changed by name."""

    def make(**changes) -> PLM:
        torch.manual_seed(0)
        own = {name: changes.pop(name) for name in SETTINGS if name in changes}
        model = XLNet(**settings("xlnet") | {"vocab_size": tokenizer.vocab_size, **SMALL, **changes})
        return PLM(model, tokenizer, **SETTINGS | own).eval()

    return make


@pytest.fixture
def texts(tokenizer):
    """Rows of ordinary tokens of many lengths, with an end token inside, as packed blocks have."""

    def make(count: int, longest: int = 64) -> list[dict]:
        random = np.random.default_rng(0)
        rows = [random.integers(6, tokenizer.vocab_size, random.integers(1, longest + 1)) for _ in range(count)]
        for row in rows:
            row[len(row) // 2 :: 50] = tokenizer.eos_id
        return [{"tokens": row} for row in rows]

    return make


@pytest.fixture
def blocks(tokenizer):
    """Running text in blocks of 16 tokens, the last one shorter."""
    tokens = np.random.default_rng(1).integers(6, tokenizer.vocab_size, 16 * 5 + 9)
    cuts = range(0, len(tokens), 16)
    following = [int(tokens[start + 16]) if start + 16 < len(tokens) else -1 for start in cuts]
    rows = zip(cuts, following, strict=True)
    return [{"tokens": tokens[start : start + 16], "next": after, "row": row} for row, (start, after) in enumerate(rows)]


def guessed(batch: dict) -> torch.Tensor:
    """What is to be guessed: bool [B, T]."""
    wanted = batch["targets"] != -1
    where = torch.zeros(batch["order"].shape, dtype=torch.int64)
    return where.scatter_add(1, batch["places"], wanted.long()) > 0


def test_a_sixth_of_the_words_is_guessed_whole_and_no_special_token(make_plm, draw, tokenizer):
    text = tokenizer.encode(["To be, or not to be, that is the outrageous unquestionable fortune of troubles"])[0]
    text = np.insert(text, 7, tokenizer.eos_id)
    batch = make_plm().collate([{"tokens": text}] * 500, draw(500))
    words = tokenizer.starts_word[text].cumsum() - 1
    ordinary = text != tokenizer.eos_id
    shares = []
    for row in guessed(batch).numpy():
        assert not row[~ordinary].any()
        chosen = [row[words == word].all() for word in range(words[-1] + 1)]
        assert all(row[words == word].any() == whole for word, whole in enumerate(chosen))
        shares.append(np.mean(chosen))
    assert np.mean(shares) == pytest.approx(1 / 6, abs=0.03)


def test_spans_are_as_often_as_one_over_their_length_says(make_plm):
    collate = make_plm().collate
    random = np.random.default_rng(0)
    chosen = collate._spans(200_000, random.random(200_000), random.random(200_000))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False]))))
    sizes = np.diff(edges)[::2]
    counts = np.bincount(sizes, minlength=6)[1:6] / len(sizes)
    expected = 1 / np.arange(1, 6)
    # two spans that touch are one here
    np.testing.assert_allclose(counts, expected / expected.sum(), atol=0.02)
    assert chosen.mean() == pytest.approx(1 / 6, abs=0.002)


def test_tokens_are_counted_where_words_are_not_wanted(make_plm, draw, tokenizer):
    text = tokenizer.encode(["unquestionable"] * 1)[0]
    assert len(text) > 3
    batch = make_plm(whole_word=False).collate([{"tokens": text}] * 50, draw(50))
    assert 0 < guessed(batch).float().mean() < 0.5
    assert guessed(make_plm().collate([{"tokens": text}], draw(1))).all()  # one word: all of it


def test_what_is_guessed_comes_last_in_random_order_and_all_else_together_first(make_plm, texts, draw, tokenizer):
    batch = make_plm().collate(texts(100), draw(100))
    where, tokens, order = guessed(batch), batch["inputs"]["tokens"], batch["order"]
    special = torch.isin(tokens, torch.tensor(tokenizer.special_ids))
    assert (order[~where & ~special] == -1).all()
    assert (order[where | special] >= 0).all()
    for row, mask in zip(order, where, strict=True):
        assert len(row[mask].unique()) == mask.sum()
    rising = [bool((row[mask].diff() > 0).all()) for row, mask in zip(order, where, strict=True) if mask.sum() > 3]
    assert sum(rising) < len(rising) / 2
    for row, places, targets in zip(tokens, batch["places"], batch["targets"], strict=True):
        wanted = targets != -1
        assert torch.equal(row[places[wanted]], targets[wanted])


def test_orders_depend_on_seed_epoch_and_row_and_on_nothing_else(make_plm, texts, draw):
    collate, examples = make_plm().collate, texts(16)
    whole, alone = collate(examples, draw(16)), collate(examples[3:4], Draw(0, np.zeros(1, int), np.array([3])))
    size = len(examples[3]["tokens"])
    assert torch.equal(guessed(whole)[3, :size], guessed(alone)[0])
    pairs = [batch["order"][row, :size] for batch, row in ((whole, 3), (alone, 0))]
    assert all(torch.equal(order.argsort(stable=True)[-3:], pairs[0].argsort(stable=True)[-3:]) for order in pairs)
    for other in (draw(16, epoch=1), draw(16, seed=1)):
        assert not torch.equal(collate(examples, other)["order"], whole["order"])


def test_no_guess_sees_its_own_token_nor_those_that_come_later(make_plm, texts, draw):
    objective = make_plm()
    batch = objective.collate(texts(4), draw(4))
    embedding = objective.model.embedding.token
    embedded = embedding(batch["inputs"]["tokens"]).detach().requires_grad_()
    embedding.forward = lambda _: embedded
    query, _, _ = objective.model.two_streams(batch["inputs"]["tokens"], batch["order"], batch["places"])
    logits = objective.logits(query)
    for row, places in enumerate(batch["places"]):
        for index, place in enumerate(places[batch["targets"][row] != -1]):
            (gradient,) = torch.autograd.grad(logits[row, index, 9], embedded, retain_graph=True)
            seen = gradient.abs().sum(-1) > 0
            assert not seen[torch.arange(4) != row].any()
            assert not seen[row][batch["order"][row] >= batch["order"][row, place]].any()
            assert seen[row][(batch["order"][row] == -1) & (torch.arange(len(seen[row])) < 1)].all()


def test_the_loss_is_that_of_the_targets_alone_and_adds_up_over_micro_batches(make_plm, texts, draw):
    objective, examples = make_plm(), texts(12)
    rows = draw(12)
    whole = objective(objective.collate(examples, rows))
    parts = [
        objective(objective.collate(examples[part], Draw(0, rows.epoch[part], rows.row[part])))
        for part in (slice(0, 3), slice(3, 12))
    ]
    assert whole.count == sum(part.count for part in parts) == len(whole.target)
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss, rtol=1e-5, atol=0)
    assert objective.scores({"loss": float(np.log(50))})["perplexity"] == pytest.approx(50)
    assert whole.means["accuracy"][1] == whole.count
    assert not objective.train()(objective.collate(examples, rows)).means


def test_a_text_without_ordinary_tokens_has_nothing_to_guess(make_plm, draw, tokenizer):
    objective = make_plm()
    output = objective(objective.collate([{"tokens": np.array([tokenizer.eos_id])}], draw(1)))
    assert output.count == 0 and output.loss == 0


def test_in_training_each_block_remembers_the_one_before_it_and_in_evaluation_none(make_plm, blocks):
    objective = make_plm(mem_len=8).train()
    first, second = (
        objective.collate([blocks[row], blocks[row + 2]], Draw(0, np.zeros(2, int), np.array([row, row + 2]))) for row in (0, 1)
    )
    fresh = objective(second).loss
    objective(first)
    remembering = objective(second).loss
    assert (remembering - fresh).abs() > 1e-4
    inputs = [first["inputs"]["tokens"], first["order"], first["places"]]
    read = objective.model.two_streams(*inputs)[2][:, :, -8:]
    memory = read, torch.ones(2, 8, dtype=torch.bool)
    query, _, _ = objective.model.two_streams(second["inputs"]["tokens"], second["order"], second["places"], None, memory)
    wanted = second["targets"] != -1
    expected = torch.nn.functional.cross_entropy(objective.logits(query[wanted]), second["targets"][wanted], reduction="sum")
    torch.testing.assert_close(remembering, expected)
    objective(first)
    objective.eval()
    torch.testing.assert_close(objective(second).loss, fresh)
    objective.train()
    torch.testing.assert_close(objective(second).loss, remembering)  # the evaluation left no trace


def test_memory_gets_no_gradient_and_may_be_longer_than_a_block(make_plm, blocks):
    objective = make_plm(mem_len=40).train()
    for row in range(4):
        batch = objective.collate([blocks[row]], Draw(0, np.zeros(1, int), np.array([row])))
        objective(batch).loss.backward()
        assert not objective.carried.memory.requires_grad
        assert objective.carried.remembered.sum() == min(16 * (row + 1), 40)


def test_lanes_are_wanted_for_a_memory_only(make_plm):
    assert make_plm(mem_len=8).lanes
    assert not make_plm(mem_len=0).lanes
    assert set(heads(make_plm(mem_len=0))) == {"bias"}


@pytest.mark.parametrize("wrong", [{"context": 1}, {"longest_span": 0}, {"mem_len": -1}])
def test_settings_out_of_range_are_refused_by_name(make_plm, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        make_plm(**wrong)


@pytest.mark.slow
def test_a_run_can_be_tuned_to_tasks(train, data, tmp_path):
    small = ("model.dim=16", "model.layers=2", "model.heads=2", "model.hidden=32", "model.max_length=48")
    quick = ("trainer.steps=2", "trainer.eval_batches=1", "device=cpu")
    words = ("pretrain", *data.text, "tokenizer=byte", "objective=plm", "objective.mem_len=8", *small, *quick)
    run = train(tmp_path / "plm", *words, "trainer.batch_size=4")
    (tmp_path / "tags.conll").write_text("Ann B-PER\nsaw O\nBob B-PER\n\n" * 60)
    tagged = ("dataset=tagged_text", f"dataset.path={tmp_path / 'tags.conll'}", "dataset.valid_fraction=0.2")
    for task, labelled in (("classify", data.classes), ("regress", data.numbers), ("tag", tagged)):
        tuned = train(tmp_path / task, "finetune", f"ckpt={run}", f"task={task}", *labelled, *quick)
        assert (tuned / "scores.json").exists()
    again = train(
        tmp_path / "again", "pretrain", f"ckpt={run}", *words[1:5], "objective.mem_len=8", "trainer.batch_size=3", *quick
    )
    assert (again / "scores.json").exists()


@pytest.mark.parametrize(("mem_len", "noted"), [(8, True), (0, False)])
def test_it_is_said_that_accumulated_steps_with_a_memory_are_not_those_of_a_larger_batch(mem_len, noted, cli, data, tmp_path):
    small = ("model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "model.max_length=32", "tokenizer=byte")
    quick = ("trainer.steps=1", "trainer.accumulate=2", "trainer.batch_size=2", "preset=smoke", "device=cpu")
    words = ("objective=plm", f"objective.mem_len={mem_len}", *data.text, *small, *quick)
    answer = cli("pretrain", *words, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert ("trainer.accumulate=2 a step is not that of a larger batch" in answer.out) == noted


def test_samples_show_what_was_guessed_where_it_stands(make_plm, texts, draw, tokenizer):
    objective = make_plm()
    batch = objective.collate(texts(3), draw(3))
    output = objective(batch)
    output.prediction = output.target
    shown = objective.samples(batch, output)
    plain = [tokenizer.decode(row[:48].tolist()) for row in batch["inputs"]["tokens"]]
    assert len(shown) == 3
    assert all(len(line) >= len(text) for line, text in zip(shown, plain, strict=True))
    wanted = [(row[:48] > 0).sum().item() for row in guessed(batch)]
    assert [line.count("[") - text.count("[") for line, text in zip(shown, plain, strict=True)] == wanted
