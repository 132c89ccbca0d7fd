"""What is typed, what reaches a command, and the one-line answers to mistakes."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ptft import __version__
from ptft.arguments import parse
from ptft.checkpoint import save
from ptft.choices import commands, comments, config_dir
from ptft.cli import main
from ptft.compose import OF_ONE_LAUNCH
from ptft.errors import CheckpointError, DataError, Diverged, MachineError, OptionError, Stopped

COMMANDS = ("train", "evaluate", "predict", "generate", "check", "show")


@pytest.fixture
def outcome() -> dict:
    """What the stand-in for a command is to do: return `score`, or raise `error`."""
    return {"score": ("loss", 1.0), "error": None}


@pytest.fixture
def composed(tmp_path, monkeypatch, outcome) -> list[dict]:
    """Configurations that reached a command, which does nothing; each test stands in a folder of its own."""
    found: list[dict] = []

    def stand_in(config: dict):
        found.append(config)
        if outcome["error"]:
            raise outcome["error"]
        return outcome["score"]

    for name in COMMANDS:
        module = ModuleType(name)
        module.main = stand_in
        monkeypatch.setitem(sys.modules, f"ptft.commands.{name}", module)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def ckpt(tmp_path, composed) -> Path:
    """A run with one checkpoint: a fine-tuned classifier on a small transformer."""
    assert main(["finetune", "ckpt=null", "model=transformer", "model.dim=96", "objective.dropout=0.3"]) == 0
    save(tmp_path / "runs" / "bert" / "checkpoints", 10, {}, {}, composed.pop()["saved"], {}, {})
    return tmp_path / "runs" / "bert"


@pytest.fixture
def own(tmp_path, composed) -> Path:
    """A folder for YAML files of the user's own."""
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    return tmp_path / "my"


