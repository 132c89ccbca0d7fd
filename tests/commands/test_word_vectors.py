"""Word vectors from pretraining to what is done with them: scores, files, tasks, other models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from safetensors.torch import load_file

from ptft.data.tokenizer import Tokenizer
from ptft.locate import locate
from ptft.records import metrics, read_json

WORDS = ("tokenizer.min_count=1", "model.dim=16", "model.max_length=32", "preset=smoke", "device=cpu")


@pytest.fixture(scope="module")
def run(cli, data, tmp_path_factory):
    """Skip-gram, trained for a moment."""
    folder = tmp_path_factory.mktemp("words") / "run"
    answer = cli("pretrain", "objective=skipgram", *WORDS, *data.text, f"run={folder}")
    assert answer.code == 0, answer.err
    return folder


def test_vectors_are_written_as_word2vec_does(run, cli, tmp_path):
    file = tmp_path / "vectors.txt"
    answer = cli("export", f"ckpt={run}", "format=vectors", f"output={file}")
    assert answer.code == 0, answer.err
    assert "0.0e+00 at most in the vectors of" in answer.out
    theirs = KeyedVectors.load_word2vec_format(str(file))
    checkpoint = locate(str(run))
    tokenizer = Tokenizer.load(checkpoint / "assets" / "tokenizer.json")
    table = load_file(checkpoint / "model.safetensors")["embedding.token.weight"].numpy()
    assert len(theirs) == tokenizer.vocab_size - 6
    for index in range(6, tokenizer.vocab_size):
        assert np.array_equal(theirs[tokenizer.token(index)], table[index])


@pytest.mark.slow
def test_any_model_of_text_has_vectors_but_tokens_of_blanks_no_place(clm_run, cli, data, train, tmp_path):
    file = tmp_path / "vectors.txt"
    assert cli("export", f"ckpt={clm_run}", "format=vectors", f"output={file}").code == 0
    assert file.read_text(encoding="utf-8").startswith("256 16\n")
    small = ("model=gpt", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "preset=smoke")
    letters = train(tmp_path / "run", "pretrain", "objective=clm", *small, "tokenizer=character", *data.text)
    answer = cli("export", f"ckpt={letters}", "format=vectors", f"output={tmp_path / 'letters.txt'}")
    assert "2 tokens with blanks left out" in answer.out
    answer = cli("export", f"ckpt={letters}", "format=vectors", f"output={tmp_path / 'letters'}")
    assert answer.code == 2 and "NAME.txt" in answer.complaint


def test_words_are_scored_by_similarity_and_analogy(run, cli, tmp_path):
    (tmp_path / "pairs.csv").write_text("one,two,score\ncat,dog,9.5\ncat,mat,1\nsat,the,2.5\nzebra,cat,5\nowl,ant,7.5\n")
    (tmp_path / "questions.txt").write_text(": animals\ncat dog owl ant\ncat zebra owl ant\n")
    columns = ("dataset.text=one", "dataset.text_pair=two", "dataset.label=score")
    out = f"run={tmp_path / 'out'}"
    answer = cli(
        "evaluate",
        f"ckpt={run}",
        "protocol=wordsim",
        "dataset=labelled_text",
        f"dataset.path={tmp_path / 'pairs.csv'}",
        *columns,
        out,
    )
    assert answer.code == 0, answer.err
    answer = cli(
        "evaluate", f"ckpt={run}", "protocol=analogy", "dataset=analogies", f"dataset.path={tmp_path / 'questions.txt'}", out
    )
    assert answer.code == 0, answer.err
    found = read_json(tmp_path / "out" / "scores.json")["test"]
    assert found["spearman"] is not None and found["analogy_accuracy"] in (0.0, 1.0)
    assert found["coverage"] == 0.5
    answer = cli("evaluate", f"ckpt={run}", "protocol=analogy", "weights=initial", "dataset=analogies", "dataset.path=x")
    assert answer.code == 2 and "weights=initial is for probes of features" in answer.complaint


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_vectors_fine_tune_as_a_bag_of_words(task, run, train, data, tmp_path):
    rows = data.classes if task == "classify" else data.numbers
    found = train(tmp_path / "run", "finetune", f"ckpt={run}", f"task={task}", *rows, "preset=smoke", "device=cpu")
    assert np.isfinite(metrics(found)[-1]["loss"])


def test_words_are_tagged_by_their_vectors(run, train, tmp_path):
    file = tmp_path / "tags.conll"
    file.write_text("\n".join("the O\nbig O\ncat B-A\n\na O\nred O\ndog B-A\n" for _ in range(10)))
    data = ("dataset=tagged_text", f"dataset.path={file}")
    found = train(tmp_path / "run", "finetune", f"ckpt={run}", "task=tag", *data, "preset=smoke", "device=cpu")
    assert np.isfinite(metrics(found)[-1]["loss"])


def test_vectors_begin_another_model(run, train, data, tmp_path):
    other = ("model=transformer", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "model.max_length=32")
    still = ("preset=smoke", "trainer.steps=1", "optimizer.lr=0.0", "device=cpu", *data.text)
    words = ("pretrain", f"ckpt={run}", "objective=mlm", *other, "ckpt_load.allow_partial=true", *still)
    found = train(tmp_path / "run", *words)
    before, after = (load_file(locate(str(folder)) / "model.safetensors") for folder in (run, found))
    assert torch.equal(after["embedding.token.weight"], before["embedding.token.weight"])
    assert len(after) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("lstm", "model.dim=16"),
        ("nnlm", "model.width=16"),
        ("seq2seq_encoder", "model.dim_embedding=16"),
    ],
)
def test_a_model_of_another_width_is_told_which_setting_takes_the_vectors(model, hint, run, cli, train, data, tmp_path):
    still = ("preset=smoke", "trainer.steps=1", "optimizer.lr=0.0", "device=cpu", *data.classes)
    words = (f"ckpt={run}", "task=classify", f"model={model}", "ckpt_load.allow_partial=true", *still)
    answer = cli("finetune", *words, f"run={tmp_path / 'refused'}")
    assert answer.code == 2 and answer.complaint.endswith(f"; give {hint}")
    found = train(tmp_path / "run", "finetune", *words, *hint.split())
    before, after = (load_file(locate(str(folder)) / "model.safetensors") for folder in (run, found))
    assert torch.equal(after["embedding.token.weight"], before["embedding.token.weight"])


def test_glove_counts_once_and_hands_on_vectors(cli, data, train, tmp_path):
    words = ("pretrain", "objective=glove", *WORDS, *data.text, "trainer.batch_size=1")
    run = train(tmp_path / "glove", *words)
    assert "correlation" in read_json(run / "scores.json")["valid"]
    assert cli("export", f"ckpt={run}", "format=vectors", f"output={tmp_path / 'vectors.txt'}").code == 0
    found = train(tmp_path / "run", "finetune", f"ckpt={run}", "task=classify", *data.classes, "preset=smoke", "device=cpu")
    assert np.isfinite(metrics(found)[-1]["loss"])
