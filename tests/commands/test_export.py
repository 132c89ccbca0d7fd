"""`ptft export`: what other programs get answers as the run does."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from ptft import build, portable
from ptft.commands import export
from ptft.locate import locate
from ptft.tasks.tag import Tag

IMAGES = ("ckpt=null", "dataset=digits", "preset=smoke", "trainer.train_rows=64", "trainer.steps=1", "device=cpu")
SMOKE = ("preset=smoke", "trainer.steps=1", "device=cpu")
RECURRENT = {
    "lstm": ("model=lstm", "model.dim=16", "model.hidden=24"),
    "elmo": ("model=elmo", "model.input=tokens", "model.dim=16", "model.hidden=24"),
    "cove": ("model=seq2seq_encoder", "model.dim=16"),
    "nnlm": ("model=nnlm",),
}
RUNS = {
    "resnet": ("finetune", *IMAGES, "model=resnet_small", "model.width=4", "model.layers=[1,1,1,1]"),
    "vit": ("finetune", *IMAGES, "model=vit", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32"),
    "table": ("finetune", "ckpt=null", "dataset=breast_cancer", "model=mlp", "preset=smoke", "trainer.steps=1", "device=cpu"),
}
FILES = [("torch_export", ".pt2"), pytest.param("onnx", ".onnx", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def runs(cli, mlm_run, clm_run, data, tmp_path_factory):
    """Runs of each modality, made when first asked for: runs("vit")."""
    made = {"mlm": mlm_run, "clm": clm_run}
    words = RUNS | {"texts": ("finetune", f"ckpt={mlm_run}", *data.classes, *SMOKE)}
    fresh = ("finetune", "ckpt=null", *data.classes, "tokenizer=byte", *SMOKE)
    words |= {name: (*fresh, *model) for name, model in RECURRENT.items()}
    words["infill"] = ("pretrain", "objective=infill", "model=seq2seq", "model.dim=16", *data.text, *SMOKE)

    def run(name: str):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            answer = cli(*words[name], f"run={made[name]}")
            assert answer.code == 0, answer.err
        return made[name]

    return run


@pytest.fixture
def objective(compose):
    """The objective of a run as `ptft evaluate` builds it."""
    return lambda run: build.stage(compose("evaluate", f"ckpt={run}", "device=cpu"), prepare=False).objective.eval()


GRAPHS = ("texts", "vit", "mlm", "clm", "resnet", "table", *RECURRENT, "infill")


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("kind", "ending"), FILES)
def test_a_graph_answers_as_the_run_does(kind, ending, name, cli, runs, tmp_path):
    answer = cli("export", f"ckpt={runs(name)}", f"format={kind}", f"output={tmp_path / 'out' / f'graph{ending}'}")
    assert answer.code == 0, answer.err
    assert "at most on random inputs, run from the file" in answer.out
    assert (tmp_path / "out" / f"graph{ending}").exists()
    assert not list(tmp_path.glob("out/.tmp-*"))


@pytest.mark.slow
def test_a_graph_needs_nothing_of_ptft_and_says_what_its_numbers_mean(cli, runs, objective, tmp_path):
    file = tmp_path / "graph.pt2"
    assert cli("export", f"ckpt={runs('texts')}", "format=torch_export", f"output={file}").code == 0
    beside = {"tokenizer.json": "", "data.json": "", "config.yaml": ""}
    graph = torch.export.load(file, extra_files=beside).module()
    task = objective(runs("texts"))
    for batch, length in ((1, 1), (4, 9), (2, 60)):
        tokens, mask = torch.randint(6, 200, (batch, length)), torch.ones(batch, length, dtype=torch.bool)
        torch.testing.assert_close(graph(tokens, mask), task.answer({"tokens": tokens, "mask": mask}), atol=1e-5, rtol=0)
    assert json.loads(beside["data.json"])["facts"]["labels"] == ["big", "old", "red", "small"]
    assert beside["tokenizer.json"].encode() == (locate(str(runs("texts"))) / "assets" / "tokenizer.json").read_bytes()


def test_plain_weights_lie_beside_what_explains_them(cli, runs, tmp_path):
    answer = cli("export", f"ckpt={runs('texts')}", f"output={tmp_path / 'plain'}")
    assert answer.code == 0, answer.err
    checkpoint = locate(str(runs("texts")))
    for name in ("model.safetensors", "objective.safetensors"):
        saved, written = load_file(checkpoint / name), load_file(tmp_path / "plain" / name)
        assert saved.keys() == written.keys()
        assert all(torch.equal(saved[key], written[key]) for key in saved)
    assert (tmp_path / "plain" / "config.yaml").read_text() == (checkpoint / "config.yaml").read_text()
    assert {"tokenizer.json", "data.json"} <= {path.name for path in (tmp_path / "plain").iterdir()}


@pytest.mark.parametrize("kind", ["safetensors", "hf"])
def test_what_is_written_has_the_modes_the_umask_leaves(kind, cli, mlm_run, tmp_path):
    before = os.umask(0o027)
    try:
        assert cli("export", f"ckpt={mlm_run}", f"format={kind}", f"output={tmp_path / 'out'}").code == 0
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}


def test_what_hugging_face_gets_can_be_taken_back(cli, train, data, tmp_path):
    bert = ("model=bert_tiny", "model.dim=16", "model.layers=1", "model.heads=2", "model.hidden=32", "model.max_length=64")
    words = ("tokenizer=byte", "preset=smoke", "trainer.steps=1", "device=cpu")
    run = train(tmp_path / "run", "pretrain", *bert, *words, *data.text)
    answer = cli("export", f"ckpt={run}", "format=hf", f"output={tmp_path / 'bert'}")
    assert answer.code == 0, answer.err
    assert "read by transformers" in answer.out
    before, after = (cli("evaluate", f"ckpt={ckpt}", *data.text, "split=valid") for ckpt in (run, f"hf:{tmp_path / 'bert'}"))
    assert after.code == 0, after.err
    assert [line for line in after.out.splitlines() if "loss" in line] == [
        line for line in before.out.splitlines() if "loss" in line
    ]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("format=torch_export",), 2, "NAME.pt2"),
        (("format=onx",), 2, "format: expected safetensors, hf, peft, torch_export, onnx, int8 or vectors, found 'onx'"),
        (("output=.",), 2, "exists already"),
        (("output=",), 2, "output"),
        (("output=/proc/none/at",), 6, "/proc/none"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words, code, told, cli, mlm_run, tmp_path):
    answer = cli("export", f"ckpt={mlm_run}", f"output={tmp_path / 'out'}", *words)
    assert answer.code == code
    assert told in answer.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_of_images_is_none_of_hugging_faces(cli, runs, tmp_path):
    answer = cli("export", f"ckpt={runs('resnet')}", "format=hf", f"output={tmp_path / 'out'}")
    assert answer.code == 2
    assert "ResNet is none of Hugging Face's" in answer.complaint


def test_an_answer_that_differs_is_an_error_and_nothing_is_kept(cli, mlm_run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "difference", lambda *_: 2e-4)
    answer = cli("export", f"ckpt={mlm_run}", f"output={tmp_path / 'out'}")
    assert answer.code == 6
    assert "read back, it differs from the model by 2.0e-04, more than 1e-04: nothing is kept" in answer.complaint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["onnx", "int8"])
def test_onnx_without_its_packages_is_refused_with_what_to_install(kind, cli, mlm_run, tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "find_spec", lambda name: None)
    answer = cli("export", f"ckpt={mlm_run}", f"format={kind}", f"output={tmp_path / 'out.onnx'}")
    assert answer.code == 6
    assert f"format={kind} needs onnx, onnxscript, onnxruntime: pip install" in answer.complaint


@pytest.fixture(scope="module")
def taught(cli, data, tmp_path_factory):
    """A classifier that has learned its task, wide enough for its weights to be most of its file."""
    run = tmp_path_factory.mktemp("taught") / "run"
    shape = "model=transformer_tiny", "model.dim=64", "model.heads=4", "model.hidden=256", "tokenizer=byte", "device=cpu"
    answer = cli("finetune", "ckpt=null", *shape, *data.classes, "trainer.steps=60", "optimizer.lr=3e-3", f"run={run}")
    assert answer.code == 0, answer.err
    return run


@pytest.mark.slow
def test_weights_of_8_bits_decide_as_the_run_does_in_a_smaller_file(cli, taught, tmp_path):
    sizes = {}
    for kind in ("onnx", "int8"):
        answer = cli("export", f"ckpt={taught}", f"format={kind}", f"output={tmp_path / f'{kind}.onnx'}")
        assert answer.code == 0, answer.err
        sizes[kind] = (tmp_path / f"{kind}.onnx").stat().st_size
    assert {path.name for path in tmp_path.iterdir()} == {"onnx.onnx", "int8.onnx", "int8.json"}
    assert "agreement   100.0% of" in answer.out
    assert "rows of valid, run from the file" in answer.out
    told = json.loads((tmp_path / "int8.json").read_text())
    assert told["bytes"] == sizes["int8"] < 0.6 * sizes["onnx"]
    assert told["agreement"] == 1
    assert 0 < told["difference"] < 0.3


@pytest.mark.slow
def test_decisions_that_are_not_the_runs_are_an_error_and_nothing_is_kept(cli, taught, tmp_path, monkeypatch):
    def other(onnx, path):
        path.write_bytes(b"")
        return lambda inputs: torch.eye(4)[torch.arange(len(inputs["tokens"])) % 4]

    monkeypatch.setattr(export, "save_onnx", lambda program, path, shapes: path.write_bytes(b"x"))
    monkeypatch.setattr(export, "save_int8", other)
    answer = cli("export", f"ckpt={taught}", "format=int8", f"output={tmp_path / 'out.onnx'}")
    assert answer.code == 6
    assert "less than 0.9: nothing is kept; use format=onnx" in answer.complaint
    assert not list(tmp_path.iterdir())


def test_a_file_beside_the_output_is_not_written_over(cli, mlm_run, tmp_path, monkeypatch):
    def beside(stage, path):
        for each in (path, path.with_suffix(".json")):
            each.write_text("new")
        return export.Written(0.0, "read back")

    monkeypatch.setitem(export.FORMATS, "int8", (beside, ".onnx"))
    (tmp_path / "out.json").write_text("mine")
    answer = cli("export", f"ckpt={mlm_run}", "format=int8", f"output={tmp_path / 'out.onnx'}")
    assert answer.code == 2
    assert "out.json lies beside it already" in answer.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_agreement_counts_decisions_and_leaves_padding_out(make_transformer, tokenizer):
    task = Tag(make_transformer(), tokenizer, 3, ["B-x", "I-x", "O"], dropout=0.0).eval()
    inputs = {"tokens": torch.randint(6, 50, (2, 5)), "mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2])}

    def other(inputs):
        found = task.answer(inputs).detach().clone()
        found[0, 0] = -found[0, 0]
        found[1, 4] += 100
        return found

    found = export.compare(task, other, inputs)
    assert (found["agreement"], found["decisions"]) == (7 / 8, 8)
    assert found["difference"] < 50


@pytest.fixture
def adapted(cli, data, tmp_path):
    """A run of a model that Hugging Face's library has too, and one with adapters that started from it."""
    base, run = tmp_path / "base", tmp_path / "run"
    shape = "model.positions=learned", "model.norm=post", "model.segments=0", "model.dim=16", "model.heads=2", "model.dropout=0"
    small = "model=transformer_tiny", *shape, "tokenizer=byte", "device=cpu", "trainer.steps=1"
    assert cli("pretrain", *small, *data.text, f"run={base}").code == 0
    tuned = cli("finetune", f"ckpt={base}", *data.classes, "tuning=lora", "trainer.steps=3", "optimizer.lr=0.1", f"run={run}")
    assert tuned.code == 0, tuned.err
    return base, run


@pytest.mark.slow
def test_adapters_written_for_peft_make_the_base_model_answer_as_the_run_does(cli, objective, adapted, tmp_path):
    import peft
    import transformers

    base, run = adapted
    for words in ((f"ckpt={base}", "format=hf"), (f"ckpt={run}", "format=peft")):
        answer = cli("export", *words, f"output={tmp_path / words[1]}")
        assert answer.code == 0, answer.err
    plain = transformers.AutoModel.from_pretrained(tmp_path / "format=hf", add_pooling_layer=False)
    model = peft.PeftModel.from_pretrained(plain, str(tmp_path / "format=peft")).eval()
    tokens = torch.randint(6, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = objective(run).model(tokens)
        found = model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "format=peft" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        locate(str(base))
    )


def test_a_run_without_adapters_has_none_to_write(cli, mlm_run, tmp_path):
    answer = cli("export", f"ckpt={mlm_run}", "format=peft", f"output={tmp_path / 'out'}")
    assert answer.code == 2
    assert "has no adapters" in answer.complaint
    assert not (tmp_path / "out").exists()
