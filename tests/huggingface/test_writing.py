"""What is written, as Hugging Face's own library reads it."""

from __future__ import annotations

import pytest
import torch
import transformers

from ptft import build
from ptft.data import published
from ptft.data.pieces import WordEncoder
from ptft.data.vocabulary import BPE as BytePairs
from ptft.data.vocabulary import Unigram, WordPiece
from ptft.errors import UserError
from ptft.huggingface import proving, reading, writing
from ptft.nn.text import Layout
from ptft.objective import heads
from ptft.objectives.bert import BERT as PAIRED
from ptft.objectives.clm import CLM
from ptft.objectives.mlm import MLM
from ptft.portable import RandomTexts, difference
from ptft.tasks.classify import Classify
from ptft.tasks.multilabel import Multilabel
from ptft.tasks.regress import Regress
from ptft.tasks.tag import Tag

BERT = {"positions": "learned", "norm": "post", "eps": 1e-12, "local_heads": None}
GPT = {"positions": "learned", "activation": "gelu_tanh", "local_heads": None}
ROTARY = {"positions": "rotary", "norm": "pre", "eps": 1e-5, "local_heads": 2}
SCHEME = ["B-PER", "I-PER", "O"]
TEXTS, PAIRS = ["To be, or not", "to suffer"], ["the slings", "that is the question"]


@pytest.fixture
def bert(make_transformer, settings):
    """A bidirectional model with random biases, and its settings."""
    return lambda **changes: _filled(make_transformer, settings("transformer"), "transformer.Transformer", BERT | changes)


@pytest.fixture
def gpt(make_gpt, settings):
    return lambda **changes: _filled(make_gpt, settings("gpt"), "gpt.GPT", GPT | changes)


def _filled(make, settings: dict, target: str, changes: dict):
    model = make(**changes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    sizes = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 32, "dropout": 0.0}
    return model, {"_target_": f"ptft.models.{target}", **settings, **sizes, **changes}


@pytest.fixture
def masked(tokenizer):
    shares = {"mask_prob": 0.15, "mask_share": 0.8, "random_share": 0.1, "whole_word": False}

    def make(model):
        objective = MLM(model, tokenizer, **shares).eval()
        torch.nn.init.normal_(objective.bias)
        return objective

    return make


def loaded(folder, kind: str):
    found, report = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    theirs_alone = "pooler", "contact_head", "inv_freq"  # not asked for, and what follows from the configuration
    assert not [name for name in report["missing_keys"] if not any(part in name for part in theirs_alone)]
    assert not report["mismatched_keys"]
    return found.eval()


def theirs(network, inputs) -> torch.Tensor:
    segments = {"token_type_ids": inputs["segments"]} if "segments" in inputs else {}
    return network(input_ids=inputs["tokens"], attention_mask=inputs["mask"].long(), **segments)


@pytest.mark.parametrize(
    "changes", [{"segments": 2}, {"segments": 0}, {"segments": 1, "activation": "relu"}, ROTARY | {"segments": 0}], ids=str
)
def test_a_bidirectional_model_is_one_to_auto_model(changes, bert, masked, tokenizer, tmp_path):
    model, node = bert(**changes)
    assert writing.write(tmp_path, node, masked(model), tokenizer) == []
    network = loaded(tmp_path, "AutoModel")
    random = RandomTexts(model, tokenizer.vocab_size)
    gap = difference(lambda inputs: theirs(network, inputs).last_hidden_state, lambda inputs: model(**inputs), random)
    assert gap < 1e-4


