"""Published models against the library that published them."""

from __future__ import annotations

import io
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ptft import build
from ptft.errors import CheckpointError, MachineError, UserError
from ptft.huggingface import reading
from ptft.locate import locate, saved_config
from ptft.logs import Console
from ptft.nn.text import Layout
from ptft.records import lineage, read_json
from ptft.tasks.classify import Classify
from ptft.tasks.multilabel import Multilabel
from ptft.tasks.regress import Regress

TEXTS = ["the big cat", "An old dog hid; 12 ants sat!", "it"]
PAIRS = ["who sat?", "a", "a small cow on the hilltop, naïvely"]
BIDIRECTIONAL = ("bert", "roberta", "distilbert")
LABELS = ["O", "B-x", "I-x"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
QUICK = ("preset=smoke", "trainer.steps=1", "device=cpu", "dataset.max_length=32")


@pytest.fixture
def stage(compose, data):
    """A published model as our commands build it, in eval mode: stage(folder, "objective=mlm")."""

    def make(folder, *words):
        command = ("pretrain", *words, *data.text) if words else ("finetune", *data.classes)
        found = build.stage(compose(*command, f"ckpt=hf:{folder}", "device=cpu"))
        found.objective.eval()
        return found

    return make


def ours(stage, texts=TEXTS, pairs=None) -> dict:
    """Our own input for texts or pairs of them, as wide as the longest."""
    rows = [{"tokens": tokens} for tokens in stage.tokenizer.encode(texts)]
    for row, tokens in zip(rows, stage.tokenizer.encode(pairs or []), strict=False):
        row["pair"] = tokens
    inputs = Layout.of(stage.model, stage.tokenizer).inputs(rows)
    return {name: value[:, : inputs["mask"].sum(1).max()] for name, value in inputs.items()}


def assert_close(found, expected, mask) -> None:
    mask = mask.bool()
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-4, rtol=0)


@pytest.mark.parametrize("pairs", [None, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("kind", BIDIRECTIONAL)
def test_texts_and_pairs_become_the_same_tokens_and_the_same_features(kind, pairs, publish, stage):
    folder, network, tokenizer = publish(kind)
    found = stage(folder)
    theirs = tokenizer(TEXTS, pairs, padding=True, return_tensors="pt", return_token_type_ids=kind == "bert")
    inputs = ours(found, pairs=pairs)
    assert torch.equal(inputs["tokens"], theirs["input_ids"])
    assert torch.equal(inputs["mask"], theirs["attention_mask"].bool())
    with torch.no_grad():
        assert_close(found.model(**inputs), network(**theirs).last_hidden_state, theirs["attention_mask"])
    assert found.landed.share == 1


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *((kind, {}) for kind in BIDIRECTIONAL),
        *((kind, {"tie_word_embeddings": False}) for kind in BIDIRECTIONAL),
        ("bert", {"hidden_act": "gelu_new"}),
        ("distilbert", {"activation": "relu"}),
    ],
)
def test_the_head_that_guesses_masked_words_goes_on(kind, changes, publish, stage):
    folder, network, tokenizer = publish(kind, "ForMaskedLM", **changes)
    found = stage(folder, "objective=mlm")
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    inputs = {"tokens": theirs["input_ids"], "mask": theirs["attention_mask"].bool()}
    with torch.no_grad():
        assert_close(found.objective.answer(inputs), network(**theirs).logits, theirs["attention_mask"])
    assert found.tokenizer.token(found.tokenizer.mask_id) == tokenizer.mask_token


@pytest.mark.parametrize("tie", [True, False])
def test_gpt2_predicts_the_same_next_tokens(tie, publish, stage):
    folder, network, tokenizer = publish("gpt2", "LMHeadModel", tie_word_embeddings=tie)
    found = stage(folder, "objective=clm")
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert [ids.tolist() for ids in found.tokenizer.encode(TEXTS)] == tokenizer(TEXTS)["input_ids"]
    inputs = {"tokens": theirs["input_ids"], "mask": theirs["attention_mask"].bool()}
    with torch.no_grad():
        assert_close(found.objective.answer(inputs), network(**theirs).logits, theirs["attention_mask"])
    assert found.tokenizer.eos_id == network.config.eos_token_id
    assert saved_config(locate(f"hf:{folder}"))["objective"]["tie"] is tie


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_are_read(activation, publish, stage):
    folder, network, tokenizer = publish("bert", hidden_act=activation)
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = stage(folder)
    with torch.no_grad():
        assert_close(found.model(**ours(found)), network(**theirs).last_hidden_state, theirs["attention_mask"])