MISTAKES = [
    ("pretrian", "there is no command 'pretrian'; did you mean 'pretrain'?"),
    ("pretrain modle=gpt", "there is no setting or group 'modle'; did you mean 'model'?"),
    ("pretrain model=transfromer", "model has no option 'transfromer'; did you mean 'transformer'?"),
    ("pretrain dataset=shakespear", "dataset has no option 'shakespear'; did you mean 'shakespeare'?"),
    ("pretrain objective=CLM", "objective has no option 'CLM'; did you mean 'clm'?"),
    ("pretrain objective=mml", "objective has no option 'mml'; did you mean 'mlm'?"),
    ("pretrain optimizer.lrr=0.1", "optimizer has no setting 'lrr'; did you mean 'lr'?"),
    ("pretrain model.dropuot=0.1", "model has no setting 'dropuot'; did you mean 'dropout'?"),
    ("pretrain trainer.stepz=5", "trainer has no setting 'stepz'; did you mean 'steps'?"),
    ("pretrain lr=0.1", "there is no setting or group 'lr'; did you mean optimizer.lr?"),
    ("pretrain batch_size=8", "there is no setting or group 'batch_size'; did you mean trainer.batch_size?"),
    ("pretrain model.lr=0.1", "model has no setting 'lr'; did you mean optimizer.lr?"),
    ("pretrain sead=1", "there is no setting or group 'sead'; did you mean 'seed'?"),
    ("pretrain seed=one", "seed: expected a whole number, found 'one'"),
    ("pretrain trainer.steps=1e3", "trainer.steps: expected a whole number, found '1000.0'; write 1000"),
    ("pretrain trainer.compile=maybe", "trainer.compile: expected true or false, found 'maybe'"),
    ("pretrain trainer.device=cpu", "trainer has no setting 'device'; did you mean device?"),
    ("pretrain dataset=text dataset.path=", "dataset.path is empty; give the name of a file or folder"),
    ("pretrain dataset=labelled_text dataset.path=x dataset.per_class=0", "dataset.per_class: expected at least 1, found 0"),
    (
        "pretrain dataset=/dev/null",
        "dataset=/dev/null: name what kind of data it is, as in dataset=text dataset.path=/dev/null (see ptft list dataset)",
    ),
    ("pretrain help", "'help' sets nothing; did you mean --help?"),
    ("pretrain model", "'model' sets nothing; model=NAME chooses one of those that ptft list model shows"),
    ("pretrain --multirun=2", "--multirun=2: --multirun takes no value"),
    ("pretrain seed=null", "seed cannot be null"),
    ("pretrain seed=-1", "seed: expected at least 0, found -1"),
    ("pretrain trainer.batch_size=big", "trainer.batch_size: expected a whole number, found 'big'"),
    ("pretrain trainer.batch_size=0", "trainer.batch_size: expected at least 1, found 0"),
    ("pretrain trainer.steps=1.5", "trainer.steps: expected a whole number, found '1.5'"),
    ("pretrain trainer.clip=-1", "trainer.clip: expected more than 0, found -1.0"),
    (
        "pretrain trainer.precision=fp17",
        "trainer.precision: expected one of auto, fp32, bf16, fp16, found 'fp17'",
    ),
    ("pretrain trainer.nonfinite=ignore", "trainer.nonfinite: expected one of stop, skip, rollback, found 'ignore'"),
    ("pretrain trainer.ema=2", "trainer.ema: expected a decay between 0 and 1, found 2.0"),
    (
        "pretrain trainer.eval_every=often",
        'trainer.eval_every=often: give steps (an integer >= 0), a fraction of the run (0.1, at most 1.0) or "2 epochs"',
    ),
    (
        "pretrain trainer.clip_each=true trainer.clip=null",
        "trainer.clip_each: there is nothing to clip to with trainer.clip=null; give a norm, such as trainer.clip=3",
    ),
    (
        "pretrain trainer.patience=2 trainer.eval_every=null",
        "trainer.patience: nothing is evaluated before the end with trainer.eval_every=null; leave one of them out",
    ),
    ("pretrain trainer.epochs=null", "trainer.steps: give trainer.steps=NUMBER or trainer.epochs=NUMBER"),
    ("pretrain device=gpu", "device: expected auto, cpu, cuda, cuda:0 or mps, found 'gpu'"),
    ("pretrain resume=auto", "resume=auto needs the run to continue: run=FOLDER"),
    ("pretrain resume=yes run=x", "resume: expected auto or null, found 'yes'"),
    ("pretrain resume.allow=[seed]", "resume has no settings of its own; did you mean resume_allow?"),
    (
        "pretrain experiment=bert_tiny,gpt_tiny",
        "experiment=bert_tiny,gpt_tiny holds several values: name one, as in experiment=bert_tiny, "
        "or add -m to run once per value",
    ),
    (
        "pretrain experiment=ulmfit_classify",
        "experiment/ulmfit_classify.yaml is not for this command, which has no group 'task'",
    ),
    ("pretrain resume_allow=seed", "resume_allow: expected a list, such as [a,b]"),
    (
        "pretrain optimizer.betas=0.9,0.98",
        "optimizer.betas=0.9,0.98 holds several values: write optimizer.betas=[0.9,0.98] for a list, "
        "or add -m to run once per value",
    ),
    ("pretrain +optimizer.lr=1", "optimizer.lr exists already: leave out the +"),
    (
        "pretrain optimizer=adamw ++optimizer.foo=1",
        "optimizer has no setting 'foo'; choose from: base_lr, betas, eps, fused, lr, scale, weight_decay, weight_decay_end",
    ),
    (
        "pretrain model=null",
        "model=null: a group takes the name of one of its options (model=NAME); to leave it out write ~model",
    ),
    ("pretrain ~model", "model must be given: model=NAME"),
    ("pretrain ~optimizer.lr", "~optimizer.lr: a setting cannot be left out, only a group; give it a value instead"),
    ("pretrain task=classify", "pretrain has no group 'task'; did you mean objective=NAME?"),
    ("pretrain objective=distill", "objective has no option 'distill', which is a task: ptft finetune task=distill"),
    ("finetune objective=clm ckpt=null", "finetune has no group 'objective'; did you mean task=NAME?"),
    ("finetune", "ckpt must be given: ckpt=RUN, or ckpt=null model=NAME to start from scratch"),
    ("finetune ckpt=null", "model must be given: model=NAME (without ckpt there is none to take over)"),
    ("finetune ckpt=nowhere", "ckpt=nowhere does not exist; . holds no run"),
    ("finetune ckpt=", "ckpt is empty; give a run folder or a checkpoint folder"),
    ("finetune ckpt=null model=gpt task.dropuot=1", "objective has no setting 'dropuot'; did you mean 'dropout'?"),
    ("evaluate", "ckpt must be given: ckpt=RUN"),
    ("predict ckpt=nowhere", "ckpt=nowhere does not exist; . holds no run"),
    ("show", "what must be given: ptft show RUN, or a setting or choice, such as optimizer.lr or model=gpt"),
    ("diff", "first and second must be given: ptft diff RUN1 RUN2"),
    ("show model=gpt seed=1", "there is no setting or group 'seed'; choose from: what"),
    ("diff a", "second must be given: ptft diff RUN1 RUN2"),
    ("diff a b", "a does not exist and no run lies there; training runs make their folders under runs/"),
    ("diff a b c", "'c' sets nothing; settings are written key=value, without spaces around the ="),
    ("list modle", "there is no group 'modle'; did you mean 'model'?"),
    ("find", "expected what to find, as in ptft find lr pretrain key=value; found nothing"),
    ("find rl", "expected what to find, as in ptft find lr pretrain key=value; found 'rl'; choose from: batch, lr"),
    (
        "find lr evaluate",
        "expected a command to try, as in ptft find lr pretrain key=value; found 'evaluate'; choose from: finetune, pretrain",
    ),
    ("find lr -m seed=0,1", "find does not sweep: leave out -m"),
    (
        "find lr find.memory=8G",
        "find.memory is for ptft find batch; ptft find lr has find.steps, find.lowest, find.highest, find.to",
    ),
    ("find batch pretrain find.highest=1", "find.highest is for ptft find lr; ptft find batch has find.memory, find.seconds"),
    (
        "predict -m ckpt=a,b input=x.txt output=made/all.jsonl",
        "output=made/all.jsonl is one for all jobs: number it, as in 'output=made/all-${hydra:job.num}.jsonl'",
    ),
    ("diff -m a b", "diff does not sweep: leave out -m"),
    ("show -m model=gpt,nnlm", "show does not sweep: leave out -m"),
    ("list model -m", "list does not sweep: leave out -m"),
    ("data preview -m dataset=digits,shakespeare", "data does not sweep: leave out -m"),
    ("pretrain --package=model", "--package goes with --cfg=job"),
    (
        "pretrain -m dataset.path=[a=b,c",
        "dataset.path=[a=b,c is not a list of values; write one that holds odd characters in quotes: dataset.path='a=b',c",
    ),
    ("find lr find.step=3", "find has no setting 'step'; did you mean 'steps'?"),
    ("find lr find.lowest=0", "find.lowest: expected more than 0, found 0.0"),
    ("find lr find.lowest=2", "find.lowest: expected less than find.highest=1, found 2"),
    ("find lr find.to=rates.jpg", "find.to: expected the name of a PNG file, such as rates.png, found 'rates.jpg'"),
    ("find batch find.memory=lots", "find.memory: expected a size such as 8G or 512M, found 'lots'"),
    ("check", "expected a command to try, as in ptft check pretrain key=value; found nothing"),
    (
        "check pretran",
        "expected a command to try, as in ptft check pretrain key=value; found 'pretran'; did you mean 'pretrain'?",
    ),
    ("pretrain --steps=3", "there is no flag '--steps'; settings have no dashes: steps=3"),
    ("pretrain --multi-run", "there is no flag '--multi-run'; did you mean '--multirun'?"),
    (
        "pretrain --experimental-rerun=x",
        "there is no flag '--experimental-rerun'; settings have no dashes: experimental-rerun=x",
    ),
    ("pretrain --cfg=jobs", "--cfg needs a value: --cfg=job|hydra|all"),
    ("pretrain --config-dir=nowhere", "--config-dir=nowhere: there is no such folder"),
    ("pretrain --config-name=nowhere", "--config-name=nowhere: there is no such file nowhere.yaml"),
    ("pretrain gpt", "'gpt' sets nothing; settings are written key=value, without spaces around the ="),
    ("pretrain trainer.steps = 3", "'trainer.steps' sets nothing; settings are written key=value, without spaces around the ="),
    ("pretrain model.dim=${nothing}", "model.dim: Interpolation key 'nothing' not found"),
    ("pretrain -m --cfg=job", "--multirun and --cfg do not go together: leave out -m to see the configuration"),
    ("pretrain -m seed=0,one", "seed: expected a whole number, found 'one'"),
    (
        "pretrain experiment=shakespear_char",
        "experiment has no option 'shakespear_char'; did you mean 'shakespeare_char'?",
    ),
]


