"""What a student learns from a teacher: the loss by closed forms, and two networks that each see what they are used to."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptft.build import stage
from ptft.errors import UserError
from ptft.locate import locate
from ptft.objective import Objective
from ptft.randomness import Draw
from ptft.tasks.distill import Distill, feature_loss, soft_loss

SETTINGS = {"alpha": 0.5, "temperature": 2.0, "features": None, "feature_weight": 1.0, "pooling": "mean", "dropout": 0.0}
QUICK = ("trainer.steps=3", "trainer.eval_batches=1", "trainer.batch_size=8", "device=cpu")
TINY = ("model.dim=16", "model.layers=2", "model.heads=2", "model.hidden=32", "model.max_length=48")


def test_for_high_temperatures_the_gradient_is_that_of_the_mean_square_of_centred_logits():
    student, teacher = torch.randn(2, 5, dtype=torch.float64).requires_grad_(), torch.randn(2, 5, dtype=torch.float64)
    student.data -= student.data.mean(-1, keepdim=True)
    teacher -= teacher.mean(-1, keepdim=True)
    (gradient,) = torch.autograd.grad(soft_loss(student, teacher, 1e4), student)
    torch.testing.assert_close(gradient, (student.detach() - teacher) / 5, atol=1e-4, rtol=0)


def test_a_teacher_that_is_certain_gives_the_cross_entropy():
    student, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    certain = torch.where(F.one_hot(target, 3) > 0, 0.0, -1e4)
    torch.testing.assert_close(soft_loss(student, certain, 1.0), F.cross_entropy(student, target, reduction="sum"))


def test_a_student_that_agrees_loses_nothing():
    logits = torch.randn(4, 3)
    assert soft_loss(logits, logits + 7, 3.0).abs() < 1e-5
    for kind in ("mse", "cosine"):
        assert feature_loss(logits, logits.clone(), kind).abs() < 1e-5


def test_feature_losses_by_hand():
    one, other = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    assert feature_loss(one, other, "mse").item() == pytest.approx(1 + 8)
    assert feature_loss(one, other, "cosine").item() == pytest.approx(1 + 0.4)


class Table(nn.Module):
    """A model of three numbers."""

    traits = frozenset({"table"})

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.map = dim, nn.Linear(3, dim)

    @property
    def blocks(self):
        return [self.map]

    def forward(self, values):
        return self.map(values)


class Teacher(Objective):
    """A linear classifier that knows the labels in another order."""

    target = "class"

    def __init__(self, labels):
        super().__init__(Table(6))
        self.labels, self.head = labels, nn.Linear(6, len(labels))

    def answer(self, inputs):
        return self.head(self.model(**inputs))


@pytest.fixture
def make_distill():
    """A student of tables with a teacher, with settings changed by name."""

    def make(labels=("c", "a", "b"), **changes) -> Distill:
        torch.manual_seed(0)
        objective = Teacher(list(labels)).requires_grad_(False).eval()
        taught = SimpleNamespace(objective=objective, model=objective.model, tokenizer=None, transform=None)
        settings = SETTINGS | changes
        return Distill(Table(4), 3, ["a", "b", "c"], "runs/teacher", **settings, open_run=lambda run: taught)

    return make


@pytest.fixture
def batch(make_distill):
    random = np.random.default_rng(0)
    examples = [{"features": random.normal(size=3).astype(np.float32), "label": place % 3} for place in range(7)]
    return make_distill().collate(examples, Draw(0, np.zeros(7, int), np.arange(7), True))


def test_the_loss_is_the_weighted_sum_of_its_parts_over_the_same_classes(make_distill, batch):
    objective = make_distill(alpha=0.3, temperature=3.0)
    said = objective.teacher.objective.answer(batch["inputs"])[:, [1, 2, 0]]
    logits = objective.answer(batch["inputs"])
    soft = F.kl_div((logits / 3).log_softmax(-1), (said / 3).softmax(-1), reduction="sum") * 9
    expected = 0.3 * F.cross_entropy(logits, batch["target"], reduction="sum") + 0.7 * soft
    output = objective(batch)
    torch.testing.assert_close(output.loss, expected)
    assert output.count == 7
    hard = objective.eval()(batch).loss
    torch.testing.assert_close(hard, F.cross_entropy(logits, batch["target"], reduction="sum"))


def test_features_come_close_through_a_map_to_the_teachers_width(make_distill, batch):
    objective = make_distill(features="mse", feature_weight=2.0)
    found = objective.projection(objective.model(**batch["inputs"]))
    wanted = objective.teacher.model(**batch["inputs"])
    expected = 2 * F.mse_loss(found, wanted, reduction="sum") / 6
    torch.testing.assert_close(objective(batch).loss - make_distill()(batch).loss, expected)


def test_the_teacher_neither_learns_nor_is_saved_nor_changes_mode(make_distill, batch):
    objective = make_distill().train()
    objective(batch).loss.backward()
    assert not objective.teacher.objective.training
    assert all(parameter.grad is None for parameter in objective.teacher.objective.parameters())
    assert {name.partition(".")[0] for name in objective.state_dict()} == {"model", "head"}


def test_a_teacher_of_other_classes_is_refused(make_distill):
    with pytest.raises(UserError, match="knows the classes a, b, d, and the data has a, b, c"):
        make_distill(labels=("a", "b", "d"))


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"temperature": 0}])
def test_settings_out_of_range_are_refused_by_name(make_distill, wrong):
    with pytest.raises(ValueError, match="=".join(map(str, *wrong.items()))):
        make_distill(**wrong)


@pytest.fixture
def teacher(train, data, tmp_path):
    words = ("finetune", "ckpt=null", "model=gpt", "tokenizer=byte", *data.classes, *TINY, *QUICK)
    return train(tmp_path / "teacher", *words)


@pytest.mark.slow
def test_a_bidirectional_student_learns_from_a_causal_teacher_each_with_its_own_layout(
    teacher, train, cli, compose, data, tmp_path
):
    words = ("finetune", "ckpt=null", "model=transformer_tiny", "tokenizer=byte", "task=distill", *data.classes, *QUICK)
    settings = f"objective.teacher={teacher}", "objective.features=cosine"
    built = stage(compose(*words, *settings))
    batch = next(built.loader("train", 4).batches(0))
    tokenizer = built.tokenizer
    assert (batch["inputs"]["tokens"][:, 0] == tokenizer.cls_id).all()
    assert (batch["taught"]["tokens"] == tokenizer.eos_id).any(1).all() and not (
        batch["taught"]["tokens"] == tokenizer.cls_id
    ).any()
    run = train(tmp_path / "student", *words, *settings)
    teacher.rename(tmp_path / "gone")  # only training needs it
    assert cli("evaluate", f"ckpt={run}", "split=valid").code == 0
    (tmp_path / "rows.jsonl").write_text('{"text": "the big cat"}\n')
    answer = cli("predict", f"ckpt={run}", f"input={tmp_path / 'rows.jsonl'}")
    assert json.loads(answer.out)["label"] in ("big", "small", "old", "red")


def test_a_teacher_with_another_tokenizer_is_refused_with_the_way_to_take_it_over(teacher, train, data, tmp_path):
    words = ("finetune", "ckpt=null", "model=transformer_tiny", "task=distill", *data.classes, *QUICK)
    with pytest.raises(UserError, match="another tokenizer; .*tokenizer=published tokenizer.path=") as refused:
        train(tmp_path / "student", *words, "tokenizer=character", f"objective.teacher={teacher}")
    assert str(locate(str(teacher)) / "assets") in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_run_that_gives_no_class_is_no_teacher(mlm_run, train, data, tmp_path):
    words = ("finetune", "ckpt=null", "model=transformer_tiny", "tokenizer=byte", "task=distill", *data.classes, *QUICK)
    with pytest.raises(UserError, match="MLM gives no class; expected a run of task=classify"):
        train(tmp_path / "student", *words, f"objective.teacher={mlm_run}")


@pytest.mark.slow
def test_a_teacher_of_images_sees_them_as_it_is_used_to(train, compose, tmp_path):
    digits = ("dataset=digits",)
    teacher = train(
        tmp_path / "teacher", "finetune", "ckpt=null", "model=mlp", "transform=eval", "transform.size=12", *digits, *QUICK
    )
    words = (
        "finetune",
        "ckpt=null",
        "model=mlp",
        "task=distill",
        "transform=eval",
        f"objective.teacher={teacher}",
        *digits,
        *QUICK,
    )
    built = stage(compose(*words))
    objective, batch = built.objective, next(built.loader("train", 5).batches(0))
    other = objective.teacher.transform
    other.mean, other.std = other.mean + 3, other.std * 2
    taught = objective._as_taught(batch["inputs"])["values"]
    assert taught.shape[2:] == (12, 12)
    pixels = F.interpolate(built.transform.restore(batch["inputs"]["values"]), size=(12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(other.restore(taught), pixels, atol=1e-4, rtol=0)
    run = train(tmp_path / "student", *words)
    assert (run / "scores.json").exists()


def test_a_student_of_texts_reads_as_its_teacher_does_where_no_tokenizer_is_named(teacher, train, data, tmp_path):
    words = ("finetune", "ckpt=null", "model=transformer_tiny", "task=distill", *data.classes, *QUICK)
    run = train(tmp_path / "student", *words, f"task.teacher={teacher}")
    vocabularies = [(locate(str(folder)) / "assets" / "tokenizer.json").read_bytes() for folder in (run, teacher)]
    assert vocabularies[0] == vocabularies[1]
