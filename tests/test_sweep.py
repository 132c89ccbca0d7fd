"""Sweeps: every job runs, and the table at the end says which settings are best."""

from __future__ import annotations

import csv
import json
import shlex
import statistics
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ptft.checkpoint import save
from ptft.cli import main
from ptft.errors import Diverged, Stopped
from ptft.sweep import rank, record, summarise


@pytest.fixture
def jobs(tmp_path, monkeypatch) -> list[dict]:
    """The configurations of the jobs that ran; a rate of 9 diverges, 8 hits a bug, 7 is stopped by a signal."""
    found: list[dict] = []

    def train(config: dict):
        found.append(config)
        rate = config["optimizer"]["lr"]
        if rate == 9:
            raise Diverged("training diverged at step 3")
        if rate == 8:
            raise ZeroDivisionError("a bug")
        if rate == 7:
            raise Stopped("stopped by SIGTERM")
        return "accuracy", rate + 0.01 * config["seed"]

    module = ModuleType("train")
    module.main = train
    monkeypatch.setitem(sys.modules, "ptft.commands.train", module)
    monkeypatch.chdir(tmp_path)
    return found


def sweep(words: str) -> int:
    return main(["pretrain", "-m", *words.split()])


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_combination_runs_in_a_folder_of_its_own(jobs):
    assert sweep("optimizer.lr=0.1,0.2 seed=0,1 run=grid") == 0
    assert [(job["optimizer"]["lr"], job["seed"]) for job in jobs] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert [job["run"] for job in jobs] == ["grid/0", "grid/1", "grid/2", "grid/3"]


def test_values_that_hold_odd_characters_are_several_all_the_same(jobs):
    assert sweep("dataset.path=a=1,b=2 run=odd") == 0
    assert [job["dataset"]["path"] for job in jobs] == ["a=1", "b=2"]


@pytest.mark.slow
def test_the_table_ranks_means_over_seeds_and_gives_their_spread(jobs):
    assert sweep("optimizer.lr=0.1,0.2 seed=0,1,2 run=grid") == 0
    best, other = table(Path("grid"))
    assert (best["rank"], best["optimizer.lr"], best["seeds"], best["jobs"]) == ("1", "0.2", "3", "3 4 5")
    assert float(best["accuracy"]) == pytest.approx(0.21)
    assert float(best["std"]) == pytest.approx(statistics.stdev([0.20, 0.21, 0.22]))
    assert other["optimizer.lr"] == "0.1"
    assert "| 1 | 0.2 | 0.2100 ± 0.0100 | 3 | 3 4 5 |" in Path("grid/summary.md").read_text()


@pytest.mark.slow
def test_the_command_of_the_best_job_runs_it_again(jobs, capsys):
    assert sweep("optimizer.lr=0.1,0.2 seed=0,1 run=grid trainer.steps=5 model=gpt") == 0
    best = jobs[3]
    line = capsys.readouterr().out.splitlines()[-1]
    assert main(shlex.split(line)[1:]) == 0
    own = {"run", "argv"}
    assert {key: value for key, value in jobs[-1].items() if key not in own} == {
        key: value for key, value in best.items() if key not in own
    }