@pytest.mark.parametrize(("typed", "answer"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_mistake_is_answered_in_one_line(typed, answer, composed, capsys):
    code = main(typed.split(" "))
    said = capsys.readouterr()
    command = typed.split()[0]
    prefix = f"ptft {command}: " if command in commands() else "ptft: "
    assert (code, said.err, said.out) == (2, f"{prefix}{answer}\n", "")
    assert not composed
    assert not list(Path.cwd().iterdir())


def test_all_faults_are_said_at_once(composed, capsys):
    assert main(["pretrain", "seed=-1", "trainer.batch_size=0", "device=gpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["device", "seed", "trainer.batch_size"]


@pytest.mark.parametrize("words", ["", "-m seed=0,1 "])
def test_every_setting_that_there_is_not_or_that_holds_something_else_is_named(words, composed, capsys):
    assert main(f"pretrain {words}trainer.stepz=3 trainer.steps=9 optimizer.lrr=1 trainer.epochs=many model.dim=8".split()) == 2
    assert capsys.readouterr().err.splitlines() == [
        "ptft pretrain: trainer has no setting 'stepz'; did you mean 'steps'?",
        "ptft pretrain: optimizer has no setting 'lrr'; did you mean 'lr'?",
        "ptft pretrain: trainer.epochs: expected a number, found 'many'",
    ]
    assert not composed


IN_OWN_FILES = [
    ("trainer: {stepz: 3}", "experiment/mine.yaml: trainer has no setting 'stepz'; did you mean 'steps'?"),
    ("optimizer: {lrr: 3}", "optimizer has no setting 'lrr'; did you mean 'lr'?"),
    ("trainer: {steps: many}", "experiment/mine.yaml: trainer.steps: expected a whole number, found 'many'"),
    ("trainr: {steps: 3}", "experiment/mine.yaml: there is no setting 'trainr'; did you mean 'trainer'?"),
    ("defaults: [override /model: gptt]", "model has no option 'gptt'; did you mean 'gpt'?"),
    (
        "defaults: [override /task: regress]",
        "experiment/mine.yaml is not for this command, which has no group 'task'",
    ),
    ("trainer: 5", "experiment/mine.yaml: expected settings of its own (name: value), found 5"),
    ("- 1", "my/experiment/mine.yaml is not a mapping of settings (name: value)"),
    ("", "my/experiment/mine.yaml is empty"),
    (f"seed: 1 {'#' * 1_000_000}", "my/experiment/mine.yaml is larger than 1,000,000 bytes"),
    ("trainer: [1", "my/experiment/mine.yaml, line 3: not valid YAML (did not find expected ',' or ']')"),
    ("a: &a [1]\nb: *a", "my/experiment/mine.yaml, line 3: aliases (*name) are not taken; write the value out"),
]


@pytest.mark.parametrize(("text", "answer"), IN_OWN_FILES, ids=[text[:40] for text, _ in IN_OWN_FILES])
def test_a_mistake_in_an_own_file_is_answered_in_one_line(text, answer, own, composed, capsys):
    (own / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert main(["pretrain", "--config-dir=my", "experiment=mine"]) == 2
    assert capsys.readouterr().err == f"ptft pretrain: {answer}\n"
    assert not composed


def test_faults_of_every_kind_in_own_files_are_said_at_once(own, composed, capsys):
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\noptimizer: {lrr: 3, lr: high}\nmodel: {dropout: lots}\ntrainer: {batch_size: 0}\nseed: -1\n"
    )
    assert main(["pretrain", "--config-dir=my", "experiment=mine", "dataset=labelled_text"]) == 2
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "ptft pretrain: dataset.path must be given: dataset.path=VALUE",
        "ptft pretrain: model.dropout: expected a number, found 'lots'",
        "ptft pretrain: optimizer has no setting 'lrr'; did you mean 'lr'?",
        "ptft pretrain: optimizer.lr: expected a number, found 'high'",
        "ptft pretrain: seed: expected at least 0, found -1",
        "ptft pretrain: trainer.batch_size: expected at least 1, found 0",
    ]
    assert not composed


def test_values_of_a_wrong_type_in_own_files_are_said_beside_faults_of_other_kinds(own, composed, capsys):
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\noptimizer: {lrr: 3}\ntrainer: {batch_size: 0, steps: many, stepz: 3, clip: hard}\n"
        "ckpt_load: {reinit_top: all}\nseed: one\ndevice: gpu\n"
    )
    assert main(["pretrain", "--config-dir=my", "experiment=mine", "dataset=labelled_text"]) == 2
    said = [line.removeprefix("ptft pretrain: ") for line in capsys.readouterr().err.splitlines()]
    assert sorted(line.removeprefix("experiment/mine.yaml: ") for line in said) == [
        "ckpt_load.reinit_top: expected a whole number, found 'all'",
        "dataset.path must be given: dataset.path=VALUE",
        "device: expected auto, cpu, cuda, cuda:0 or mps, found 'gpu'",
        "optimizer has no setting 'lrr'; did you mean 'lr'?",
        "seed: expected a whole number, found 'one'",
        "trainer has no setting 'stepz'; did you mean 'steps'?",
        "trainer.batch_size: expected at least 1, found 0",
        "trainer.clip: expected a number, found 'hard'",
        "trainer.steps: expected a whole number, found 'many'",
    ]
    assert not composed


def test_a_class_of_ones_own_choice_is_told_all_that_its_constructor_misses_and_what_else_is_wrong(own, composed, capsys):
    (own / "schedule").mkdir()
    (own / "schedule" / "mine.yaml").write_text("# Mine\n_target_: ptft.schedules.Cosine\nwarmup: [1]\nend: 0\n")
    assert main(["pretrain", "--config-dir=my", "schedule=mine", "trainer.batch_size=0"]) == 2
    said = capsys.readouterr().err
    assert "schedule has no setting 'end'" in said and "schedule.warmup: expected " in said
    assert "schedule.final must be given" in said and "trainer.batch_size: expected at least 1, found 0" in said
    assert not composed


def test_a_broken_file_that_nobody_asks_for_is_no_fault(own, composed):
    (own / "experiment" / "broken.yaml").write_text("trainer: [1")
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    assert main(["pretrain", "--config-dir=my", "experiment=mine"]) == 0
    assert composed[0]["seed"] == 3


def test_a_configuration_of_ones_own_without_defaults_is_told_how_to_begin(own, composed, capsys):
    (own / "bare.yaml").write_text("seed: 3\n")
    assert main(["pretrain", "--config-dir=my", "--config-name=bare"]) == 2
    assert capsys.readouterr().err.endswith("has no defaults: begin it with 'defaults: [pretrain, _self_]'\n")


def test_what_hydra_refuses_itself_is_wrong_usage_too(composed):
    assert main(["pretrain", "--cfg=job", "--package=nothing"]) == 2
    assert main(["pretrain", "--hydra-help"]) == 0


def test_a_task_without_its_package_is_told_how_to_begin(own, capsys):
    (own / "task").mkdir(exist_ok=True)
    (own / "task" / "mine.yaml").write_text("# Mine\n_target_: ptft.tasks.classify.Classify\n")
    words = f"finetune --config-dir {own} ckpt=null model=transformer task=mine run=out"
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "task/mine.yaml: begin the file with '# @package objective'" in said


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("data dataset=digits transform=simclr transform.flip=2", "transform=simclr: flip=2 is no probability"),
        ("finetune ckpt=null task=classify task.label_smoothing=2", "task=classify: label_smoothing=2 is no share"),
        ("finetune ckpt=null --config-dir=my task=mine", "task=mine: label_smoothing=3 is no share"),
        ("finetune ckpt=null -m task.label_smoothing=2,3 run=sweep", "task=classify: label_smoothing=3 is no share"),
    ],
)
def test_what_a_constructor_refuses_is_said_with_the_option_as_it_is_typed(typed, answer, own, monkeypatch, capsys):
    (own / "task").mkdir()
    node = yaml.safe_load((config_dir() / "task" / "classify.yaml").read_text()) | {"label_smoothing": 3}
    (own / "task" / "mine.yaml").write_text(f"# @package objective\n{yaml.safe_dump(node)}")
    monkeypatch.delitem(sys.modules, "ptft.commands.train")
    digits = ["dataset=digits", "model=linear", "trainer.steps=1"] if typed.startswith("finetune") else []
    assert main([*typed.split(), *digits]) in (1, 2)
    assert f": {answer}" in capsys.readouterr().err


