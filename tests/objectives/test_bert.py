"""Pairs of texts against their definition, the loss against another library's BERT."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from ptft.data.loader import Loader
from ptft.data.rows import Blocks
from ptft.errors import DataError
from ptft.loop import evaluate
from ptft.objective import heads
from ptft.objectives.bert import BERT, IS_NEXT, RANDOM, trimmed
from ptft.randomness import Draw
from ptft.records import read_json
from ptft.resolve import resolve

LIKE_BERT = {"positions": "learned", "segments": 2, "norm": "post", "eps": 1e-12}
SETTINGS = {
    "mask_prob": 0.15,
    "mask_share": 0.8,
    "random_share": 0.1,
    "whole_word": False,
    "nsp_weight": 1.0,
    "nsp_random_prob": 0.5,
    "short_seq_prob": 0.1,
}
ROOM = 29  # of model.max_length=32, but for [CLS] and twice [SEP]


@pytest.fixture
def make_bert(make_transformer, tokenizer):
    def make(model=None, **changes) -> BERT:
        return BERT(model or make_transformer(**LIKE_BERT), tokenizer, **(SETTINGS | changes)).eval()

    return make


@pytest.fixture
def running(tmp_path, tokenizer):
    """Rows of running text: running([document, ...]) of texts."""

    def build(documents: list[str]) -> Blocks:
        ids = [np.append(part, tokenizer.eos_id) for part in tokenizer.encode(documents)]
        np.concatenate(ids).astype("uint16").tofile(tmp_path / "x.ids")
        np.cumsum([len(part) for part in ids], dtype=np.int64).tofile(tmp_path / "x.ends")
        return Blocks(tmp_path / "x.ids", tmp_path / "x.ends", "uint16", ROOM, tokenizer.eos_id)

    return build


@pytest.fixture
def stories(running):
    """Many documents, each of which counts its own sentences: 'a3 b3 c3.' only follows 'a2 b2 c2.'"""

    def build(count: int = 60) -> Blocks:
        random = np.random.default_rng(0)
        sizes = random.integers(1, 25, count)
        return running(["".join(f" {word} {place}." for place in range(size)) for word, size in enumerate(sizes.tolist())])

    return build


def epoch(objective: BERT, rows, number: int, seed: int = 0) -> list:
    """First text, second text and label of every row."""
    chunks = objective.view(rows)
    places = np.arange(len(chunks))
    return objective.collate.pairing(chunks.take(places), Draw(seed, np.full_like(places, number), places, True))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_share_of_random_pairs_is_exact_in_each_epoch_and_the_rows_differ(share, make_bert, stories):
    objective = make_bert(nsp_random_prob=share)
    labels = np.array([[label for *_, label in epoch(objective, stories(), number)] for number in range(3)])
    assert set(labels.sum(1).tolist()) == {round(share * labels.shape[1])}
    assert share in (0, 1) or not np.array_equal(labels[0], labels[1])


@pytest.mark.parametrize("sentences", [1, 2, 5, 30])
def test_the_share_does_not_depend_on_how_many_sentences_documents_have(sentences, make_bert, running):
    rows = running([f" {word}".join(f" {number}" for number in range(sentences)) + f" {word}." for word in range(200)])
    labels = [label for *_, label in epoch(make_bert(), rows, 0)]
    assert abs(np.mean(labels) - 0.5) < 0.02


@pytest.mark.parametrize("short", [0.0, 1.0])
def test_next_texts_follow_and_random_ones_come_from_elsewhere(short, make_bert, stories, tokenizer):
    rows = stories()
    text = tokenizer.decode(rows.ids.read(0, len(rows.ids)))
    seen = set()
    for number in range(5):
        for first, second, label in epoch(make_bert(short_seq_prob=short), rows, number):
            assert min(len(first), len(second)) >= 1 and len(first) + len(second) <= ROOM
            one, two = (tokenizer.decode(part) for part in (first, second))
            seen.add(label)
            if label == RANDOM:
                assert one + two not in text or min(len(first), len(second)) < 6  # too short to tell where it is from
            elif len(first) + len(second) < ROOM and not short:  # else some may have been cut out where they meet
                assert one + two in text
    assert seen == {IS_NEXT, RANDOM}


def test_what_truly_follows_is_never_called_random(make_bert, running, tokenizer):
    rows = running(["to be. or not. to be."] * 40 + ["whether. 'tis nobler. to be."])
    after = {"to be.": " or not.", " or not.": " to be."}
    for number in range(5):
        for first, second, label in epoch(make_bert(short_seq_prob=0.0), rows, number):
            follows = after.get(tokenizer.decode(first), "?")
            assert label == IS_NEXT or not tokenizer.decode(second).startswith(follows)
    repeated = epoch(make_bert(), running([" be" * 8] * 40), 0)
    assert {label for *_, label in repeated} == {IS_NEXT}  # no other text has anything else to say


def test_short_texts_are_as_many_as_wanted_and_of_all_lengths(make_bert, running):
    rows = running([" ".join(f"{word} {place}." for place in range(40)) for word in range(100)])
    whole, short = (
        [len(first) + len(second) for first, second, _ in epoch(make_bert(short_seq_prob=share), rows, 0)]
        for share in (0.0, 1.0)
    )
    assert np.mean(np.array(whole) == ROOM) > 0.7
    assert len(set(short)) > 20 and abs(np.mean(short) - (2 + ROOM) / 2) < 1


def test_pairs_depend_on_seed_epoch_and_row_and_on_nothing_else(make_bert, stories):
    objective = make_bert()
    chunks = objective.view(stories())
    places = np.arange(len(chunks))
    whole = objective.collate.pairing(chunks.take(places), Draw(0, places * 0, places))
    for row in (0, 7, len(chunks) - 1):
        (alone,) = objective.collate.pairing(chunks.take([row]), Draw(0, np.array([0]), np.array([row])))
        for one, other in zip(alone, whole[row], strict=True):
            assert np.array_equal(one, other)
    (other,) = objective.collate.pairing(chunks.take([7]), Draw(0, np.array([1]), np.array([7])))
    assert not all(np.array_equal(*parts) for parts in zip(other, whole[7], strict=True))


def test_tokens_are_cut_from_the_front_and_the_back():
    tokens = np.arange(10)
    assert trimmed(tokens, 4, np.zeros(20, dtype=bool)).tolist() == [0, 1, 2, 3]
    assert trimmed(tokens, 4, np.ones(20, dtype=bool)).tolist() == [6, 7, 8, 9]
    coins = np.random.default_rng(0).random((1000, 20)) < 0.5
    starts = [trimmed(tokens, 4, row)[0] for row in coins]
    assert set(starts) == set(range(7)) and abs(np.mean(starts) - 3) < 0.2


def test_a_batch_is_laid_out_as_bert_does_it(make_bert, stories, tokenizer):
    objective = make_bert()
    chunks = objective.view(stories())
    places = np.arange(24)
    draw = Draw(0, places * 0, places)
    batch = objective.collate(chunks.take(places), draw)
    pairs = objective.collate.pairing(chunks.take(places), draw)
    inputs = batch["inputs"]
    tokens = inputs["tokens"].clone()
    tokens.view(-1)[batch["index"]] = batch["targets"]
    for row, (first, second, label) in enumerate(pairs):
        framed = [tokenizer.cls_id, *first, tokenizer.sep_id, *second, tokenizer.sep_id]
        assert tokens[row][inputs["mask"][row]].tolist() == framed
        assert inputs["segments"][row][inputs["mask"][row]].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        assert batch["next"][row] == label
    assert batch["targets"].min() >= 6
    assert batch["index"].tolist() == sorted(set(batch["index"].tolist()))


@pytest.fixture
def alike(make_bert, make_transformer, bert_weights):
    """Ours and another library's with the same random weights: alike(**settings)."""

    def build(**settings):
        model = make_transformer(**LIKE_BERT)
        torch.manual_seed(1)
        config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        theirs = BertForPreTraining(
            BertConfig(vocab_size=model.token_embedding.num_embeddings, max_position_embeddings=32, **config)
        ).eval()
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        ours = make_bert(model, **settings)
        transform = theirs.cls.predictions.transform
        model.load_state_dict(bert_weights(theirs.bert))
        ours.dense.load_state_dict(transform.dense.state_dict())
        ours.norm.load_state_dict(transform.LayerNorm.state_dict())
        ours.bias.data.copy_(theirs.cls.predictions.bias)
        ours.pooler.load_state_dict(theirs.bert.pooler.dense.state_dict())
        ours.next.load_state_dict(theirs.cls.seq_relationship.state_dict())
        return ours, theirs

    return build


