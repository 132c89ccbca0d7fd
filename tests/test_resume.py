import pytest
import torch

from ptft import resume
from ptft.checkpoint import save
from ptft.errors import CheckpointError, UserError

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