def test_a_class_that_was_chosen_by_no_name_is_named_itself():
    error = OptionError("model", "GPT", "dim=30 cannot be split over heads=4")
    assert str(error.as_chosen({"model": "from_ckpt", "task": "classify"})) == str(error)
    assert str(error) == "model GPT: dim=30 cannot be split over heads=4"


def test_an_experiment_without_its_package_is_told_how_to_begin(own, capsys):
    (own / "experiment" / "mine.yaml").write_text("defaults: [override model: gpt]\n")
    assert main(["pretrain", "--config-dir", "my", "experiment=mine"]) == 2
    assert "begin it with '# @package _global_' and write 'override /model: OPTION'" in capsys.readouterr().err


def test_a_command_gets_plain_values_and_what_was_typed(composed):
    assert main(["pretrain", "model=gpt", "objective=clm", "trainer.steps=3"]) == 0
    config = composed[0]
    assert type(config["model"]) is dict and type(config["optimizer"]["betas"]) is list
    assert config["trainer"]["steps"] == 3
    assert config["command"] == "pretrain"
    assert config["argv"] == ["ptft", "pretrain", "model=gpt", "objective=clm", "trainer.steps=3"]


def test_each_run_gets_a_folder_of_its_own(composed):
    for _ in range(2):
        assert main(["pretrain"]) == 0
    first, second = (config["run"] for config in composed)
    assert first.startswith("runs/pretrain-") and second.startswith("runs/pretrain-") and first != second
    assert not list(Path.cwd().iterdir())  # composing leaves nothing behind


