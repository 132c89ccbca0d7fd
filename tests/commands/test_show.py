import fcntl
import json
import subprocess
import sys

import pytest

from ptft.commands.show import main
from ptft.errors import UserError
from ptft.manifest import seal


def make_run(folder, run_id="1", words=("pretrain",), parent=None, scores=None, steps=(10, 20)):
    """A run folder as training leaves it."""
    folder.mkdir(parents=True)
    run = {"run_id": run_id, "version": "0.1.0", "git": "abc", "command": words[0], "started": "2030-01-02T10:00:00Z"}
    run |= {"argv": ["/usr/bin/ptft", *words], "parent": parent}
    (folder / "run.json").write_text(json.dumps(run))
    rows = [{"step": step, "split": "train", "loss": 5.0 - step / 10, "seconds_left": 42.0} for step in steps]
    rows += [{"step": 20, "split": "valid", "loss": 2.5}, {"step": 99, "split": "valid", "loss": 0.1}]
    rows += [{"superseded_after": 20}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 30, "spl')
    for sequence, step in enumerate(steps):
        checkpoint = folder / "checkpoints" / f"step-{step:010}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"x" * 1500)
        fields = {"schema": 1, "ptft": "0.1.0", "identity": {"run_id": run_id}, "seq": sequence, "step": step}
        fields |= {"best": step == 10, "environment": {}, "files": {}}
        (checkpoint / "manifest.json").write_bytes(seal(fields))
    (folder / "checkpoints" / ".tmp-1").mkdir()
    (folder / "checkpoints" / "last").write_text("step-0000000020\n")
    (folder / "checkpoints" / "best").write_text("step-0000000010\n")
    if scores:
        (folder / "scores.json").write_text(json.dumps(scores))
    return folder


def parent_of(folder, run_id):
    return {"path": str(folder / "checkpoints" / "step-0000000020"), "run_id": run_id, "manifest": "ff"}


def shown(capsys, run) -> str:
    main({"show": {"run": str(run)}})
    return capsys.readouterr().out


def test_a_finished_run_tells_its_command_scores_checkpoints_and_what_comes_next(tmp_path, capsys):
    run = make_run(
        tmp_path / "a",
        scores={"test": {"loss": 2.6}, "valid": {"loss": 2.5, "perplexity": 12.18, "per_class": {"f1": {"a": 1}}}},
    )
    text = shown(capsys, run)
    lines = text.splitlines()
    assert "command  ptft pretrain" in lines
    assert "status   finished at step 20" in lines
    assert "loss         2.5000  2.6000" in lines
    assert "perplexity  12.1800" in lines
    assert "per_class" not in text, "too long for a table"
    assert "training loss  4.0000 █▁ 3.0000" in lines
    assert "no parent: the weights were new" in lines
    assert [line.split() for line in lines if line.startswith("step-")] == [
        ["step-0000000010", "10", "1.7", "KB", "best"],
        ["step-0000000020", "20", "1.7", "KB", "last"],
    ]
    assert lines[-1].startswith(f"next: ptft finetune ckpt={run} ")


def test_a_stopped_run_tells_where_it_was_saved_and_how_to_continue_it(tmp_path, capsys):
    run = make_run(tmp_path / "my run", words=("pretrain", "seed=1", "run=old", "resume=never"))
    lines = shown(capsys, run).splitlines()
    assert "status   stopped at step 20, saved at step 20" in lines
    assert "loss   2.5000" in lines, "the scores of the last evaluation that holds"
    assert lines[-1] == f"next: ptft pretrain seed=1 'run={run}' resume=auto"


def test_a_run_is_running_while_its_lock_is_held(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    (run / ".lock").write_text('{"pid": 4242, "host": "here"}')
    assert "stopped at step 20" in shown(capsys, run), "a lock file that nobody holds means nothing"
    with (run / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = shown(capsys, run)
    assert "running at step 20, 0:42 left (process 4242 on here)" in text
    assert text.endswith(f"next: ptft show {run}\n")


def test_lineage_goes_back_to_the_first_pretraining(tmp_path, capsys):
    first = make_run(tmp_path / "first", "1")
    second = make_run(tmp_path / "second", "2", ("pretrain", "ckpt=first"), parent_of(first, "1"))
    third = make_run(tmp_path / "third", "3", ("finetune", "ckpt=second"), parent_of(second, "2"))
    lines = shown(capsys, third).splitlines()
    at = lines.index("the weights come from")
    assert lines[at + 2] == "    ptft pretrain ckpt=first"
    assert lines[at + 3] == f"  {first / 'checkpoints' / 'step-0000000020'}  (run 1)"
    assert lines[at + 4] == "    ptft pretrain"


def test_parents_that_vanished_or_were_replaced_are_named_as_recorded(tmp_path, capsys):
    gone = make_run(tmp_path / "a", "2", parent=parent_of(tmp_path / "gone", "1"))
    assert f"  {tmp_path}/gone/checkpoints/step-0000000020  (run 1)\n    no longer there\n" in shown(capsys, gone)
    other = make_run(tmp_path / "b", "3", parent=parent_of(gone, "9"))
    text = shown(capsys, other)
    assert "(run 9)\n    another run lies there now\n" in text
    assert "gone" not in text, "the ancestors of the other run are not those of this one"


def test_a_parent_that_moved_together_with_its_child_is_found(tmp_path, capsys):
    make_run(tmp_path / "new" / "first", "1")
    child = make_run(tmp_path / "new" / "second", "2", parent=parent_of(tmp_path / "old" / "first", "1"))
    assert "(run 1)\n    ptft pretrain\n" in shown(capsys, child)


def test_a_checkpoint_shows_the_run_it_belongs_to(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    for name in ("checkpoints/step-0000000010", "best"):
        lines = shown(capsys, run / name).splitlines()
        assert lines[0] == str(run)
        assert any(line.startswith("step-0000000010") and line.endswith("best, this one") for line in lines)


def test_one_checkpoint_may_be_both_the_best_and_the_last(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    (run / "checkpoints" / "best").write_text("step-0000000020\n")
    assert any(line.endswith("best, last") for line in shown(capsys, run).splitlines())


def test_a_run_that_has_only_just_begun_can_be_shown(tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"run_id": "1", "argv": ["ptft", "pretrain"]}')
    text = shown(capsys, tmp_path)
    assert "stopped at step 0, nothing saved" in text
    assert "no checkpoint" in text


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_run(tmp_path):
    make_run(tmp_path / "pretrain-monday")
    with pytest.raises(UserError, match=r"pretrain-mondy does not exist; did you mean '.*/pretrain-monday'\?"):
        main({"run": str(tmp_path / "pretrain-mondy")})
    with pytest.raises(UserError, match=r"is not a run folder; .*pretrain-monday"):
        main({"run": str(tmp_path)})
    with pytest.raises(UserError, match="no run lies there"):
        main({"run": str(tmp_path / "nowhere" / "at all")})
    with pytest.raises(UserError, match="no run was named"):
        main({"show": {"run": None}})


def test_show_does_not_import_torch(tmp_path):
    make_run(tmp_path / "a")
    code = "import sys; from ptft.commands.show import main; main({'run': sys.argv[1]}); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.endswith("\nFalse\n")