def test_loss_and_gradient_equal_those_of_bert_given_its_weights(alike, stories):
    ours, theirs = alike()
    batch = Loader(ours.view(stories()), ours.collate, 16, seed=0).batches(0).__next__()
    inputs = batch["inputs"]
    labels = torch.full_like(inputs["tokens"], -100)
    labels.view(-1)[batch["index"]] = batch["targets"]
    expected = theirs(
        inputs["tokens"],
        attention_mask=inputs["mask"],
        token_type_ids=inputs["segments"],
        labels=labels,
        next_sentence_label=batch["next"],
    ).loss
    assert set(batch["next"].tolist()) == {IS_NEXT, RANDOM}
    output = ours(batch)
    found = output.loss / output.count
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.backward()
    expected.backward()
    pairs = [
        (ours.pooler.weight, theirs.bert.pooler.dense.weight),
        (ours.next.bias, theirs.cls.seq_relationship.bias),
        (ours.model.token_embedding.weight, theirs.bert.embeddings.word_embeddings.weight),
    ]
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, atol=1e-5, rtol=0)


def test_batches_of_one_step_add_up_to_the_big_batch(alike, stories):
    objective, _ = alike(nsp_weight=0.7)
    chunks = objective.view(stories())
    places = np.arange(12)

    def collated(part):
        rows = places[part]
        return objective.collate(chunks.take(rows), Draw(0, rows * 0, rows))

    outputs = []
    for parts in ([slice(0, 12)], [slice(0, 3), slice(3, 12)]):
        found = [objective(batch) for batch in objective.together(map(collated, parts))]
        outputs.append((sum(output.loss for output in found), sum(output.count for output in found)))
    assert outputs[0][1] == outputs[1][1]
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch_size", [5, 64])
def test_the_scores_of_a_split_do_not_depend_on_its_batches(batch_size, alike, stories):
    objective, _ = alike(nsp_weight=0.7)
    settings = SimpleNamespace(seed=0, eval_batches=None, precision="fp32", samples=4)
    rows = objective.view(stories())
    found = evaluate(objective, Loader(rows, objective.collate, batch_size, 0, shuffle=False), settings)
    whole = evaluate(objective, Loader(rows, objective.collate, len(rows), 0, shuffle=False), settings)
    assert found.scores == pytest.approx(whole.scores, rel=1e-5)
    scores = found.scores
    assert scores["loss"] == pytest.approx(scores["mlm_loss"] + 0.7 * scores["nsp_loss"])
    assert scores["perplexity"] == pytest.approx(np.exp(scores["mlm_loss"]))
    assert scores.keys() == {"loss", "mlm_loss", "nsp_loss", "accuracy", "nsp_accuracy", "perplexity"}
    assert len(found.samples) == 4


