"""What one batch leaves to the next: to the lane that goes on, in every checkpoint, to the last bit."""

from __future__ import annotations

import io
import os
import signal

import pytest
import torch
from torch import nn

from ptft.errors import Stopped
from ptft.locate import locate
from ptft.logs import Console
from ptft.nn.carried import NOWHERE, Carried, follow

SMALL = {
    "plm": ("model.dim=16", "model.layers=2", "model.heads=2", "model.hidden=32", "objective.mem_len=24"),
    "bilm": ("model.dim=16", "model.layers=2", "model.hidden=8"),
}
TRAINER = ("trainer.steps=7", "trainer.train_rows=30", "trainer.batch_size=3", "trainer.accumulate=2", "trainer.ema=0.9")
QUIET = ("trainer.eval_every=2", "trainer.eval_batches=1", "trainer.save_every=null", "device=cpu")


def left(follows, **states) -> Carried:
    carried = Carried(*states)
    carried.leave(torch.tensor(follows), **states)
    return carried


def test_only_a_lane_that_goes_on_takes_over():
    carried = left([5, 8, NOWHERE], state=torch.ones(3, 2), other=torch.ones(3, 1, 2))
    taken = carried.take(torch.tensor([5, 9, NOWHERE]))
    assert taken["state"].tolist() == [[1, 1], [0, 0], [0, 0]]
    assert taken["other"].tolist() == [[[1, 1]], [[0, 0]], [[0, 0]]]


def test_nothing_is_taken_at_first_nor_in_other_batches_nor_where_no_lane_goes_on():
    assert Carried("state").take(torch.tensor([0, 1])) is None
    carried = left([5, 8], state=torch.ones(2, 2))
    assert carried.take(torch.tensor([5, 8, 9])) is None
    assert carried.take(torch.tensor([0, 1])) is None


def test_what_is_left_has_no_gradient_and_is_finite():
    carried = left([1], state=torch.tensor([[1.0, torch.nan, torch.inf]], requires_grad=True))
    taken = carried.take(torch.tensor([1]))["state"]
    assert taken.tolist() == [[1, 0, 0]] and not taken.requires_grad


def test_blocks_go_on_where_a_token_follows_and_other_rows_nowhere():
    examples = [{"row": 3, "next": 17}, {"row": 8, "next": -1}, {"row": 5}, {}]
    rows, follows = follow(examples)
    assert rows.tolist() == [3, 8, 5, NOWHERE]
    assert follows.tolist() == [4, NOWHERE, NOWHERE, NOWHERE]


def test_a_state_is_saved_and_finds_room():
    saved = nn.ModuleDict({"part": left([5, 8], state=torch.rand(2, 4))}).state_dict()
    fresh = nn.ModuleDict({"part": Carried("state")})
    fresh["part"].make_room(saved, "part.")
    fresh.load_state_dict(saved)
    assert torch.equal(fresh["part"].take(torch.tensor([5, 8]))["state"], saved["part.state"])


class Stopping(Console):
    """A console that stops its own process after a step."""

    def __init__(self, last: int):
        super().__init__(0, stream=io.StringIO())
        self.last = last

    def step(self, step, values):
        super().step(step, values)
        if step == self.last:
            os.kill(os.getpid(), signal.SIGTERM)


def checkpoint(run) -> dict[str, bytes]:
    files = locate(f"{run}/last").glob("*.safetensors")
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("objective", SMALL)
@pytest.mark.parametrize("stop", [3, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 6))])
def test_a_run_that_carries_state_is_stopped_within_an_epoch_and_goes_on_to_the_bit(objective, stop, train, data, tmp_path):
    model = (*SMALL[objective], "model.max_length=24", "tokenizer=byte")
    words = ("pretrain", f"objective={objective}", *data.text, *model, *TRAINER, *QUIET, "trainer.log_every=1")
    whole = train(tmp_path / "whole", *words)
    with pytest.raises(Stopped):
        train(tmp_path / "parts", *words, console=Stopping(stop))
    parts = train(tmp_path / "parts", *words, resume="auto", console=None)
    assert checkpoint(parts) == checkpoint(whole)
    assert (parts / "scores.json").read_bytes() == (whole / "scores.json").read_bytes()