def test_a_model_that_tells_no_segments_apart_is_one_whose_segments_add_nothing(publish, stage):
    folder, network, tokenizer = publish("bert")
    torch.nn.init.zeros_(network.embeddings.token_type_embeddings.weight)
    state = load_file(folder / "model.safetensors")
    state["embeddings.token_type_embeddings.weight"] = torch.empty(0, 32)
    save_file(state, folder / "model.safetensors")
    rewrite(folder, type_vocab_size=0)
    found, theirs = stage(folder), tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert_close(found.model(**ours(found)), network(**theirs).last_hidden_state, theirs["attention_mask"])
    assert not found.dataset.notes


def predictor(compose, folder):
    """A published model with its head as `ptft predict` builds it."""
    found = build.stage(compose("predict", f"ckpt=hf:{folder}", "input=-", "device=cpu"), prepare=False)
    found.objective.eval()
    return found


@pytest.mark.parametrize("kind", [*BIDIRECTIONAL, "gpt2"])
@pytest.mark.parametrize("problem", [None, "single_label_classification", "multi_label_classification", "regression"])
def test_a_head_for_labels_answers_as_it_does_there(problem, kind, publish, compose):
    meaning = {"num_labels": 1} if problem == "regression" else NAMES
    folder, network, tokenizer = publish(kind, "ForSequenceClassification", problem_type=problem, **meaning)
    found, theirs = predictor(compose, folder), tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(**theirs).logits
        torch.testing.assert_close(found.objective.answer(ours(found)), expected.squeeze(-1), atol=1e-4, rtol=0)
    task = {"multi_label_classification": Multilabel, "regression": Regress}.get(problem, Classify)
    assert type(found.objective) is task
    assert getattr(found.objective, "labels", LABELS) == LABELS


@pytest.mark.parametrize("kind", [*BIDIRECTIONAL, "gpt2"])
def test_a_head_for_pairs_answers_as_it_does_there(kind, publish, compose):
    folder, network, tokenizer = publish(kind, "ForSequenceClassification", **NAMES)
    found, theirs = predictor(compose, folder), tokenizer(TEXTS, PAIRS, padding=True, return_tensors="pt")
    with torch.no_grad():
        answer = found.objective.answer(ours(found, pairs=PAIRS))
        torch.testing.assert_close(answer, network(**theirs).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [*BIDIRECTIONAL, "gpt2"])
def test_a_published_tagger_goes_on_with_its_tags(kind, publish, compose):
    folder, network, tokenizer = publish(kind, "ForTokenClassification", **NAMES)
    found, theirs = predictor(compose, folder), tokenizer(TEXTS, padding=True, return_tensors="pt")
    length = theirs["input_ids"].shape[1]
    with torch.no_grad():  # for a causal model there is our [EOS] after them
        assert_close(found.objective.answer(ours(found))[:, :length], network(**theirs).logits, theirs["attention_mask"])
    assert found.objective.scheme.labels == LABELS


def test_the_length_that_sentence_transformers_reads_is_told(publish):
    folder, *_ = publish("bert")
    found = set()
    for length, told in ((16, ["so does dataset.max_length=16"]), (64, []), (None, [])):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))
        notes = reading.read(folder, "hf:x").notes
        assert [note.rpartition(": ")[2] for note in notes] == told
        found.add(locate(f"hf:{folder}"))
    assert len(found) == 3  # a change of that file is seen


def test_labels_without_a_name_have_the_librarys(publish):
    folder, *_ = publish("bert", "ForSequenceClassification")
    rewrite(folder, id2label=None, label2id=None)
    assert reading.read(folder, "hf:x").facts == {"num_classes": 2, "labels": ["LABEL_0", "LABEL_1"]}


@pytest.mark.parametrize(
    "changes", [{"problem_type": "regression"}, {"id2label": {"0": "a", "1": "a", "2": "b"}}], ids=["vectors", "one name twice"]
)
def test_a_head_that_is_none_of_ours_is_left_out_by_name(changes, publish):
    folder, *_ = publish("bert", "ForSequenceClassification", **NAMES)
    rewrite(folder, **changes)
    found = reading.read(folder, "hf:x")
    assert found.heads == {}
    assert found.notes == ["hf:x: ptft has no place for classifier, pooler.dense: left out"]


