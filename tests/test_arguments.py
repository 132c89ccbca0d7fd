"""What the words after a command imply."""

import pytest

from ptft.arguments import implied, parse


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("ckpt=runs/a", []),
        ("ckpt=null model=lstm", ["1e-3"]),
        ("ckpt=hf:folder", ["5e-5"]),
        ("ckpt=torchvision:resnet18 tuning=full", ["5e-5"]),
        ("ckpt=hf:folder tuning=lora", []),
        ("ckpt=torchvision:resnet18 tuning=frozen", []),
        ("ckpt=null model=lstm optimizer.lr=2e-3", []),
        ("ckpt=null model=lstm optimizer.base_lr=2e-3", []),
        ("ckpt=null experiment=ulmfit_classify", []),
        ("-m ckpt=null,runs/a", []),
    ],
)
def test_fresh_weights_are_fine_tuned_faster_and_published_ones_slower_unless_a_rate_is_given(words, rate):
    found = implied("finetune", parse("finetune", words.split()))
    assert [word.partition("=")[2] for word in found if word.startswith("optimizer.lr=")] == rate


@pytest.mark.parametrize(("word", "kept"), [("dataset.label=label, raw", "label, raw"), ("dataset.label=true", "true")])
def test_a_column_is_found_by_any_name(word, kept):
    assert parse("finetune", [word]).values("dataset.label") == [kept]