@pytest.mark.parametrize("changes", [{"segments": 2}, ROTARY], ids=["learned", "rotary"])
def test_the_head_that_guesses_masked_words_goes_along(changes, bert, masked, tokenizer, tmp_path):
    model, node = bert(**changes)
    objective = masked(model)
    assert writing.write(tmp_path, node, objective, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForMaskedLM")
    random = RandomTexts(model, tokenizer.vocab_size)
    assert difference(lambda inputs: theirs(network, inputs).logits, objective.answer, random) < 1e-4


def test_a_head_with_a_matrix_of_its_own_goes_along_and_comes_back(bert, masked, tokenizer, tmp_path):
    model, node = bert(activation="relu")
    objective = masked(model)
    objective.make_room({"decoder.weight": torch.empty(0)})
    assert writing.write(tmp_path, node, objective, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForMaskedLM")
    random = RandomTexts(model, tokenizer.vocab_size)
    assert difference(lambda inputs: theirs(network, inputs).logits, objective.answer, random) < 1e-4
    found = reading.read(tmp_path, f"hf:{tmp_path}").heads
    assert found.keys() == heads(objective).keys()
    assert all(torch.equal(value, found[name]) for name, value in heads(objective).items())


def test_of_the_heads_of_bert_that_for_pairs_is_left_out(bert, tokenizer, tmp_path):
    model, node = bert(segments=2)
    weights = {"nsp_weight": 1.0, "nsp_random_prob": 0.5, "short_seq_prob": 0.1}
    objective = PAIRED(model, tokenizer, 0.15, 0.8, 0.1, False, **weights).eval()
    left = writing.write(tmp_path, node, objective, tokenizer)
    assert left == ["next.bias", "next.weight", "pooler.bias", "pooler.weight"]
    network = loaded(tmp_path, "AutoModelForMaskedLM")
    random = RandomTexts(model, tokenizer.vocab_size)
    assert difference(lambda inputs: theirs(network, inputs).logits, objective.answer, random) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [{}, ROTARY, {"bias": False}, {**ROTARY, "bias": False, "local_heads": 0}],
    ids=["learned", "rotary", "learned without biases", "rotary without biases"],
)
@pytest.mark.parametrize("tie", [True, False])
def test_a_causal_model_is_one_that_goes_on_writing(tie, changes, gpt, tokenizer, tmp_path):
    model, node = gpt(**changes)
    objective = CLM(model, tokenizer, tie=tie, document_aware=False).eval()
    assert writing.write(tmp_path, node, objective, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForCausalLM")
    random = RandomTexts(model, tokenizer.vocab_size)
    assert difference(lambda inputs: theirs(network, inputs).logits, objective.answer, random) < 1e-4
    assert loaded(tmp_path, "AutoModel").config.eos_token_id == tokenizer.eos_id


@pytest.mark.parametrize("changes", [{}, ROTARY], ids=["learned", "rotary"])
@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_a_tagger_is_one_that_knows_its_tags(family, changes, request, tokenizer, tmp_path):
    model, node = request.getfixturevalue(family)(**changes)
    task = Tag(model, tokenizer, 3, SCHEME, dropout=0.0).eval()
    assert writing.write(tmp_path, node, task, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForTokenClassification")
    assert [network.config.id2label[index] for index in range(3)] == SCHEME
    random = RandomTexts(model, tokenizer.vocab_size)
    assert difference(lambda inputs: theirs(network, inputs).logits, task.answer, random) < 1e-4


@pytest.mark.parametrize(
    "vocabulary",
    [BytePairs(300, min_frequency=1), WordPiece(80, min_frequency=1, lowercase=False), Unigram(60)],
    ids=["bpe", "wordpiece", "unigram"],
)
def test_a_tagger_gets_words_that_are_given_apart_in_the_pieces_it_learned(vocabulary, bert, tmp_path):
    own = vocabulary.train(["Whether 'tis nobler [in the mind] to suffer the slings and arrows, or to die: to sleep."] * 3)
    model, node = bert(vocab_size=own.vocab_size)
    writing.write(tmp_path, node, Tag(model, own, 3, SCHEME, dropout=0.0).eval(), own)
    words = ["Whether", "to", "suffer", ",", "or", "[", "nobler", "]", ":", "sleep"]
    found = transformers.AutoTokenizer.from_pretrained(tmp_path)(words, is_split_into_words=True, add_special_tokens=False)
    encoder = WordEncoder(own, 100)
    encoder.learn([words])
    assert found["input_ids"] == encoder.pieces(words)[0].tolist()


@pytest.mark.parametrize(("family", "objective"), [("bert", "mlm"), ("gpt", "clm")])
def test_a_model_with_rotary_positions_is_read_back_as_it_was(family, objective, request, masked, tokenizer, tmp_path):
    model, node = request.getfixturevalue(family)(**ROTARY)
    whole = masked(model) if objective == "mlm" else CLM(model, tokenizer, tie=False, document_aware=False).eval()
    writing.write(tmp_path, node, whole, tokenizer)
    found = reading.read(tmp_path, f"hf:{tmp_path}")
    assert found.model.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, found.model[name]) for name, tensor in model.state_dict().items())
    assert found.heads.keys() == heads(whole).keys()
    same = {"positions", "norm", "bias", "activation", "dim", "layers", "heads", "hidden", "max_length", "eps"}
    assert {name: found.parts["model"][name] for name in same} == {name: node[name] for name in same}


def test_a_head_with_a_bias_is_none_of_gpt2s(gpt, tokenizer, tmp_path):
    model, node = gpt()
    objective = CLM(model, tokenizer, tie=False, document_aware=False, bias=True)
    assert writing.write(tmp_path, node, objective, tokenizer) == ["head.bias", "head.weight"]
    loaded(tmp_path, "AutoModel")


def test_a_head_that_theirs_has_not_is_left_out_by_name(bert, tokenizer, tmp_path):
    model, node = bert()
    task = Classify(model, 2, ["a", "b"], "mean", 0.0, 0.0, 0.0, 0.0, None, tokenizer)
    assert writing.write(tmp_path, node, task, tokenizer) == ["head.linear.bias", "head.linear.weight"]
    loaded(tmp_path, "AutoModel")


def texts_task(name: str, model, tokenizer, pooling: str = "cls", hidden: str | None = "tanh"):
    """A task for whole texts with random weights: classify, multilabel or regress."""
    settings = {"pooling": pooling, "dropout": 0.1, "hidden": hidden, "tokenizer": tokenizer}
    if name == "regress":
        task = Regress(model, target_mean=20.0, target_std=3.0, **settings)
    elif name == "multilabel":
        task = Multilabel(model, 3, SCHEME, threshold=0.5, **settings)
    else:
        task = Classify(model, 3, SCHEME, label_smoothing=0.0, mixup=0.0, cutmix=0.0, mix_epochs=None, **settings)
    for parameter in task.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()


@pytest.mark.parametrize("changes", [{"segments": 2}, ROTARY], ids=["learned", "rotary"])
@pytest.mark.parametrize("name", ["classify", "multilabel", "regress"])
def test_a_classifier_like_theirs_is_one_that_knows_its_labels(name, changes, bert, tokenizer, tmp_path):
    model, node = bert(**changes)
    task = texts_task(name, model, tokenizer)
    assert writing.write(tmp_path, node, task, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForSequenceClassification")
    assert list(network.config.id2label.values()) == (["LABEL_0"] if name == "regress" else SCHEME)
    inputs = RandomTexts(model, tokenizer.vocab_size).draw(5, 7)
    with torch.no_grad():
        torch.testing.assert_close(theirs(network, inputs).logits.squeeze(-1), task.answer(inputs), atol=1e-4, rtol=0)
    run, with_head, _ = proving.reader(tmp_path)
    assert with_head
    assert difference(run, task.answer, RandomTexts(model, tokenizer.vocab_size)) < 1e-4


def test_a_head_with_relu_is_distilberts_and_comes_back_as_it_was(bert, tokenizer, tmp_path):
    model, node = bert(segments=0)
    task = texts_task("classify", model, tokenizer, hidden="relu")
    assert writing.write(tmp_path, node, task, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForSequenceClassification")
    assert type(network).__name__ == "DistilBertForSequenceClassification"
    inputs = RandomTexts(model, tokenizer.vocab_size).draw(5, 7)
    with torch.no_grad():
        torch.testing.assert_close(theirs(network, inputs).logits, task.answer(inputs), atol=1e-4, rtol=0)
    found = reading.read(tmp_path, f"hf:{tmp_path}")
    assert all(torch.equal(value, found.heads[name]) for name, value in heads(task).items())
    assert found.facts == {"num_classes": 3, "labels": SCHEME}


@pytest.mark.parametrize("pooling", ["last", "before_end"])
@pytest.mark.parametrize("changes", [{}, ROTARY, {"bias": False}], ids=["learned", "rotary", "no bias"])
@pytest.mark.parametrize("name", ["classify", "multilabel", "regress"])
def test_a_causal_classifier_reads_the_last_token_of_what_its_tokenizer_makes(name, changes, pooling, gpt, tokenizer, tmp_path):
    model, node = gpt(**changes)
    task = texts_task(name, model, tokenizer, pooling, None)
    assert writing.write(tmp_path, node, task, tokenizer) == []
    network = loaded(tmp_path, "AutoModelForSequenceClassification")
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)([*TEXTS, *PAIRS], padding=True, return_tensors="pt")
    rows = [{"tokens": tokens} for tokens in tokenizer.encode([*TEXTS, *PAIRS])]
    with torch.no_grad():
        expected = task.answer(Layout.of(model, tokenizer).inputs(rows))
        torch.testing.assert_close(network(**inputs).logits.squeeze(-1), expected, atol=1e-4, rtol=0)
    run, with_head, _ = proving.reader(tmp_path)
    assert with_head
    assert difference(run, task.answer, RandomTexts(model, tokenizer.vocab_size, tokenizer.pad_id)) < 1e-4
    assert reading.read(tmp_path, "hf:x").parts["objective"]["pooling"] == pooling


@pytest.mark.parametrize("pooling", ["last", "before_end"])
def test_a_causal_classifier_of_pairs_answers_as_ours_does(pooling, gpt, tokenizer, tmp_path):
    model, node = gpt()
    task = texts_task("classify", model, tokenizer, pooling, None)
    writing.write(tmp_path, node, task, tokenizer)
    inputs = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS, PAIRS, padding=True, return_tensors="pt")
    rows = [{"tokens": a, "pair": b} for a, b in zip(tokenizer.encode(TEXTS), tokenizer.encode(PAIRS), strict=True)]
    with torch.no_grad():
        answer = task.answer(Layout.of(model, tokenizer).inputs(rows))
        expected = loaded(tmp_path, "AutoModelForSequenceClassification")(**inputs).logits
    torch.testing.assert_close(answer, expected, atol=1e-4, rtol=0)
    assert published.read(tmp_path).between == tokenizer.between


def test_a_published_causal_classifier_goes_back_as_it_came(publish, compose, tmp_path):
    folder, network, tokenizer = publish("gpt2", "ForSequenceClassification", num_labels=3)
    found = build.stage(compose("predict", f"ckpt=hf:{folder}", "input=-", "device=cpu"), prepare=False)
    assert writing.write(tmp_path, found.config["model"], found.objective.eval(), found.tokenizer) == []
    again = loaded(tmp_path, "AutoModelForSequenceClassification")
    inputs = tokenizer([*TEXTS, *PAIRS], padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, network(**inputs).logits, atol=1e-4, rtol=0)
    ending = texts_task("classify", found.model, found.tokenizer, "last", None)  # [EOS], which is padding there too
    assert writing.fitting(found.config["model"], ending) == "task.pooling=before_end task.hidden=null"


def test_for_a_head_that_theirs_has_not_the_settings_of_one_it_has_are_told(bert, gpt, tokenizer):
    model, node = bert(segments=2)
    assert writing.fitting(node, texts_task("classify", model, tokenizer, "mean", None)) == "task.pooling=cls task.hidden=tanh"
    assert writing.fitting(node, texts_task("classify", model, tokenizer)) is None
    assert writing.fitting(node, Tag(model, tokenizer, 3, SCHEME, dropout=0.0)) is None
    causal, node = gpt()
    assert writing.fitting(node, texts_task("classify", causal, tokenizer, "last", None)) is None
    told = writing.fitting(node, texts_task("classify", causal, tokenizer, "mean", None))
    assert told == "task.pooling=last task.hidden=null"


def test_auto_tokenizer_makes_the_input_that_our_layout_makes(bert, masked, tokenizer, tmp_path):
    model, node = bert(segments=2)
    writing.write(tmp_path, node, masked(model), tokenizer)
    found = transformers.AutoTokenizer.from_pretrained(tmp_path)
    rows = [{"tokens": a, "pair": b} for a, b in zip(tokenizer.encode(TEXTS), tokenizer.encode(PAIRS), strict=True)]
    made, given = Layout.of(model, tokenizer).inputs(rows), found(TEXTS, PAIRS, padding=True, return_tensors="pt")
    made = {name: value[:, : made["mask"].sum(1).max()] for name, value in made.items()}
    assert torch.equal(made["tokens"], given["input_ids"])
    assert torch.equal(made["mask"], given["attention_mask"].bool())
    real = made["mask"]
    assert torch.equal(made["segments"][real], given["token_type_ids"][real])
    assert found.model_max_length == 32
    assert (found.pad_token, found.mask_token, found.eos_token) == ("[PAD]", "[MASK]", "[EOS]")
    assert found.decode(found("To be").input_ids, skip_special_tokens=True) == "To be"


def test_a_published_model_comes_back_as_it_was(publish, tmp_path):
    folder, network, tokenizer = publish("bert", "ForMaskedLM")
    found = reading.read(folder, "hf:x")
    run = proving._ours(folder)
    inputs = {"tokens": torch.tensor([[2, 9, 8, 3]]), "mask": torch.ones(1, 4, dtype=torch.bool)}
    torch.testing.assert_close(run(inputs), network.bert(inputs["tokens"]).last_hidden_state, atol=1e-4, rtol=0)
    assert found.heads.keys() == {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias"}


def test_without_the_library_a_folder_is_read_back_by_ptft(gpt, tokenizer, tmp_path, monkeypatch):
    model, node = gpt()
    writing.write(tmp_path, node, CLM(model, tokenizer, tie=True, document_aware=False), tokenizer)
    monkeypatch.setattr(proving, "find_spec", lambda name: None)
    run, with_head, told = proving.reader(tmp_path)
    assert (with_head, told) == (False, "read back by ptft")
    assert difference(run, lambda inputs: model(**inputs), RandomTexts(model, tokenizer.vocab_size)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"positions": "sinusoidal"}, r"bert has no model.positions=sinusoidal \(only learned\)"),
        ({"positions": "rotary"}, r"esm has no model.norm=post \(only pre\)"),
        ({"norm": "pre"}, r"model.norm=pre \(only post\)"),
        ({"qk_norm": True}, r"bert has no model.qk_norm=true \(only false\)"),
        ({"activation": "relu_squared"}, r"model.activation=relu_squared \(only "),
        ({"activation": "swiglu"}, r"model.activation=swiglu \(only silu, relu, "),
        ({"_target_": "ptft.models.resnet.ResNet"}, "ResNet is none of Hugging Face's"),
    ],
)
def test_a_setting_that_theirs_has_not_is_named(changes, told, bert):
    _, node = bert()
    with pytest.raises(UserError, match=told) as refusal:
        writing.family_of(node | changes)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_cap_is_none_of_theirs_and_a_model_of_before_the_options_is_written(gpt):
    _, node = gpt()
    with pytest.raises(UserError, match=r"gpt2 has no model.logit_cap=15 \(only null\)"):
        writing.family_of(node | {"logit_cap": 15})
    old = {key: value for key, value in node.items() if key not in ("qk_norm", "zero_init", "logit_cap")}
    assert writing.family_of(old) == writing.family_of(node | {"zero_init": True})