def test_a_fresh_head_knows_nothing_of_pairs(make_bert, stories):
    objective = make_bert()
    batch = next(Loader(objective.view(stories()), objective.collate, 60, 0).batches(0))
    with torch.no_grad():
        total, count = objective(batch).means["nsp_loss"]
    assert float(total / count) == pytest.approx(np.log(2), rel=0.02)


@pytest.mark.slow
def test_pairs_are_learnt(make_bert, make_transformer, stories):
    torch.manual_seed(0)
    objective = make_bert(make_transformer(**LIKE_BERT, init_std=0.1), mask_prob=0.05).train()
    batch = next(Loader(objective.view(stories()), objective.collate, 32, 0).batches(0))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(60):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    right, count = objective.eval()(batch).means["nsp_accuracy"]
    assert right / count > 0.9


def test_the_heads_are_those_of_mlm_and_two_of_pairs(make_bert):
    of_pairs = {"pooler.weight", "pooler.bias", "next.weight", "next.bias"}
    assert set(heads(make_bert())) == {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias"} | of_pairs


def test_a_model_without_segments_is_refused_with_the_setting(make_bert, make_transformer):
    with pytest.raises(ValueError, match="model.segments=2"):
        make_bert(make_transformer())


@pytest.mark.parametrize("wrong", [{"nsp_random_prob": 1.5}, {"short_seq_prob": -0.1}, {"mask_prob": 0.0}])
def test_shares_out_of_range_are_refused_by_name(make_bert, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        make_bert(**wrong)


def test_one_document_is_refused_with_the_way_out(make_bert, running):
    with pytest.raises(DataError, match="has 1: dataset.documents=paragraph"):
        make_bert().view(running(["to be. or not."]))


def test_the_command_line_refuses_one_document_and_takes_lines(cli, data, tmp_path):
    words = "pretrain", "objective=bert", "model=transformer_tiny", "model.segments=2", "tokenizer=byte", *data.text
    words += "preset=smoke", "trainer.steps=2", "device=cpu", "model.max_length=64"
    refused = cli(*words, f"run={tmp_path / 'one'}")
    assert refused.code == 3
    assert "dataset.documents=paragraph" in refused.complaint
    answer = cli(*words, f"run={tmp_path / 'lines'}", "dataset.documents=line")
    assert answer.code == 0, answer.err
    card = (tmp_path / "lines" / "README.md").read_text()
    assert "label 0: the second text is next, 1: it is of another document" in card
    assert {"mlm_loss", "nsp_accuracy"} <= read_json(tmp_path / "lines" / "scores.json")["valid"].keys()


@pytest.mark.slow
def test_the_speeches_that_ship_give_many_documents_and_half_of_the_pairs_are_random(make_bert, tokenizer, compose):
    dataset = resolve("dataset", compose("pretrain", "objective=bert")["dataset"], {})
    dataset.prepare(tokenizer, ROOM)
    objective = make_bert()
    chunks = objective.view(dataset.rows("valid"))
    assert chunks.documents > 700
    labels = [label for *_, label in epoch(objective, dataset.rows("valid"), 0)]
    assert abs(np.mean(labels) - 0.5) < 1e-3
