import fcntl
import json
import subprocess
import sys

import pytest

from ptft.annotations import expected
from ptft.choices import config_dir
from ptft.commands.show import main
from ptft.errors import UserError
from ptft.manifest import seal
from ptft.resolve import _parameters, find
from ptft.settings import SLOTS, Catalogue, parameters, settings_of


def make_run(folder, run_id="1", words=("pretrain",), parent=None, scores=None, steps=(10, 20), following=()):
    """A run folder as training leaves it."""
    folder.mkdir(parents=True)
    run = {"run_id": run_id, "version": "0.1.0", "git": "abc", "command": words[0], "started": "2030-01-02T10:00:00Z"}
    run |= {"argv": ["/usr/bin/ptft", *words], "parent": parent, "next": list(following)}
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
    main({"what": str(run), "folders": [config_dir()]})
    return capsys.readouterr().out


def test_a_finished_run_tells_its_command_scores_checkpoints_and_what_comes_next(tmp_path, capsys):
    run = make_run(
        tmp_path / "a",
        scores={"test": {"loss": 2.6}, "valid": {"loss": 2.5, "perplexity": 12.18, "per_class": {"f1": {"a": 1}}}},
        following=["ptft finetune ckpt=RUN 'trusted_modules=[my]' task=classify", 'ptft generate ckpt=RUN prompt="..."'],
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
    assert lines[-2:] == [
        f"next: ptft finetune ckpt={run} 'trusted_modules=[my]' task=classify",
        f'next: ptft generate ckpt={run} prompt="..."',
    ]


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
        main({"what": str(tmp_path / "pretrain-mondy"), "folders": [config_dir()]})
    with pytest.raises(UserError, match=r"is not a run folder; .*pretrain-monday"):
        main({"what": str(tmp_path), "folders": [config_dir()]})
    with pytest.raises(UserError, match="no run lies there"):
        main({"what": str(tmp_path / "nowhere" / "at all"), "folders": [config_dir()]})


@pytest.mark.parametrize("words", [["show", "a"], ["show", "model.dim"], ["show", "lr"], ["diff", "a", "a"]], ids=" ".join)
def test_neither_show_nor_diff_imports_torch(words, tmp_path):
    make_run(tmp_path / "a")
    (tmp_path / "a" / "config.yaml").write_text("seed: 0\n")
    code = f"import sys; from ptft.cli import main; main({words}); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.endswith("False\n")


def about(capsys, word) -> str:
    main({"what": word, "folders": [config_dir()]})
    return capsys.readouterr().out


def told(capsys, word) -> dict[str, str]:
    """The named lines of what is said of a setting or a choice."""
    lines = about(capsys, word).split("\n\n")[0].splitlines()[1:]
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in lines)}


def test_a_setting_tells_its_default_type_meaning_and_an_example(capsys):
    assert told(capsys, "seed") == {
        "meaning": "the one seed of data order, masks, fresh weights and dropout",
        "type": "a whole number",
        "default": "0 (pretrain, finetune, evaluate, predict, generate, export, data)",
        "example": "ptft pretrain seed=1",
    }
    assert told(capsys, "trainer.epochs")["default"] == "10.0 (pretrain); 3 (finetune); of the choice (data)"
    assert told(capsys, "trainer.epochs")["type"] == "a number or null"
    assert told(capsys, "ckpt_load.weights")["type"] == "text or null"
    assert "as in the checkpoint (finetune," in told(capsys, "model.dim")["default"]


def test_a_setting_tells_which_choices_have_it_and_their_defaults_where_these_differ(capsys):
    rows = [line.split() for line in about(capsys, "optimizer.lr").split("\n\n")[1].splitlines()]
    assert ["0.001", "optimizer=adam|adamw"] in rows and ["0.1", "optimizer=sgd"] in rows
    assert told(capsys, "objective.temperature")["example"] == "ptft pretrain objective=contrastive objective.temperature=0.25"
    assert "task=distill" in about(capsys, "objective.temperature")


@pytest.mark.parametrize(
    "key", ["optimizer.lr", "model.dim", "objective.temperature", "trainer.patience", "seed", "task.hidden"]
)
def test_the_example_of_a_setting_composes(key, capsys, compose):
    command, *words = told(capsys, key)["example"].split()[1:]
    scratch = ("model=transformer",) if command == "finetune" else ()
    assert compose(command, *(word.replace("ckpt=RUN", "ckpt=null") for word in words), *scratch)


@pytest.mark.parametrize(
    "group",
    [
        pytest.param("model", marks=pytest.mark.slow),
        "objective",
        "task",
        "tuning",
        "schedule",
        "tokenizer",
        "dataset",
        "transform",
    ],
)
def test_the_types_read_from_source_are_those_of_the_constructors(group):
    for path in Catalogue([config_dir()]).groups[group].values():
        node = settings_of(path)
        for name, kind in parameters(node["_target_"]).items():
            found = _parameters(find(SLOTS.get(group, group), node)).get(name)
            first = expected(found.annotation).partition(" or ")[0].removeprefix("one of ") if found else kind
            assert not kind or kind.startswith(first.partition(" of ")[0].partition(",")[0]), f"{node['_target_']}.{name}"


def test_a_choice_tells_what_it_is_who_takes_it_and_its_settings(capsys):
    for word in ("model=gpt_nano", "models=gpt_nano"):
        text = about(capsys, word)
        assert "class     ptft.models.gpt.GPT\n" in text and "example   ptft pretrain model=gpt_nano\n" in text
        assert "model.max_length=64" in text and "model.heads=4" in text
    assert told(capsys, "task=tag")["commands"].startswith("finetune")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("lr", "did you mean optimizer.lr?"),
        ("gpt", "did you mean model=gpt?"),
        ("modle.dim", "did you mean model.dim?"),
        ("model=gptt", "did you mean model=gpt?"),
        ("models", "but a group of choices: ptft list model"),
        ("monday", "did you mean monday-1?"),
        ("ckpt_load", "ckpt_load holds settings of its own: ckpt_load.allow_partial, "),
        ("qqqqqqqq", "ptft list has the choices, ptft COMMAND --help the settings"),
    ],
)
def test_what_is_neither_run_nor_setting_gets_the_nearest_of_both(word, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "monday-1")
    with pytest.raises(UserError) as refused:
        main({"what": word, "folders": [config_dir()]})
    assert answer in str(refused.value) and "\n" not in str(refused.value)
