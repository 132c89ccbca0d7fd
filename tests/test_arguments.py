"""What the words after a command imply."""

import pytest

from ptft import arguments
from ptft.arguments import implied, parse, parsed
from ptft.errors import UserError


def unknown(ckpt):
    """Finds no checkpoint."""
    raise UserError(f"ckpt={ckpt} does not exist")


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("ckpt=runs/a", []),
        ("ckpt=runs/a dataset=labelled_text", []),
        ("ckpt=runs/a dataset=table", []),
        ("ckpt=runs/a dataset=digits", ["1e-3"]),
        ("-m ckpt=null,runs/a dataset=image_folder", ["1e-3"]),
        ("ckpt=runs/a dataset=digits tuning=frozen", ["5e-3"]),
        ("ckpt=torchvision:resnet18 dataset=digits", ["5e-5"]),
        ("ckpt=null model=lstm", ["1e-3"]),
        ("ckpt=hf:folder", ["5e-5"]),
        ("ckpt=torchvision:resnet18 tuning=full", ["5e-5"]),
        ("ckpt=hf:folder tuning=lora", []),
        ("ckpt=torchvision:resnet18 tuning=frozen", []),
        ("ckpt=runs/a tuning=frozen", ["5e-3"]),
        ("ckpt=runs/a tuning=lora task=tag", ["5e-3"]),
        ("ckpt=runs/a tuning=lora optimizer=sgd", ["0.1"]),
        ("ckpt=runs/a tuning=frozen tuning.blocks=2", []),
        ("ckpt=runs/a tuning=frozen task=segment", []),
        ("ckpt=runs/a tuning=gradual", ["5e-3"]),
        ("ckpt=hf:folder tuning=gradual", ["5e-5"]),
        ("-m ckpt=runs/a tuning=full,lora", []),
        ("-m ckpt=hf:folder tuning=full,lora", []),
        ("ckpt=null model=lstm optimizer.lr=2e-3", []),
        ("ckpt=null model=lstm optimizer.base_lr=2e-3", []),
        ("ckpt=null experiment=ulmfit_classify", []),
        ("-m ckpt=null,runs/a", []),
    ],
)
def test_fresh_and_few_weights_are_fine_tuned_faster_and_published_ones_slower_unless_a_rate_is_given(words, rate, monkeypatch):
    monkeypatch.setattr(arguments, "locate", unknown)
    found = implied("finetune", parse("finetune", words.split()))
    assert [word.partition("=")[2] for word in found if word.startswith("optimizer.lr=")] == rate


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ckpt=hf:bert", ["optimizer=adamw", "optimizer.lr=5e-5"]),
        ("-m ckpt=hf:bert,hf:roberta", ["optimizer=adamw", "optimizer.lr=5e-5"]),
        ("ckpt=hf:bert optimizer=muon", []),
        ("ckpt=hf:bert optimizer.lr=1e-4", []),
        ("ckpt=runs/a", []),
        ("ckpt=torchvision:resnet18", []),
        ("", []),
    ],
)
def test_published_language_models_are_pretrained_further_gently(words, expected):
    found = implied("pretrain", parse("pretrain", words.split()))
    assert [word for word in found if word.startswith("optimizer")] == expected


@pytest.mark.parametrize(
    ("words", "least"),
    [("trainer.epochs=2", ["1"]), ("-m trainer.epochs=1,2", ["1"]), ("trainer.epochs=2 trainer.min_steps=9", []), ("", [])],
)
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_epochs_that_were_asked_for_are_no_more(command, words, least):
    found = implied(command, parse(command, words.split()))
    assert [word.partition("=")[2] for word in found if word.startswith("trainer.min_steps=")] == least


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ckpt=hf:bert,null", ["hf:bert", None]),
        ("ckpt='a=b',c", ["a=b", "c"]),
        ("seed=range(1,4)", ["1", "2", "3"]),
        ("objective=glob(*lm)", ["bilm", "clm", "mlm", "plm"]),
    ],
)
def test_the_values_of_a_sweep_are_those_its_jobs_get(word, expected):
    arguments = parse("pretrain", ["-m", word])
    assert arguments.values(word.partition("=")[0]) == expected


@pytest.mark.parametrize(("word", "kept"), [("dataset.label=label, raw", "label, raw"), ("dataset.label=true", "true")])
def test_a_column_is_found_by_any_name(word, kept):
    assert parse("finetune", [word]).values("dataset.label") == [kept]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ckpt=a", ["objective.pooling=cls", "objective.hidden=tanh"]),
        ("ckpt=a task=multilabel", []),
        ("ckpt=a task.pooling=mean", []),
        ("ckpt=a task.hidden=null", []),
        ("ckpt=a part=encoder", []),
        ("ckpt=null", []),
    ],
)
def test_a_head_that_goes_on_keeps_its_shape_unless_another_is_given(words, expected, monkeypatch):
    saved = {"_target_": "ptft.tasks.classify.Classify", "pooling": "cls", "hidden": "tanh", "dropout": 0.3}
    monkeypatch.setattr(arguments, "locate", lambda ckpt: ckpt)
    monkeypatch.setattr(arguments, "saved_config", lambda path: {"objective": saved})
    found = implied("finetune", parse("finetune", words.split()))
    assert [word for word in found if word.startswith("objective.")] == expected


@pytest.mark.parametrize(
    ("words", "what"),
    [("runs/a", "runs/a"), ("run=runs/a", "runs/a"), ("model=gpt", "model=gpt"), ("optimizer.lr", "optimizer.lr")],
)
def test_what_is_shown_is_a_run_a_choice_or_a_setting(words, what):
    assert parse("show", [words]).values("what") == [what]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("dataset.features=[Länge (mm),year, a=b]", ["Länge (mm)", "year", "a=b"]),
        ("dataset.features=[Größe]", ["Größe"]),
        ("dataset.features=[a,b c]", ["a", "b c"]),
        ("dataset.features=[1,2.5]", [1, 2.5]),
        ("prompt=[x (y)]", "[x (y)]"),
    ],
)
@pytest.mark.parametrize("flag", [[], ["-m"]])
def test_a_list_may_name_columns_with_odd_characters(flag, word, value):
    (found,) = parse("finetune", [*flag, word]).overrides
    said = parsed(found).value()
    plain = [getattr(item, "text", item) for item in said] if isinstance(said, list) else said
    assert plain == value
