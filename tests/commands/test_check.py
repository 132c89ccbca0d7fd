from __future__ import annotations

import tempfile

import pytest

SMALL = ("model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "device=cpu", "trainer.batch_size=4")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty folder in which check works, and its place for temporary files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "kind"), [(("pretrain", "objective=mlm"), "text"), (("finetune", "ckpt=null", "task=regress"), "numbers")]
)
def test_check_says_what_a_run_would_take_and_leaves_nothing_behind(words, kind, cli, data, scratch):
    answer = cli("check", *words, *SMALL, *getattr(data, kind), "trainer.epochs=2")
    assert answer.code == 0, answer.err
    for row in ("parameters", "tokens", "trained", "steps", "epochs", "memory", "disk", "time"):
        assert any(line.startswith(row) for line in answer.out.splitlines()), row
    assert [path.name for path in scratch.iterdir()] == ["tmp"]
    assert [path.name for path in (scratch / "tmp").iterdir() if "ptft" in path.name] == []


@pytest.mark.slow
def test_check_counts_the_parameters_and_steps_of_the_run(cli, data, train, scratch, tmp_path):
    words = *SMALL, *data.classes, "trainer.epochs=2"
    answer = cli("check", "finetune", "ckpt=null", *words)
    run = train(tmp_path / "run", "finetune", "ckpt=null", *words)
    card = (run / "README.md").read_text()
    said = dict(line.split(maxsplit=1) for line in answer.out.splitlines() if line.startswith(("parameters", "steps")))
    assert said["parameters"] in card
    assert f"step-{int(said['steps']):010d}" in {path.name for path in (run / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("wrong", "code", "told"),
    [
        ("trainer.batch_size=100000", 3, "trainer.batch_size=100000"),
        ("trainer.best=acuracy", 2, "did you mean 'accuracy'"),
        ("tuning.layer_decay=3", 2, "layer_decay"),
        ("optimizer.lr=1e30", 5, "lower optimizer.lr"),
    ],
)
def test_check_finds_what_the_run_would_stumble_over(wrong, code, told, cli, data, scratch):
    answer = cli("check", "finetune", "ckpt=null", *SMALL, *data.classes, wrong)
    assert answer.code == code
    assert told in answer.err


@pytest.fixture(scope="module")
def refused(cli, data):
    """What check, and the run itself, say of a folder for the run."""

    def both(folder, *words):
        typed = "finetune", "ckpt=null", *SMALL, *data.classes, f"run={folder}", *words
        return cli("check", *typed), cli(*typed)

    return both


def test_check_refuses_a_folder_as_the_run_does_and_leaves_nothing_in_it(refused, scratch):
    (scratch / "own").mkdir()
    (scratch / "own" / "scores.json").write_text("{}")
    (scratch / "file").write_text("")
    for folder, code in (("own", 2), ("file/below", 6)):
        checked, run = refused(folder)
        assert checked.code == run.code == code
        assert checked.complaint.removeprefix("ptft check") == run.complaint.removeprefix("ptft finetune")
    assert [path.name for path in (scratch / "own").iterdir() if path.name != ".lock"] == ["scores.json"]


def test_check_of_a_new_folder_does_not_make_it(cli, data, scratch):
    answer = cli("check", "finetune", "ckpt=null", *SMALL, *data.classes, "run=new/run")
    assert answer.code == 0, answer.err
    assert [path.name for path in scratch.iterdir()] == ["tmp"]


def test_check_says_a_note_once(cli, scratch):
    (scratch / "few.csv").write_text("text,label\n" + "".join(f"row {number},{number % 2}\n" for number in range(40)) + ",1\n")
    answer = cli("check", "finetune", "ckpt=null", *SMALL, "dataset=labelled_text", "dataset.path=few.csv")
    assert answer.code == 0, answer.err
    notes = [line for line in answer.out.splitlines() if line.startswith("note: ")]
    assert notes and len(notes) == len(set(notes))
