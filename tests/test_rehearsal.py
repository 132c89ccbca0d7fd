"""Before Hydra builds or launches anything: no foreign code in its nodes, and no value that no job could use."""

from pathlib import Path

import pytest

from ptft.cli import main
from ptft.errors import UserError
from ptft.rehearsal import check_plugins, variants

HOSTILE = "_target_: os.mkdir, path: harm"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(words: str, capsys, *parts: str) -> None:
    """Nothing ran or was written, and one line says why."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and all(part in said.err for part in parts) and not said.out
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("+hydra.callbacks.x._target_=os.mkdir +hydra.callbacks.x.path=harm", "hydra.callbacks.x._target_=os.mkdir"),
        ("+hydra.callbacks.x={_target_:os.mkdir,path:harm}", "hydra.callbacks.x._target_=os.mkdir"),
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_=os.system"),
        ("hydra.sweeper._target_=builtins.print", "hydra.sweeper._target_=builtins.print"),
        ("+hydra.job_logging.handlers={x:{class:os.mkdir}}", "hydra.job_logging.handlers.x.class=os.mkdir"),
    ],
)
def test_a_sweep_builds_nothing_that_the_command_line_names(words, named, capsys):
    refused(f"pretrain -m seed=0 {words}", capsys, f"{named} is not allowed")


@pytest.mark.parametrize("flags", ["", "-m seed=0 "])
@pytest.mark.parametrize(
    "files",
    [
        {"experiment/mine.yaml": f"# @package _global_\nhydra: {{callbacks: {{x: {{{HOSTILE}}}}}}}\n"},
        {
            "experiment/mine.yaml": "# @package _global_\ndefaults: [{override /hydra/callbacks: x}]\n",
            "hydra/callbacks/x.yaml": f"x: {{{HOSTILE}}}\n",
        },
    ],
    ids=["in a node", "as a group"],
)
def test_nor_what_a_file_names(files, flags, capsys):
    for name, text in files.items():
        Path("my", name).parent.mkdir(parents=True, exist_ok=True)
        Path("my", name).write_text(text)
    refused(f"pretrain {flags}--config-dir=my experiment=mine", capsys, "hydra.callbacks.x._target_=os.mkdir is not allowed")


def test_settings_of_hydra_are_not_ignored_where_nothing_is_swept(capsys):
    refused("pretrain hydra.launcher._target_=os.system", capsys, "Hydra's own settings count in a sweep only; add -m")


def test_launchers_and_sweepers_of_hydra_and_its_plugins_are_built():
    check_plugins({"launcher": {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 2}})
    check_plugins({"sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}, "callbacks": None})


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("optimizer.lr=1e-3,abc", "optimizer.lr: expected a number, found 'abc'"),
        ("seed=0,1 trainer.precision=fp32,fp17", "trainer.precision: expected one of auto, fp32, bf16, fp16, found 'fp17'"),
        ("model=transformer_tiny,gpt_tiny objective.mask_prob=often", "objective.mask_prob: expected a number, found 'often'"),
    ],
)
def test_a_value_that_no_job_could_use_stops_a_sweep_before_its_first_job(words, answer, capsys):
    refused(f"pretrain -m {words}", capsys, answer)


def test_each_kind_of_value_is_looked_at_once():
    words = ["a=1,2,3", "b=x,y", "c=5", "d=range(4)", "e=interval(0,1)"]
    assert list(variants(words)) == [["a=1", "b=x", "c=5", "d=0"], ["a=1", "b=y", "c=5", "d=0"]]
    assert list(variants(["a=1,null,true"])) == [["a=1"], ["a=null"], ["a=True"]]
    with pytest.raises(UserError, match="name the values of Hydra's own settings one by one"):
        list(variants(["+hydra/callbacks=glob(*)"]))
