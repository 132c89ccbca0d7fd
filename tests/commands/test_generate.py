from __future__ import annotations

import json

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


def test_what_is_written_for_a_prompt_goes_into_a_file_too(write, tmp_path):
    output = tmp_path / "written.txt"
    assert write("prompt=the big", f"output={output}") == ""
    assert output.read_text() == write("prompt=the big")


def test_several_samples_differ_and_each_shows_the_prompt(write):
    assert write("prompt=the", "num_samples=3").count("the") >= 3


@pytest.mark.slow
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
    file.write_text(
        "".join(json.dumps({"id": number, "text": f"{number} big cats sat " * number}) + "\n" for number in (2, 40, 50))
    )
    predicted, written = (cli(command, f"ckpt={run}", f"input={file}") for command in ("predict", "generate"))
    assert written.code == 0, written.err
    assert written.out == predicted.out
    for answer in predicted, written:
        assert "row 40 and 1 more cut to 60 tokens: the rest is not read" in answer.err
    long, short = (cli("generate", f"ckpt={run}", f"prompt={'40 big cats sat ' * times}") for times in (40, 1))
    assert long.err == "note: prompt cut to 60 tokens: the rest is not read\n"
    assert short.err == ""
    shorter = cli("predict", f"ckpt={run}", f"input={file}", "dataset.max_length=8")  # of the rows that are trained on
    assert (shorter.code, shorter.out, shorter.err) == (0, predicted.out, predicted.err)


@pytest.mark.parametrize("wrong", ["temperature=-1", "top_p=2", "top_k=0", "max_tokens=0"])
def test_settings_out_of_range_are_refused_by_name(wrong, cli, clm_run):
    answer = cli("generate", f"ckpt={clm_run}", "prompt=a", wrong)
    assert answer.code == 2
    assert wrong.partition("=")[0] in answer.complaint


def test_a_bidirectional_model_cannot_write(cli, mlm_run):
    answer = cli("generate", f"ckpt={mlm_run}", "prompt=a")
    assert answer.code == 2
    assert "MLM cannot write text" in answer.complaint


@pytest.fixture(scope="module")
def translator(cli, data, tmp_path_factory):
    """An encoder-decoder model, trained for a moment."""
    folder = tmp_path_factory.mktemp("translator") / "run"
    shape = "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "model.max_length=64"
    words = "tokenizer=byte", "preset=smoke", "objective.max_tokens=4", *shape, *data.pairs
    assert cli("pretrain", "objective=translate", f"run={folder}", *words).code == 0
    return folder


@pytest.fixture
def files(tmp_path) -> dict:
    """Five texts in files of three kinds."""
    texts = ["the big cat", "a dog", "the old owl sat on the mat", "cow", "the red ant sat"]
    rows = [{"id": f"row {number}", "text": text} for number, text in enumerate(texts)]
    contents = {
        "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "rows.csv": "id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows),
        "rows.txt": "".join(f"{text}\n" for text in texts),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {name.partition(".")[2]: tmp_path / name for name in contents}


@pytest.mark.slow
@pytest.mark.parametrize("parent", ["translator", "clm_run"])
@pytest.mark.parametrize("way", [("num_beams=4",), ("temperature=0",), ("temperature=1", "seed=3")])
def test_every_row_of_a_file_gets_one_line_with_its_id_whatever_the_batch(parent, way, cli, files, request):
    ckpt = request.getfixturevalue(parent)

    def lines(*words) -> list[dict]:
        answer = cli("generate", f"ckpt={ckpt}", "max_tokens=8", *way, *words)
        assert answer.code == 0, answer.err
        return [json.loads(line) for line in answer.out.splitlines()]

    found = lines(f"input={files['jsonl']}")
    assert [row["id"] for row in found] == [f"row {number}" for number in range(5)]
    assert found == lines(f"input={files['csv']}") == lines(f"input={files['jsonl']}", "batch_size=2")
    assert [row["text"] for row in lines(f"input={files['txt']}")] == [row["text"] for row in found]


def test_a_file_is_written_for_as_predict_and_evaluate_write(cli, translator, files):
    written = cli("generate", f"ckpt={translator}", f"input={files['jsonl']}").out
    assert written == cli("predict", f"ckpt={translator}", f"input={files['jsonl']}").out


def test_the_lines_go_into_a_file_and_several_texts_for_a_row_into_a_list(cli, translator, files, tmp_path):
    output = tmp_path / "written.jsonl"
    answer = cli("generate", f"ckpt={translator}", f"input={files['txt']}", f"output={output}", "num_samples=3", "max_tokens=6")
    assert answer.code == 0 and not answer.out
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 5 and all(len(row["texts"]) == 3 for row in rows)
    assert any(len(set(row["texts"])) > 1 for row in rows)


def test_a_row_without_text_is_told_of(cli, translator, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a cat"}\n{"text": null}\n{"text": " "}\n')
    answer = cli("generate", f"ckpt={translator}", f"input={tmp_path / 'rows.jsonl'}", "max_tokens=2")
    assert answer.code == 0, answer.err
    assert "row 1 and 1 more without text: what is written there says nothing" in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "prompt="),
        (("prompt=a", "input=b"), "not both"),
        (("prompt=a", "num_beams=0"), "num_beams"),
        (("prompt=a", "num_beams=4", "temperature=0.5"), "num_beams=4 searches"),
        (("prompt=a", "num_beams=4", "num_samples=2"), "leave out num_samples"),
        (("prompt=a", "num_beams=4", "top_k=2"), "leave out top_k"),
        (("input=/no/such/file",), "/no/such/file"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(words, told, cli, clm_run):
    answer = cli("generate", f"ckpt={clm_run}", *words)
    assert answer.code in (2, 3)
    assert told in answer.complaint
