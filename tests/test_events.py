"""TensorBoard files, read back by TensorBoard's own reader."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ptft.errors import MachineError
from ptft.events import TensorBoard


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    names = reader.Tags()["scalars"]
    return {name: [(event.step, pytest.approx(event.value)) for event in reader.Scalars(name)] for name in names}


def test_train_and_valid_share_a_chart(tmp_path):
    board = TensorBoard(tmp_path)
    board.scalars(10, "train", {"loss": 2.5})
    board.scalars(10, "valid", {"loss": 2.0})
    board.close()
    assert scalars(tmp_path) == {"loss/train": [(10, 2.5)], "loss/valid": [(10, 2.0)]}


def test_a_resumed_run_withdraws_the_steps_it_does_again(tmp_path):
    first = TensorBoard(tmp_path)
    for step in (10, 20, 30):
        first.scalars(step, "train", {"loss": float(step)})
    first.close()
    again = TensorBoard(tmp_path, after=10)
    again.scalars(20, "train", {"loss": 1.0})
    again.close()
    assert scalars(tmp_path)["loss/train"] == [(10, 10.0), (20, 1.0)]


def test_a_run_that_logs_nothing_leaves_no_file(tmp_path):
    TensorBoard(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()


def test_after_a_refusal_nothing_more_is_tried(tmp_path):
    (tmp_path / "file").write_text("")
    board = TensorBoard(tmp_path / "file")
    with pytest.raises(MachineError, match="file: "):
        board.scalars(1, "train", {"loss": 1.0})
    board.scalars(2, "train", {"loss": 1.0})
