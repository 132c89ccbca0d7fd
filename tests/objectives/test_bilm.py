"""Language modelling in both directions: targets, what is carried on, and scores that no batching changes."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.build import stage
from ptft.models.elmo import ELMo
from ptft.objective import heads
from ptft.objectives.bilm import BiLM, Mirrored
from ptft.randomness import Draw

SMALL = {"input": "tokens", "dim": 16, "hidden": 8, "max_length": 16, "dropout": 0.0}
LENGTH = 16


class Blocks:
    """Running text in blocks of 16 tokens, as data on disk gives it."""

    length = LENGTH

    def __init__(self, tokens: np.ndarray):
        self.tokens, self.ids = tokens, self

    def __len__(self) -> int:
        return -(-len(self.tokens) // LENGTH)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.tokens[start:stop]

    def take(self, indices) -> list[dict]:
        cut = [(row, self.tokens[row * LENGTH : (row + 1) * LENGTH + 1]) for row in indices]
        return [
            {"tokens": part[:LENGTH], "next": int(part[LENGTH]) if len(part) > LENGTH else -1, "row": row} for row, part in cut
        ]


@pytest.fixture
def text(tokenizer):
    return np.random.default_rng(0).integers(6, tokenizer.vocab_size, LENGTH * 5 + 9)


@pytest.fixture
def make_bilm(settings, tokenizer):
    """An objective in eval mode around a small model, with the model's settings changed by name."""

    def make(carry: bool = True, **changes) -> BiLM:
        torch.manual_seed(0)
        facts = {"vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer}
        return BiLM(ELMo(**settings("elmo") | {**facts, **SMALL, **changes}), tokenizer, carry).eval()

    return make


def batch_of(objective, rows, indices, training=False):
    draw = Draw(0, np.zeros(len(indices), dtype=int), np.array(indices), training)
    return objective.collate(rows.take(indices), draw)


def test_each_token_is_guessed_once_from_either_side_and_the_ends_of_the_text_from_one(make_bilm, text):
    objective = make_bilm()
    rows = objective.view(Blocks(text))
    for training in (False, True):
        guessed = {"forward": [], "backward": []}
        for row in range(len(rows)):
            batch = batch_of(objective, rows, [row], training)
            for direction, found in guessed.items():
                targets = batch[f"{direction}_targets"][0]
                read = batch["inputs"]["tokens"][0] if direction == "forward" else batch["backward"][0]
                assert torch.equal(targets[:-1], read[1:])
                found += [targets[targets >= 0].tolist()]
        assert sum(guessed["forward"], []) == text[1:].tolist()
        backward = guessed["backward"] if training else guessed["backward"][::-1]  # training goes from last to first
        assert sum(backward, []) == text[-2::-1].tolist()


def test_padding_is_no_target(make_bilm, text):
    objective = make_bilm()
    rows = Mirrored(Blocks(text))
    for training in (False, True):
        batch = batch_of(objective, rows, [0, 5], training)
        counts = [int((batch[f"{direction}_targets"] >= 0).sum()) for direction in ("forward", "backward")]
        assert counts == [16 + 8, 15 + 9]
        assert objective(batch).count == 48


def test_the_loss_is_the_mean_of_both_cross_entropies_from_one_softmax(make_bilm, text):
    objective = make_bilm()
    rows = Mirrored(Blocks(text))
    batch = batch_of(objective, rows, [1, 2])
    output = objective(batch)
    model, tokens = objective.model, batch["inputs"]["tokens"]
    total = 0
    for direction, read in enumerate((tokens, tokens.flip(1))):
        logits = objective.softmax(model.read(model.embedding(read), direction)[0][-1])
        total = total + F.cross_entropy(logits[:, :-1].flatten(0, 1), read[:, 1:].flatten(), reduction="sum")
        after = torch.from_numpy(text[[32, 48]] if direction == 0 else text[[15, 31]])
        total = total + F.cross_entropy(logits[:, -1], after, reduction="sum")
    torch.testing.assert_close(output.loss, total)
    assert output.count == 64
    parts = output.means
    torch.testing.assert_close(parts["forward_loss"][0] + parts["backward_loss"][0], output.loss)
    assert {name for name in heads(objective) if "carried" not in name} == {"softmax.weight", "softmax.bias"}


def test_scores_are_the_same_however_texts_are_batched_and_whatever_was_trained_on_before(make_bilm, text):
    objective = make_bilm()
    rows = Mirrored(Blocks(text))
    objective.train()
    for row in (0, 1):
        objective(batch_of(objective, rows, [row, row + 2], training=True))
    objective.eval()
    sums = []
    for size in (1, 2, 3, 6):
        outputs = [
            objective(batch_of(objective, rows, list(range(first, min(first + size, 6))))) for first in range(0, 6, size)
        ]
        assert sum(int(output.count) for output in outputs) == 2 * (len(text) - 1)
        sums.append(sum(output.loss.item() for output in outputs))
    assert sums == pytest.approx([sums[0]] * 4, rel=1e-6)


def test_training_carries_the_state_of_both_directions_so_that_blocks_are_one_long_text(make_bilm, text):
    """Forward from the first block on, backward from the last, as the same weights read the whole text at once."""
    objective = make_bilm(max_length=96).train()
    model, rows = objective.model, Mirrored(Blocks(text[:80]))
    losses = [objective(batch_of(objective, rows, [row], training=True)).loss for row in range(5)]
    whole, total = torch.from_numpy(text[:80]).unsqueeze(0), 0
    for direction, read in enumerate((whole, whole.flip(1))):
        logits = objective.softmax(model.read(model.embedding(read), direction)[0][-1])
        total = total + F.cross_entropy(logits[0, :-1], read[0, 1:], reduction="sum")
    torch.testing.assert_close(sum(losses), total, rtol=1e-5, atol=0)
    fresh = sum(make_bilm(carry=False).train()(batch_of(objective, rows, [row], training=True)).loss for row in range(5))
    assert (fresh - total).abs() > 1e-2


def test_a_state_behind_padding_is_not_carried_on(make_bilm, text):
    objective = make_bilm().train()
    rows = Mirrored(Blocks(text))
    batch = batch_of(objective, rows, [0, 3], training=True)  # the mirror of row 0 is the short last block
    assert batch["forward_follows"].tolist() == [1, 4]
    assert batch["backward_follows"].tolist() == [-1, 4]
    assert batch_of(objective, rows, [5, 3], training=True)["forward_follows"].tolist() == [-1, 4]


def test_no_gradient_flows_from_one_batch_to_the_one_before(make_bilm, text):
    objective = make_bilm().train()
    rows = Mirrored(Blocks(text))
    for row in range(3):
        objective(batch_of(objective, rows, [row], training=True)).loss.backward()
        for carried in objective.carried:
            assert not carried.outputs.requires_grad and not carried.cells.requires_grad


def test_rows_that_are_texts_of_their_own_carry_nothing(make_bilm, text):
    objective = make_bilm().train()
    examples = [{"tokens": text[:9], "row": 4}, {"tokens": text[9:20], "row": 7}]
    batch = objective.collate(examples, Draw(0, np.zeros(2, int), np.arange(2), True))
    assert objective(batch).count == 2 * (8 + 10)
    assert batch["forward_follows"].tolist() == batch["backward_follows"].tolist() == [-1, -1]
    assert objective.view(examples) is examples


def test_perplexities_follow_from_the_losses(make_bilm):
    means = {"loss": np.log(40), "forward_loss": np.log(50), "backward_loss": np.log(32)}
    scores = make_bilm().scores(means)
    expected = {"perplexity": 40, "forward_perplexity": 50, "backward_perplexity": 32}
    assert scores == pytest.approx(expected)


def test_lanes_are_wanted_where_a_state_is_carried(make_bilm):
    assert make_bilm().lanes and not make_bilm(carry=False).lanes


def test_a_run_reads_real_data_in_lanes(compose, data, tmp_path):
    words = ("pretrain", "objective=bilm", *data.text, "tokenizer=byte", "model.max_length=32", "device=cpu")
    built = stage(compose(*words))
    loader = built.loader("train", 3)
    batches = loader.batches(0)
    first, second = next(batches), next(batches)
    assert torch.equal(first["forward_follows"], second["rows"])
    assert torch.equal(first["forward_targets"][:, -1], second["inputs"]["tokens"][:, 0])
    whole = first["backward_follows"] >= 0
    assert torch.equal(first["backward_targets"][whole, -1], second["backward"][whole, 0])


QUICK = ("trainer.steps=2", "trainer.eval_batches=1", "device=cpu")
TINY = ("model.dim=16", "model.hidden=8", "model.max_length=48")


@pytest.fixture
def pretrained(train, data, tmp_path):
    words = ("pretrain", "objective=bilm", *data.text, "tokenizer=byte", *TINY, *QUICK)
    return train(tmp_path / "bilm", *words, "trainer.batch_size=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    "tuning", [["tuning=frozen", "tuning.blocks=-1"], ["tuning=gradual", "tuning.every=1"], ["tuning=lora"]]
)
def test_a_run_can_be_tuned_to_a_class(tuning, pretrained, train, data, tmp_path):
    run = train(tmp_path / "tuned", "finetune", f"ckpt={pretrained}", "task=classify", *data.classes, *tuning, *QUICK)
    assert (run / "scores.json").exists()


def test_a_run_can_be_tuned_to_tags(pretrained, train, tmp_path):
    (tmp_path / "tags.conll").write_text("Ann B-PER\nsaw O\nBob B-PER\n\n" * 60)
    data = ("dataset=tagged_text", f"dataset.path={tmp_path / 'tags.conll'}", "dataset.valid_fraction=0.2")
    run = train(tmp_path / "tuned", "finetune", f"ckpt={pretrained}", "task=tag", *data, *QUICK)
    assert (run / "scores.json").exists()


def test_pretraining_goes_on_with_other_batches(pretrained, train, data, tmp_path):
    words = ("pretrain", f"ckpt={pretrained}", "objective=bilm", *data.text, *QUICK)
    assert (train(tmp_path / "more", *words, "trainer.batch_size=3") / "scores.json").exists()


def test_samples_show_what_was_guessed_from_the_left(make_bilm, text, tokenizer):
    objective = make_bilm()
    batch = batch_of(objective, Mirrored(Blocks(text)), [0, 1])
    output = objective(batch)
    right = batch["forward_targets"].flatten()
    output.prediction = right.clone()
    assert not any("/" in part for line in objective.samples(batch, output) for part in tokens_in_brackets(line))
    output.prediction[4] = tokenizer.encode(["question"])[0][0]
    wrong = [part for line in objective.samples(batch, output) for part in tokens_in_brackets(line)]
    assert len(wrong) == 2 * (LENGTH // 5)
    assert sum("/" in part for part in wrong) == 1


def tokens_in_brackets(line: str) -> list[str]:
    return re.findall(r"\[(.*?)\]", line)
