from types import SimpleNamespace

import pytest
import torch

from ptft import resume
from ptft.checkpoint import save
from ptft.errors import CheckpointError, UserError
from ptft.training import Progress

CONFIG = """\
run: runs/a
resume: null
resume_allow: []
optimizer: {_target_: torch.optim.AdamW, lr: 0.001, betas: [0.9, 0.95]}
trainer: {steps: 100, workers: 0, log_every: 10, keep_last: 2}
path: ${oc.env:HOME}/data
"""


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path, 1, {"model": {"w": torch.ones(1)}}, {}, CONFIG, {}, {"run_id": "one"})


def test_the_same_settings_go_on(checkpoint):
    assert resume.check_config(checkpoint, CONFIG, []) == []


def test_settings_that_change_no_weight_may_differ(checkpoint):
    config = CONFIG.replace("workers: 0", "workers: 2").replace("log_every: 10", "log_every: 1")
    config = config.replace("resume: null", "resume: auto").replace("resume_allow: []", "resume_allow: [a]")
    assert resume.check_config(checkpoint, config, []) == []


def test_a_changed_setting_is_refused_with_old_and_new_and_the_way_to_allow_it(checkpoint):
    config = CONFIG.replace("lr: 0.001", "lr: 0.002").replace("steps: 100", "steps: 200")
    with pytest.raises(UserError) as refused:
        resume.check_config(checkpoint, config, [])
    assert "optimizer.lr 0.001 -> 0.002, trainer.steps 100 -> 200" in str(refused.value)
    assert "resume_allow=[optimizer.lr,trainer.steps]" in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("allow", [["optimizer.lr", "trainer.steps"], ["optimizer", "trainer.steps"]])
def test_allowed_changes_are_told_not_refused(checkpoint, allow):
    config = CONFIG.replace("lr: 0.001", "lr: 0.002").replace("steps: 100", "steps: 200")
    told = resume.check_config(checkpoint, config, allow)
    assert told == ["optimizer.lr 0.001 -> 0.002", "trainer.steps 100 -> 200"]


def test_allowing_a_setting_allows_no_other_that_begins_alike(checkpoint):
    with pytest.raises(UserError, match=r"trainer\.steps"):
        resume.check_config(checkpoint, CONFIG.replace("steps: 100", "steps: 5"), ["trainer.step", "trainer.steps.x"])


def test_settings_that_appear_vanish_or_change_inside_a_list_are_seen(checkpoint):
    config = CONFIG.replace("0.95", "0.99").replace("path", "place")
    with pytest.raises(UserError, match=r"optimizer\.betas \[0.9, 0.95\] -> \[0.9, 0.99\], path .* -> absent, place absent"):
        resume.check_config(checkpoint, config, [])


def test_other_data_or_another_tokenizer_is_refused_by_hash_unless_allowed():
    before = {"run_id": "one", "data": "a" * 64, "tokenizer": "b" * 64}
    resume.check_identity(before, {"data": "a" * 64, "tokenizer": "b" * 64}, [])
    with pytest.raises(CheckpointError, match=r"the data changed \(aaaaaaaaaaaa -> cccccccccccc\); resume_allow=\[data\]"):
        resume.check_identity(before, {"data": "c" * 64}, ["tokenizer"])
    resume.check_identity(before, {"data": "c" * 64}, ["data"])


def test_a_switch_that_is_newer_than_the_run_may_be_off_and_not_on(checkpoint):
    assert resume.check_config(checkpoint, f"{CONFIG}model: {{qk_norm: false, logit_cap: null}}\n", []) == []
    with pytest.raises(UserError, match="model.qk_norm absent -> True"):
        resume.check_config(checkpoint, f"{CONFIG}model: {{qk_norm: true}}\n", [])


def test_a_setting_with_a_default_that_is_newer_than_the_run_is_what_it_was_without_it(checkpoint):
    assert resume.check_config(checkpoint, CONFIG.replace("workers: 0", "workers: 0, ema_every: 1"), []) == []
    with pytest.raises(UserError, match="trainer.ema_every 1 -> 4"):
        resume.check_config(checkpoint, CONFIG.replace("workers: 0", "workers: 0, ema_every: 4"), [])


def told(rows, batch_size, accumulate, steps, lanes=False, **progress):
    settings = SimpleNamespace(rows=rows, batch_size=batch_size, accumulate=accumulate, steps=steps)
    return settings, resume.fit_steps(settings, Progress(**progress), lanes)


def test_a_run_with_the_batches_it_had_keeps_its_steps():
    settings, said = told(480, 4, 3, 40, step=7, samples=84)
    assert (settings.steps, said) == (40, "")


@pytest.mark.parametrize(("batch_size", "accumulate", "left"), [(8, 3, 17), (6, 1, 66), (4, 1, 99), (500, 1, 1)])
def test_batches_of_another_size_take_the_steps_that_the_rows_left_need(batch_size, accumulate, left):
    settings, said = told(480, batch_size, accumulate, 999, step=7, samples=84)
    assert settings.steps == 7 + left
    assert f"before row 84 of the training stream: each row still comes once an epoch, {left} steps are left" in said


def test_where_steps_are_counted_other_batches_take_the_steps_that_are_left():
    settings, said = told(None, 8, 3, 40, step=7, samples=84)
    assert settings.steps == 40
    assert "33 steps are left" in said


def test_batches_that_continue_each_other_lose_their_order_with_their_size_and_that_is_said():
    assert "may come twice or not at all" in told(480, 8, 1, 60, lanes=True, step=7, samples=84)[1]