def test_a_folder_given_for_the_run_is_taken(composed):
    assert main(["pretrain", "run=here"]) == 0
    assert composed[0]["run"] == "here"


@pytest.mark.parametrize(
    "path",
    ["数据/模型", "a=b", "~/x", "#1", "it's", "a(1)", "runs/[x]", "a b", "a,b", "a\\b", "C:\\", "{x}", "x'y\\'z", "100%"],
)
def test_odd_paths_are_taken_as_they_are(path, composed):
    assert main(["pretrain", f"dataset.path={path}", f"run={path}"]) == 0
    assert composed[0]["dataset"]["path"] == composed[0]["run"] == path


@pytest.mark.parametrize("prompt", ["To be, or not to be", "[1,2]", "null", "it's 'fine'", "a=b", "123", "{", "true", ""])
def test_a_prompt_is_text_whatever_it_looks_like(prompt, ckpt, composed):
    assert main(["generate", f"ckpt={ckpt}", f"prompt={prompt}"]) == 0
    assert composed[0]["prompt"] == prompt


def test_an_objective_brings_the_model_that_suits_it_and_the_command_line_still_wins(composed):
    for words in ([], ["objective=clm"], ["objective=clm", "model=gpt_nano"], ["objective=clm", "model=transformer"]):
        assert main(["pretrain", *words]) == 0
    models = [(config["model"]["_target_"].rpartition(".")[2], config["model"]["max_length"]) for config in composed]
    assert models == [("Transformer", 128), ("GPT", 128), ("GPT", 64), ("Transformer", 128)]


@pytest.mark.parametrize("dataset", ["dataset=labelled_text dataset.path=rows.csv", "dataset=sentence_polarity"])
def test_text_has_no_transform_whatever_the_objective_brings_for_images(dataset, composed):
    assert main(["pretrain", "objective=classify", "model=transformer", *dataset.split()]) == 0
    assert main(["pretrain", "objective=classify"]) == 0
    (text, image) = composed
    assert text["transform"] is None and text["tokenizer"]["_target_"].endswith("BPE")
    assert image["transform"] is not None and image["tokenizer"] is None


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_task_of_images_brings_images_and_no_tokenizer(task, composed):
    assert main(["finetune", "ckpt=null", f"task={task}", "model=resnet_small"]) == 0
    assert composed[0]["tokenizer"] is None
    assert composed[0]["trainer"]["batch_size"] == 8


def test_a_task_may_be_called_the_objective_it_is(composed):
    assert main(["finetune", "ckpt=null", "model=gpt", "objective=generate"]) == 0
    assert composed[0]["objective"]["_target_"].endswith("Generate")


def test_an_experiment_beats_the_objective_a_preset_beats_it_and_the_command_line_all(own, composed):
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /objective: clm, override /model: gpt_nano]\n"
        "trainer: {steps: 70, batch_size: 5, log_every: 7}\n"
    )
    assert main(["pretrain", "--config-dir=my", "experiment=mine", "preset=smoke", "trainer.batch_size=6"]) == 0
    config = composed[0]
    assert config["objective"]["_target_"].endswith("CLM") and config["model"]["max_length"] == 64
    assert config["trainer"]["steps"] == 3 and config["trainer"]["batch_size"] == 6