@pytest.fixture
def same_labels(tmp_path):
    """Rows with the labels of a published head."""
    rows = [f"{text},{label}" for text in ("big cat", "old dog", "an ant sat", "it hid", "12 cows") for label in LABELS]
    (tmp_path / "same.csv").write_text("\n".join(("text,label", *rows)) + "\n")
    return "dataset=labelled_text", f"dataset.path={tmp_path / 'same.csv'}", "dataset.text=text", "dataset.label=label"


def heads_of(ckpt) -> dict:
    return load_file(locate(str(ckpt)) / "objective.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), [("distilbert", ("cls", "relu")), ("gpt2", ("before_end", None))])
def test_fine_tuning_goes_on_from_the_published_head_where_the_labels_are_the_same(
    kind, shape, publish, train, same_labels, tmp_path
):
    folder, *_ = publish(kind, "ForSequenceClassification", **NAMES)
    run = train(tmp_path / "run", "finetune", f"ckpt=hf:{folder}", *same_labels, *QUICK, "optimizer.lr=1e-30")
    before, after = heads_of(f"hf:{folder}"), heads_of(run)
    assert before.keys() == after.keys() >= {"head.linear.weight", "head.linear.bias"}
    assert all(torch.allclose(after[name], before[name], rtol=0, atol=1e-20) for name in before)
    again = train(tmp_path / "again", "finetune", f"ckpt={run}", *same_labels, *QUICK, "optimizer.lr=1e-30")
    assert all(torch.allclose(heads_of(again)[name], before[name], rtol=0, atol=1e-20) for name in before)
    objective = saved_config(locate(str(again)))["objective"]
    assert (objective["pooling"], objective["hidden"]) == shape


@pytest.mark.slow
def test_a_head_of_another_shape_starts_fresh_and_the_report_says_so(publish, train, same_labels, tmp_path):
    folder, *_ = publish("bert", "ForSequenceClassification", **NAMES)
    said, words = io.StringIO(), (f"ckpt=hf:{folder}", "task.pooling=mean", *same_labels, *QUICK)
    run = train(tmp_path / "run", "finetune", *words, console=Console(0, stream=said))
    assert "the head starts fresh: pooling is cls in the checkpoint and mean here" in said.getvalue()
    assert "hidden is tanh in the checkpoint and null here" in said.getvalue()
    assert heads_of(run).keys() == {"head.linear.weight", "head.linear.bias"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_a_published_head_is_scored_and_predicts(kind, publish, cli, same_labels, tmp_path):
    folder, network, tokenizer = publish(kind, "ForSequenceClassification", **NAMES)
    scored = cli("evaluate", f"ckpt=hf:{folder}", *same_labels)
    assert scored.code == 0, scored.err
    assert "rows                15" in scored.out
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    said = cli("predict", f"ckpt=hf:{folder}", f"input={tmp_path / 'in.txt'}")
    assert said.code == 0, said.err
    found = [list(json.loads(line)["probabilities"].values()) for line in said.out.splitlines()]
    with torch.no_grad():
        expected = network(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.softmax(-1)
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-4, rtol=0)


def test_shards_half_precision_old_names_and_rows_beyond_the_vocabulary_change_nothing(publish, stage):
    folder, network, tokenizer = publish("bert", "ForMaskedLM", rows=9)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor.half()
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(state)}
    for file in set(places.values()):
        save_file({name: state[name] for name in places if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = stage(folder, "objective=mlm")
    size = found.tokenizer.vocab_size
    assert size == len(tokenizer)
    theirs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network.half().float()(**theirs).logits[..., :size]
        assert_close(found.objective.answer(ours(found)), expected, theirs["attention_mask"])


def test_everything_else_a_run_needs_comes_along(publish, train, data, cli, tmp_path):
    folder, *_ = publish("bert", "ForSequenceClassification")
    said = io.StringIO()
    words = f"ckpt=hf:{folder}", *data.classes, *QUICK
    run = train(tmp_path / "run", "finetune", *words, console=Console(0, stream=said))
    parent = read_json(run / "run.json")["parent"]
    assert parent["path"] == f"hf:{folder}"
    assert lineage(run)[0]["missing"] == "made elsewhere"
    assert f"from hf:{folder}: " in said.getvalue()
    assert "the data has other classes than the checkpoint's head: the head starts fresh" in said.getvalue()
    answer = cli("evaluate", f"ckpt={run}")
    assert answer.code == 0, answer.err


def test_masked_words_are_guessed_on_from_where_the_published_model_stood(publish, train, data, tmp_path):
    folder, *_ = publish("roberta", "ForMaskedLM")
    run = train(tmp_path / "run", "pretrain", f"ckpt=hf:{folder}", "objective=mlm", *data.text, *QUICK, "optimizer.lr=1e-30")
    heads = [load_file(place / "objective.safetensors") for place in (locate(str(run)), locate(f"hf:{folder}"))]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[1])


@pytest.mark.slow
def test_gpt2_writes_as_it_comes_and_after_it_was_taught(publish, train, data, cli, tmp_path):
    folder, network, tokenizer = publish("gpt2", "LMHeadModel")
    written = cli("generate", f"ckpt=hf:{folder}", "prompt=the big", "max_tokens=8", "temperature=0")
    assert written.code == 0, written.err
    expected = network.generate(**tokenizer("the big", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert written.out == tokenizer.decode(expected[0], skip_special_tokens=True) + "\n"
    taught = train(tmp_path / "run", "finetune", f"ckpt=hf:{folder}", "task=generate", *data.pairs, *QUICK)
    assert cli("generate", f"ckpt={taught}", "prompt=the big", "max_tokens=3").code == 0


def test_what_is_asked_twice_is_converted_once_and_anew_when_a_file_changes(publish):
    folder, *_ = publish("bert")
    first = locate(f"hf:{folder}")
    before = (first / "manifest.json").stat().st_mtime_ns
    assert locate(f"hf:{folder}/") == first
    assert (first / "manifest.json").stat().st_mtime_ns == before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.3}))
    assert saved_config(locate(f"hf:{folder}"))["model"]["dropout"] == 0.3


def rewrite(folder, **changes) -> None:
    """Change config.json; None removes a key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "t5"}, "model_type=t5 is none that ptft reads; choose from: bert, "),
        ({"model_type": "bart"}, "did you mean 'bert'"),
        ({"model_type": "roberta", "pad_token_id": 1}, "position.weight is"),
        ({"hidden_act": "mish"}, "the activation mish"),
        ({"is_decoder": True}, "is_decoder=true in config.json; ptft reads false only"),
        ({"position_embedding_type": "relative_key"}, 'position_embedding_type="relative_key"'),
        ({"hidden_size": None}, "a whole number as hidden_size"),
        ({"hidden_size": "32"}, "a whole number as hidden_size"),
        ({"num_hidden_layers": 10**9}, "says 1000000000 layers, and the weights have 2"),
        ({"hidden_size": 64}, "32] in the weights and ["),
        ({"num_attention_heads": 0}, "describes no model"),
        ({"num_attention_heads": 5}, "describes no model"),
        ({"layer_norm_eps": "small"}, "describes no model: model.eps: expected a number"),
        ({"type_vocab_size": "two"}, "odd shapes"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_in_one_line(changes, told, publish):
    folder, *_ = publish("bert")
    if "pad_token_id" in changes:
        changes = changes | {"max_position_embeddings": 70}
    rewrite(folder, **changes)
    with pytest.raises(UserError) as refusal:
        locate(f"hf:{folder}")
    assert told in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert str(folder) in str(refusal.value)


def drop(state: dict) -> None:
    del state["embeddings.word_embeddings.weight"]


def add(state: dict) -> None:
    state["encoder.layer.0.attention.self.distance_embedding.weight"] = torch.zeros(3, 8)


def cut(state: dict) -> None:
    state["embeddings.word_embeddings.weight"] = state["embeddings.word_embeddings.weight"][:20].clone()


def poison(state: dict) -> None:
    state["embeddings.LayerNorm.bias"][3] = float("nan")


def bend(state: dict) -> None:
    state["embeddings.position_embeddings.weight"] = torch.tensor(1.0)


def narrow(state: dict) -> None:
    state["encoder.layer.1.attention.self.key.weight"] = torch.zeros(32, 8)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (drop, "lack embeddings.word_embeddings.weight"),
        (add, "which ptft's model has not"),
        (cut, "and the weights know 20"),
        (poison, "not all finite"),
        (bend, "odd shapes"),
        (narrow, "odd shapes"),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_refused_in_one_line(damage, told, publish):
    folder, *_ = publish("bert")
    state = load_file(folder / "model.safetensors")
    damage(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=told) as refusal:
        locate(f"hf:{folder}")
    assert len(str(refusal.value).splitlines()) == 1


def test_files_that_are_missing_or_damaged_are_refused_by_name(publish):
    folder, *_ = publish("bert")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        locate(f"hf:{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="expected weights in model.safetensors or pytorch_model.bin, found none"):
        locate(f"hf:{folder}")
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names \.\./model.safetensors, which is not there"):
        locate(f"hf:{folder}")


def as_pickles(folder, zipped: bool, shards: int) -> None:
    """Keep the weights as they were before safetensors: zipped or not, in one file or several."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        return
    places = {name: f"pytorch_model-0000{1 + index % shards}-of-0000{shards}.bin" for index, name in enumerate(state)}
    for file in set(places.values()):
        part = {name: state[name] for name in places if places[name] == file}
        torch.save(part, folder / file, _use_new_zipfile_serialization=zipped)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "plain"])
