from __future__ import annotations

import pytest


@pytest.fixture
def write(cli, clm_run):
    """What is printed for a prompt."""

    def written(*words, ckpt=clm_run) -> str:
        answer = cli("generate", f"ckpt={ckpt}", "max_tokens=12", *words)
        assert answer.code == 0, answer.err
        return answer.out

    return written


def test_the_prompt_is_continued_the_same_way_for_the_same_seed(write):
    first = write("prompt=the big", "seed=1")
    assert first.startswith("the big")
    assert write("prompt=the big", "seed=1") == first
    assert write("prompt=the big", "seed=2") != first


def test_temperature_zero_is_the_likeliest_text_whatever_the_seed_and_so_is_the_one_best_token(write):
    likeliest = write("prompt=the big", "temperature=0")
    assert write("prompt=the big", "temperature=0", "seed=5") == likeliest
    assert write("prompt=the big", "top_k=1", "seed=3") == likeliest
    assert write("prompt=the big", "top_p=1e-9", "seed=4") == likeliest


def test_several_samples_differ_and_each_shows_the_prompt(write):
    assert write("prompt=the", "num_samples=3").count("the") >= 3


def test_a_writer_of_completions_prints_the_completion_alone(cli, write, clm_run, data, tmp_path):
    run = tmp_path / "run"
    words = "task=generate", "objective.max_tokens=2", *data.pairs, "preset=smoke"
    assert cli("finetune", f"ckpt={clm_run}", f"run={run}", *words).code == 0
    assert not write("prompt=the big cat", ckpt=run).startswith("the big cat")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 7, "text": "the big cat sat on the mat, who?"}\n')
    answer = cli("predict", f"ckpt={run}", f"input={file}")
    assert answer.code == 0, answer.err
    assert '"id": 7, "text":' in answer.out


@pytest.mark.parametrize("wrong", ["temperature=-1", "top_p=2", "top_k=0", "max_tokens=0"])
def test_settings_out_of_range_are_refused_by_name(wrong, cli, clm_run):
    answer = cli("generate", f"ckpt={clm_run}", "prompt=a", wrong)
    assert answer.code == 2
    assert wrong.partition("=")[0] in answer.complaint


def test_a_bidirectional_model_cannot_write(cli, mlm_run):
    answer = cli("generate", f"ckpt={mlm_run}", "prompt=a")
    assert answer.code == 2
    assert "MLM cannot write text" in answer.complaint