@pytest.mark.parametrize("command", [["pretrain"], ["finetune", "ckpt=null", "model=gpt"]], ids=lambda words: words[0])
@pytest.mark.parametrize("path", sorted((config_dir() / "preset").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_composes_with_every_training_command(command, path, composed):
    assert main([*command, f"preset={path.stem}"]) == 0


def options() -> list[str]:
    """Every option of every group that the training commands have."""
    paths = sorted(config_dir().glob("*/*.yaml"))
    return [f"{path.parent.name}={path.stem}" for path in paths if path.parent.name != "experiment"]


@pytest.mark.slow
@pytest.mark.parametrize("option", options())
def test_every_option_composes(option, composed, request):
    command = ["finetune", "ckpt=null", "model=gpt"] if option.startswith("task=") else ["pretrain"]
    group, _, name = option.partition("=")
    settings = yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text()) or {}
    asked = [key for key, value in settings.items() if value == "???"]
    needed = [f"{group}.{key}={request.getfixturevalue('ckpt') if key == 'teacher' else 'x'}" for key in asked]
    assert main([*command, option, *needed]) == 0


EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_with_a_training_command(name, composed):
    commands = (["pretrain"], ["finetune", "ckpt=null", "model=transformer", "tokenizer=bpe"])
    assert 0 in [main([*command, f"experiment={name}"]) for command in commands]


def test_finetuning_takes_model_and_tokenizer_from_the_checkpoint(ckpt, composed):
    saved = yaml.safe_load((ckpt / "checkpoints" / "step-0000000010" / "config.yaml").read_text())
    assert main(["finetune", f"ckpt={ckpt}"]) == 0
    assert composed[0]["model"] == saved["model"] and composed[0]["model"]["dim"] == 96
    assert composed[0]["tokenizer"] == saved["tokenizer"]


def test_settings_beside_a_checkpoint_change_what_it_brings(ckpt, composed):
    assert main(["finetune", f"ckpt={ckpt}/last", "model.dropout=0.2"]) == 0
    assert composed[0]["model"]["dropout"] == 0.2 and composed[0]["model"]["dim"] == 96


def test_a_misspelt_setting_beside_a_checkpoint_is_refused(ckpt, composed, capsys):
    assert main(["finetune", f"ckpt={ckpt}", "model.dropuot=0.2"]) == 2
    assert capsys.readouterr().err == "ptft finetune: model has no setting 'dropuot'; did you mean 'dropout'?\n"


def test_evaluating_takes_the_task_and_the_data_from_the_checkpoint_too(ckpt, composed):
    assert main(["evaluate", f"ckpt={ckpt}", "split=valid", "dataset.path=other.csv"]) == 0
    assert composed[0]["objective"]["dropout"] == 0.3
    assert composed[0]["dataset"]["path"] == "other.csv" and composed[0]["split"] == "valid"


def test_pretraining_goes_on_with_the_model_and_tokenizer_of_its_checkpoint(ckpt, composed):
    assert main(["pretrain", f"ckpt={ckpt}", "objective=mlm"]) == 0
    assert composed[0]["model"]["dim"] == 96
    assert main(["pretrain", f"ckpt={ckpt}", "model=transformer_tiny"]) == 0
    assert composed[1]["model"]["dim"] != 96


def test_from_scratch_a_default_tokenizer_is_trained(composed):
    assert main(["finetune", "ckpt=null", "model=transformer"]) == 0
    assert main(["finetune", "ckpt=null", "model=transformer", "tokenizer=byte"]) == 0
    assert [config["tokenizer"]["_target_"].rpartition(".")[2] for config in composed] == ["BPE", "Byte"]


def test_a_checkpoint_named_in_an_own_file_is_filled_in(ckpt, own, composed, capsys):
    mine = own / "experiment" / "mine.yaml"
    mine.write_text(f"# @package _global_\nckpt: {ckpt}\nmodel: {{dropout: 0.25}}\n")
    assert main(["finetune", "--config-dir=my", "experiment=mine"]) == 0
    assert composed[0]["model"]["dim"] == 96 and composed[0]["model"]["dropout"] == 0.25
    mine.write_text(f"# @package _global_\nckpt: {ckpt}\nmodel: {{dropuot: 0.25}}\n")
    assert main(["finetune", "--config-dir=my", "experiment=mine"]) == 2
    assert capsys.readouterr().err == "ptft finetune: model has no setting 'dropuot'; did you mean 'dropout'?\n"


def test_the_model_of_a_checkpoint_is_shown_by_cfg(ckpt, composed, capsys):
    assert main(["finetune", f"ckpt={ckpt}", "--cfg=job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["dim"] == 96
    assert not composed


def hostile(ckpt: Path, text: str) -> None:
    """Put a checkpoint with that configuration, whole in every other way, in place of an honest one."""
    shutil.rmtree(ckpt / "checkpoints")
    save(ckpt / "checkpoints", 10, {}, {}, text, {}, {})


def test_a_checkpoint_cannot_read_the_environment(ckpt, composed, capsys, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    hostile(ckpt, 'model: {_target_: a.b, name: "${oc.env:SECRET}"}\ntokenizer: {_target_: a.b}')
    assert main(["finetune", f"ckpt={ckpt}"]) == 2
    said = capsys.readouterr()
    assert said.err == "ptft finetune: model.name must be given: model.name=VALUE\n"
    assert "hunter2" not in said.out and not composed


@pytest.mark.parametrize("text", ["model: {defaults: [/hydra/launcher: basic]}", "model: 3", "model: [1]"])
def test_a_checkpoint_cannot_bring_more_than_settings(ckpt, composed, capsys, text):
    hostile(ckpt, text)
    assert main(["finetune", f"ckpt={ckpt}"]) == 4
    assert "model is not a plain mapping of settings" in capsys.readouterr().err


def test_a_configuration_changed_after_it_was_saved_is_refused(ckpt, composed, capsys):
    (ckpt / "checkpoints" / "step-0000000010" / "config.yaml").write_text("model: {_target_: a.b}")
    assert main(["finetune", f"ckpt={ckpt}"]) == 4
    assert "config.yaml: damaged" in capsys.readouterr().err


def test_a_checkpoint_does_not_say_whom_to_trust(ckpt, composed):
    hostile(ckpt, "trusted_modules: [evil]\nmodel: {_target_: evil.Net}\ntokenizer: {_target_: a.b}")
    assert main(["finetune", f"ckpt={ckpt}"]) == 0
    assert composed[0]["trusted_modules"] == []


def test_the_saved_configuration_starts_the_same_run_again(composed):
    assert main(["pretrain", "objective=clm", "trainer.steps=7", "model.hidden=${model.dim}", "seed=3"]) == 0
    Path("saved").mkdir()
    Path("saved/config.yaml").write_text(composed[0]["saved"])
    assert main(["pretrain", "--config-dir=saved", "--config-name=config"]) == 0
    first, again = composed
    assert again["saved"] == first["saved"]
    changing = {"run", "argv", "folders"}
    assert {key: value for key, value in first.items() if key not in changing} == {
        key: value for key, value in again.items() if key not in changing
    }
    assert OF_ONE_LAUNCH.items() <= yaml.safe_load(first["saved"]).items()


def test_what_comes_from_the_environment_is_used_but_not_saved(composed, monkeypatch):
    monkeypatch.setenv("PLACE", "/private")
    assert main(["pretrain", "dataset.path=${oc.env:PLACE}/corpus.txt", "tokenizer.vocab_size=${model.dim}"]) == 0
    assert composed[0]["dataset"]["path"] == "/private/corpus.txt"
    assert yaml.safe_load(composed[0]["saved"])["dataset"]["path"] == "${oc.env:PLACE}/corpus.txt"
    assert yaml.safe_load(composed[0]["saved"])["tokenizer"]["vocab_size"] == 128


def test_what_comes_from_the_environment_at_second_hand_is_not_saved_either(composed, monkeypatch):
    monkeypatch.setenv("PLACE", "/private")
    words = ["dataset.path=${oc.env:PLACE}", "dataset.valid_path=${dataset.path}/valid.txt"]
    assert main(["pretrain", *words]) == 0
    assert composed[0]["dataset"]["valid_path"] == "/private/valid.txt"
    assert "/private" not in composed[0]["saved"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError, 3), (CheckpointError, 4), (Diverged, 5), (MachineError, 6), (Stopped, 75)],
)
def test_each_kind_of_error_has_its_exit_code(error, code, composed, outcome, capsys):
    outcome["error"] = error("row 7 is no good")
    assert main(["pretrain"]) == code
    assert capsys.readouterr().err == "ptft pretrain: row 7 is no good\n"


def test_a_traceback_is_shown_on_demand(composed, outcome, capsys, monkeypatch):
    monkeypatch.setenv("PTFT_TRACEBACK", "1")
    outcome["error"] = DataError("row 7 is no good")
    assert main(["pretrain"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback_and_exits_with_1(composed, outcome, capsys):
    outcome["error"] = ZeroDivisionError("oops")
    assert main(["pretrain"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and said.endswith("ptft pretrain: internal error: ZeroDivisionError: oops\n")


def test_check_composes_the_command_it_checks(composed):
    assert main(["check", "finetune", "ckpt=null", "model=gpt", "trainer.steps=2"]) == 0
    assert composed[0]["command"] == "finetune" and composed[0]["run"] is None
    assert composed[0]["argv"][:3] == ["ptft", "check", "finetune"]


def test_show_and_list_take_a_bare_word(composed, capsys):
    assert main(["show", "runs/bert"]) == 0
    assert composed[0]["what"] == "runs/bert"
    assert main(["show", "model=gpt"]) == 0
    assert composed[1]["what"] == "model=gpt"
    assert main(["list", "objective"]) == 0
    said = capsys.readouterr().out
    assert "mlm" in said and "clm" in said and "adamw" not in said


@pytest.mark.parametrize(
    ("word", "group"),
    [
        ("models", "model"),
        ("objectives", "objective"),
        ("tasks", "task"),
        ("data", "dataset"),
        ("datasets", "dataset"),
        ("presets", "preset"),
        ("optimizers", "optimizer"),
        ("schedulers", "schedule"),
    ],
)
def test_a_group_may_be_called_in_the_plural_or_by_its_common_name(word, group, composed, capsys):
    assert main(["list", group]) == 0
    said = capsys.readouterr().out
    assert main(["ls", word]) == 0
    assert capsys.readouterr().out == said and said.startswith(group)


def test_list_shows_every_group_and_the_users_own_options(own, capsys):
    (own / "model").mkdir()
    (own / "model" / "mine.yaml").write_text("# The one from our lab\n_target_: mylab.Net\n")
    assert main(["list", "--config-dir=my"]) == 0
    said = capsys.readouterr().out
    assert "The one from our lab" in said and "adamw" in said and "cosine" in said


def test_help_of_a_command_lists_choices_settings_and_their_meaning(composed, capsys):
    assert main(["pretrain", "--help", "model=gpt"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(commands()["pretrain"])
    assert "*gpt " in said and " transformer " in said
    assert "trainer.steps=null" in said and "stop after so many optimizer steps" in said
    assert not composed


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command, composed, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: ptft {command}" in capsys.readouterr().out


def test_every_shared_setting_says_what_it_means():
    for path in [*config_dir().glob("*.yaml"), *(config_dir() / "trainer").glob("*.yaml")]:
        said = comments(path)
        settings = yaml.safe_load(path.read_text()) or {}
        silent = [name for name, value in settings.items() if not isinstance(value, dict) and name not in said]
        assert [name for name in silent if name != "defaults"] == [], path


def test_the_yaml_defaults_are_those_of_the_types():
    from dataclasses import asdict

    from ptft.schema import Settings

    assert yaml.safe_load((config_dir() / "trainer" / "default.yaml").read_text()) == asdict(Settings())


@pytest.mark.parametrize("words", [["help", "show"], ["--help", "show"], ["-h", "show"]])
def test_help_before_a_command_is_that_commands_help(words, composed, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert main(["show", "--help"]) == 0
    assert shown == capsys.readouterr().out


def test_help_names_every_command_and_version_the_release(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said and text in said for name, text in commands().items())
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ptft {__version__}\n"
    assert main([]) == 2


COMPLETIONS = [
    ("ptft f", ["finetune", "find"]),
    ("ptft check fi", ["finetune"]),
    ("ptft find l", ["lr"]),
    ("ptft find lr pretrain find.s", ["find.steps="]),
    ("ptft find lr finetune ckpt=some", ["ckpt=some_run/"]),
    ("ptft list opt", ["optimizer"]),
    ("ptft ls opt", ["optimizer"]),
    ("ptft show optimizer.lr", ["optimizer.lr"]),
    ("ptft show model=gpt_", ["model=gpt_nano"]),
    ("ptft diff some", ["some_run/"]),
    ("ptft pretrain objective=m", ["objective=mae", "objective=mlm", "objective=moco", "objective=moco_v3"]),
    ("ptft check pretrain objective=m", ["objective=mae", "objective=mlm", "objective=moco", "objective=moco_v3"]),
    ("ptft pretrain model=gpt model.dr", ["model.dropout="]),
    ("ptft finetune ckpt=some", ["ckpt=some_run/"]),
    ("ptft show some", ["some_run/"]),
    ("ptft pretrain --c", ["--cfg", "--config-name", "--config-dir"]),
    ("ptft nonsense x", []),
    ("ptft pretrain model=nonsense {", []),
]


@pytest.mark.parametrize(("line", "words"), COMPLETIONS, ids=[line for line, _ in COMPLETIONS])
def test_the_shell_completes(line, words, composed, capsys, monkeypatch):
    Path("some_run").mkdir()
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    main(["-sc", "query=bash"])
    assert capsys.readouterr().out.split() == words


def test_the_completion_script_is_for_ptft(composed, capsys):
    assert main(["-sc", "install=bash"]) == 0
    assert "ptft" in capsys.readouterr().out


def test_memory_is_collected_while_a_command_runs_and_after_a_mistake(composed, monkeypatch):
    found = []
    monkeypatch.setattr(sys.modules["ptft.commands.train"], "main", lambda config: found.append(gc.isenabled()))
    assert main(["pretrain"]) == 0
    assert main(["pretrain", "sead=1"]) == 2
    assert found == [True] and gc.isenabled()


def test_flags_may_have_their_value_beside_or_behind_them():
    for words in (["--config-dir", "my"], ["--config-dir=my"], ["-cd", "my"]):
        assert parse("pretrain", words).flags == {"--config-dir": "my"}


IMPORTS = [
    (["--help"], ["torch", "hydra", "omegaconf", "yaml"]),
    (["pretrian"], ["torch", "hydra", "omegaconf", "yaml"]),
    (["pretrain", "--help"], ["torch"]),
    (["pretrain", "optimizer.lrr=1"], ["torch"]),
    (["pretrain", "trainer.batch_size=0"], ["torch"]),
    (["finetune"], ["torch"]),
    (["list"], ["torch"]),
]


@pytest.mark.parametrize(("words", "heavy"), IMPORTS, ids=[" ".join(words) for words, _ in IMPORTS])
def test_nothing_heavy_is_imported_to_answer_a_question_or_a_mistake(words, heavy, tmp_path):
    program = f"import sys; from ptft.cli import main; main({words}); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert not set(heavy) & set(ran.stderr.split())


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    program = "from ptft.cli import main; raise SystemExit(main(['pretrain', '--help']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_process_ends_with_all_that_was_said_its_threads_done_and_its_exit_code(tmp_path):
    program = """
import atexit, sys, threading, time
from ptft import app, cli

def run(*words):
    atexit.register(print, "at its end")
    threading.Thread(target=lambda: (time.sleep(0.1), print("from a thread"))).start()
    print("said")
    return 3

app.run, sys.argv = run, ["ptft", "list"]
cli.run()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ran.returncode, ran.stdout.splitlines(), ran.stderr) == (3, ["said", "from a thread", "at its end"], "")