@pytest.mark.parametrize(("kind", "head"), [("bert", "ForMaskedLM"), ("gpt2", "LMHeadModel")])
def test_files_from_before_safetensors_say_the_same(kind, head, zipped, shards, publish):
    folder, *_ = publish(kind, head)
    expected = reading.read(folder, f"hf:{folder}")
    as_pickles(folder, zipped, shards)
    found = reading.read(folder, f"hf:{folder}")
    for ours, theirs in ((found.model, expected.model), (found.heads, expected.heads)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_where_both_kinds_of_files_lie_the_safe_one_is_read(publish):
    folder, *_ = publish("bert")
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    locate(f"hf:{folder}")


class Evil:
    """What opens a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_something_is_refused_and_does_not(publish, tmp_path):
    folder, *_ = publish("bert")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: not weights alone") as refusal:
        locate(f"hf:{folder}")
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_settings_or_vocabulary_is_refused_by_name(publish):
    folder, *_ = publish("bert")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="holds no vocabulary; expected tokenizer.json, vocab.txt, or vocab.json"):
        locate(f"hf:{folder}")
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: Expecting property name"):
        locate(f"hf:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        locate(f"hf:{folder}")


def test_a_name_that_is_no_folder_is_asked_of_the_hub(publish, monkeypatch, tmp_path):
    folder, *_ = publish("bert")
    asked = []

    def download(name, allow_patterns):
        asked.append(name)
        if name == "nobody/nothing":
            raise OSError("Name or service not known\nand more")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = locate("hf:somebody/bert-nano")
    assert asked == ["somebody/bert-nano"]
    as_pickles(folder, zipped=True, shards=1)  # old files are asked for only where there are no others
    locate("hf:somebody/bert-nano-1")
    assert asked[1:] == ["somebody/bert-nano-1"] * 2
    assert saved_config(found)["tokenizer"]["path"] == "somebody/bert-nano"
    with pytest.raises(MachineError, match="hf:nobody/nothing is no folder here, .* Name or service not known$"):
        locate("hf:nobody/nothing")
    with pytest.raises(UserError, match="no such folder"):
        locate(f"hf:{tmp_path}/none")
    with pytest.raises(UserError, match="is a file"):
        locate(f"hf:{folder}/config.json")


def test_every_family_names_every_weight_of_our_model(publish, stage):
    for kind in BIDIRECTIONAL:
        folder, *_ = publish(kind)
        model = stage(folder).model
        names = reading.FAMILIES[kind].names(2)
        assert set(names) == set(model.state_dict())


@pytest.mark.parametrize("form", ["hf", "safetensors"])
def test_weights_without_a_head_are_exported_as_features(form, publish, cli, tmp_path):
    folder, network, tokenizer = publish("bert")
    answer = cli("export", f"ckpt=hf:{folder}", f"format={form}", f"output={tmp_path / 'out'}")
    assert answer.code == 0, answer.err
    if form == "hf":
        again, inputs = transformers.AutoModel.from_pretrained(tmp_path / "out"), tokenizer(TEXTS[:1], return_tensors="pt")
        expected, found = (model.eval()(**inputs).last_hidden_state for model in (network, again))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("words", "told"),
    [(("predict", "input=-"), "needs a run of ptft finetune"), (("evaluate", "split=valid"), "fine-tune them first")],
    ids=["predict", "evaluate"],
)
def test_weights_without_a_head_have_nothing_to_say_of_labels(words, told, publish, cli):
    folder, _, _ = publish("bert")
    answer = cli(*words, f"ckpt=hf:{folder}")
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert told in answer.err