def test_a_failed_job_does_not_stop_the_others_and_is_listed(jobs, capsys):
    assert sweep("optimizer.lr=9,8,0.1 run=grid") == 1
    assert len(jobs) == 3
    said = capsys.readouterr()
    assert "failed: job 0 (optimizer.lr=9 trainer=tour): Diverged: training diverged at step 3" in said.out
    assert "failed: job 1 (optimizer.lr=8 trainer=tour): ZeroDivisionError: a bug" in said.out
    assert "Traceback" in said.err  # of the bug, not of the divergence
    assert json.loads(Path("grid/0/result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_the_table_lists_failed_jobs_behind_the_others_and_says_why(jobs):
    assert sweep("optimizer.lr=9,8,0.1 run=grid") == 1
    best, *failed = table(Path("grid"))
    assert (best["rank"], best["optimizer.lr"], best["status"], best["error"]) == ("1", "0.1", "ok", "")
    assert [(row["rank"], row["optimizer.lr"], row["jobs"], row["status"]) for row in failed] == [
        ("", "9", "0", "failed"),
        ("", "8", "1", "failed"),
    ]
    assert failed[1]["error"] == "ZeroDivisionError: a bug"
    text = Path("grid/summary.md").read_text()
    assert "| 0 | failed | Diverged: training diverged at step 3 |" in text
    assert text.splitlines()[-1].startswith("The best again: ")


@pytest.mark.slow
def test_a_sweep_whose_jobs_all_fail_lists_them_and_recommends_none(jobs, capsys):
    assert sweep("optimizer.lr=9,8 run=grid") == 1
    assert [(row["optimizer.lr"], row["status"]) for row in table(Path("grid"))] == [("9", "failed"), ("8", "failed")]
    text = Path("grid/summary.md").read_text()
    assert "ZeroDivisionError: a bug" in text
    assert "The best again" not in text + capsys.readouterr().out


def test_a_signal_ends_the_sweep_with_the_table_so_far(jobs):
    assert sweep("optimizer.lr=0.1,7,0.2 run=grid") == 75
    assert len(jobs) == 2
    assert [(row["optimizer.lr"], row["status"]) for row in table(Path("grid"))] == [("0.1", "ok"), ("7", "failed")]


def test_a_mistake_in_any_job_is_found_before_the_first_one_runs(jobs, capsys):
    assert sweep("seed=0,one run=grid") == 2
    assert capsys.readouterr().err == "ptft pretrain: seed: expected a whole number, found 'one'\n"
    assert not jobs and not Path("grid").exists()


@pytest.mark.slow
def test_a_folder_in_use_is_refused_unless_the_sweep_is_resumed(jobs, capsys):
    assert sweep("seed=0,1 run=grid") == 0
    assert sweep("seed=0,1 run=grid") == 2
    assert "run=grid holds a run or a sweep already" in capsys.readouterr().err
    assert sweep("seed=0,1 run=grid resume=auto") == 0
    assert jobs[-1]["run"] == "grid/1" and jobs[-1]["resume"] == "auto"


@pytest.mark.slow
def test_without_a_folder_a_new_one_lies_under_sweeps(jobs):
    assert sweep("seed=0,1") == 0
    assert sweep("seed=0,1") == 0
    assert len(list(Path("sweeps").glob("pretrain-*"))) == 2
    assert [path.name for path in Path().iterdir()] == ["sweeps"]
    assert not list(Path("sweeps").glob("*/multirun.yaml"))


@pytest.mark.slow
def test_an_odd_folder_is_taken_as_it_is(jobs):
    assert main(["pretrain", "-m", "seed=0,1", "run=it's 数据=1"]) == 0
    assert jobs[1]["run"] == "it's 数据=1/1"


@pytest.mark.slow
def test_checkpoints_can_be_swept(jobs, capsys):
    assert main(["finetune", "ckpt=null", "model=transformer", "model.dim=96"]) == 0
    for name in ("a", "b"):
        save(Path(name) / "checkpoints", 1, {}, {}, jobs[0]["saved"], {}, {})
    assert main(["finetune", "-m", "ckpt=a,b", "model.dropout=0.2,0.3", "run=grid"]) == 0
    assert [(job["ckpt"], job["model"]["dropout"], job["model"]["dim"]) for job in jobs[1:]] == [
        ("a", 0.2, 96),
        ("a", 0.3, 96),
        ("b", 0.2, 96),
        ("b", 0.3, 96),
    ]
    assert main(["finetune", "-m", "ckpt=a,b", "model.dropuot=0.2", "run=typo"]) == 1
    assert "model has no setting 'dropuot'; did you mean 'dropout'?" in capsys.readouterr().out


def test_checkpoints_of_which_there_is_none_are_all_named_before_the_first_job(jobs, capsys):
    assert main(["finetune", "-m", "ckpt=a,b", "dataset=labelled_text", "dataset.path=x.csv", "seed=0,1"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" does not exist")[0] for line in said] == ["ptft finetune: ckpt=a", "ptft finetune: ckpt=b"]
    assert not jobs and not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_each_job_gets_what_follows_from_its_own_start(jobs):
    assert main(["finetune", "ckpt=null", "model=transformer", "model.dim=96"]) == 0
    save(Path("a") / "checkpoints", 1, {}, {}, jobs[0]["saved"], {}, {})
    assert main(["finetune", "-m", "ckpt=null,a", "model=transformer", "model.dim=96", "run=mixed"]) == 0
    assert [(job["ckpt"], job["optimizer"]["lr"], job["tokenizer"]["_target_"]) for job in jobs[1:]] == [
        (None, 1e-3, jobs[0]["tokenizer"]["_target_"]),
        ("a", 5e-4, jobs[0]["tokenizer"]["_target_"]),
    ]


def job(number: int, score: str, value: float | None, *overrides: str) -> dict:
    found = {"number": str(number), "score": score, "value": value, "lower": score == "loss", "status": "ok"}
    return found | {"overrides": list(overrides)}


@pytest.mark.parametrize(("score", "best"), [("loss", 1.0), ("perplexity", 1.0), ("mse", 1.0), ("accuracy", 2.0), ("r2", 2.0)])
def test_whether_high_or_low_is_better_depends_on_the_score(score, best, tmp_path):
    assert best_of(tmp_path, (score, 1.0), (score, 2.0)) == best


@pytest.mark.parametrize(("lower", "best"), [(True, 1.0), (False, 2.0)])
def test_a_score_of_ones_own_is_ranked_as_its_objective_says(lower, best, tmp_path):
    assert best_of(tmp_path, ("off_by", 1.0, lower), ("off_by", 2.0, lower)) == best


def best_of(folder: Path, *scores: tuple) -> float:
    """The value that the table of a sweep puts first."""
    for number, score in enumerate(scores):
        record(folder / str(number), [f"model={number}"], score, None)
    assert summarise(folder, "pretrain", []) == 0
    return float(table(folder)[0][scores[0][0]])


def test_jobs_without_a_finite_score_are_left_out_of_the_ranking():
    jobs = [job(0, "loss", float("nan"), "model=a"), job(1, "loss", 3.0, "model=b"), job(2, "loss", None, "model=c")]
    assert [setting.swept for setting in rank(jobs)] == [{"model": "b"}]


def test_the_table_is_made_of_what_the_jobs_left(tmp_path, capsys):
    record(tmp_path / "0", ["model=a|b"], ("loss", 2.0), None)
    record(tmp_path / "1", ["model=c"], ("loss", 1.0), None)
    (tmp_path / "2").mkdir()  # killed before it left anything
    assert summarise(tmp_path, "pretrain", ["--config-dir=my lab"]) == 0
    said = capsys.readouterr().out
    assert said.index("c ") < said.index("a|b")
    assert said.splitlines()[-1] == "ptft pretrain '--config-dir=my lab' model=c"
    assert "a\\|b" in (tmp_path / "summary.md").read_text()
