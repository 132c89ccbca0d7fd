"""The recurrent network against torch's own LSTM, and what its dropouts, its memory and padding do."""

import numpy as np
import pytest
import torch
from torch import nn

from ptft.models.lstm import LSTM
from ptft.nn.generation import generate
from ptft.nn.recurrent import LSTMLayer, WordEmbedding, locked_dropout
from ptft.objectives.clm import CLM
from ptft.tasks.classify import Classify
from ptft.tuning import Full, Gradual

SMALL = {"dim": 12, "hidden": 20, "layers": 3, "max_length": 32}
NO_DROPOUT = dict.fromkeys(("embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_drop"), 0.0)
FULL_SIZE = {"vocab_size": 33_278, "parameters": 33_556_078}  # of WikiText-2, with a tied head and its bias


@pytest.fixture
def make_lstm(settings, tokenizer):
    """A small LSTM in eval mode, with settings changed by name."""

    def make(**changes) -> LSTM:
        torch.manual_seed(0)
        facts = {"vocab_size": tokenizer.vocab_size}
        return LSTM(**(settings("lstm") | facts | SMALL | NO_DROPOUT | changes)).eval()

    return make


def test_features_equal_those_of_torchs_lstm(make_lstm):
    ours = make_lstm(dim=12, hidden=12)
    theirs = nn.LSTM(12, 12, num_layers=3, batch_first=True)
    state = {
        name.replace("_l0", f"_l{index}"): value
        for index in range(3)
        for name, value in ours.layers[index].state_dict().items()
    }
    theirs.load_state_dict(state)
    tokens = torch.randint(300, (4, 25))
    torch.testing.assert_close(ours(tokens), theirs(ours.embedding.token(tokens))[0], atol=1e-6, rtol=0)


def test_the_last_layer_is_as_wide_as_the_embedding_so_that_heads_can_share_it(make_lstm):
    model = make_lstm()
    assert [(layer.input_size, layer.hidden_size) for layer in model.layers] == [(12, 20), (20, 20), (20, 12)]
    assert model(torch.randint(300, (2, 5))).shape == (2, 5, 12)
    assert "embedding.token.weight" in model.state_dict()
    assert model.token_embedding.weight is model.embedding.token.weight


def test_awd_lstm_has_the_published_size(settings):
    with torch.device("meta"):
        model = LSTM(vocab_size=FULL_SIZE["vocab_size"], **settings("awd_lstm"))
    assert sum(parameter.numel() for parameter in model.parameters()) + FULL_SIZE["vocab_size"] == FULL_SIZE["parameters"]
    assert model.dropouts == [0.4, 0.3, 0.3, 0.4]
    assert (model.embedding.dropout, model.layers[0].weight_drop) == (0.05, 0.5)


def test_no_token_sees_the_future(make_lstm):
    model = make_lstm()
    x = torch.randn(1, 20, 12, requires_grad=True)
    model.read(x)[0, 7, 0].backward()
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen[:8].all() and not seen[8:].any()


def test_padding_changes_nothing(make_lstm):
    model = make_lstm()
    tokens = torch.randint(300, (3, 20))
    mask = torch.arange(20) < torch.tensor([[20], [13], [1]])
    found = model(tokens, mask=mask)
    for row, length in enumerate((20, 13, 1)):
        torch.testing.assert_close(found[row, :length], model(tokens[row : row + 1, :length])[0], atol=1e-6, rtol=0)


def test_packed_documents_get_the_features_they_get_alone(make_lstm):
    model = make_lstm()
    tokens = torch.randint(300, (2, 30))
    bounds = [[0, 11, 12, 30], [0, 4, 20, 30]]
    documents = torch.stack([torch.bucketize(torch.arange(30), torch.tensor(row[1:]), right=True) for row in bounds])
    packed = model(tokens, documents=documents)
    for row, ends in enumerate(bounds):
        for begin, end in zip(ends, ends[1:], strict=False):
            alone = model(tokens[row : row + 1, begin:end])[0]
            torch.testing.assert_close(packed[row, begin:end], alone, atol=1e-6, rtol=0)


def test_reading_in_parts_equals_reading_at_once(make_lstm):
    model = make_lstm()
    tokens = torch.randint(300, (2, 32))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens.split([9, 1, 1, 20, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-6, rtol=0)
    assert cache.length == 32


def test_a_memory_keeps_the_rows_it_is_told_to(make_lstm):
    model = make_lstm()
    tokens = torch.randint(300, (3, 10))
    cache = model.new_cache()
    model(tokens[:, :6], cache=cache)
    cache.select(torch.tensor([2, 0, 2]))
    chosen = tokens[[2, 0, 2]]
    torch.testing.assert_close(model(chosen[:, 6:], cache=cache), model(chosen)[:, 6:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("settings_of_drawing", [{"temperature": 0}, {"temperature": 1.0, "top_k": 20}])
def test_text_written_with_a_memory_is_the_text_written_without(settings_of_drawing, make_lstm, tokenizer):
    objective = CLM(make_lstm(), tokenizer, tie=True, document_aware=False).eval()
    nn.init.normal_(objective.model.token_embedding.weight)
    prompt = tokenizer.encode(["to be, or"])[0].tolist()
    texts = [generate(objective, prompt, 15, **settings_of_drawing, num_samples=3, cache=cache) for cache in (True, False)]
    assert texts[0] == texts[1]


def test_documents_of_packed_rows_are_kept_apart_by_clm(make_lstm, tokenizer, draw):
    objective = CLM(make_lstm(), tokenizer, tie=True, document_aware=True).eval()
    tokens = np.array([9, 10, tokenizer.eos_id, 11, 12, 13])
    packed = {"tokens": tokens, "documents": np.array([0, 0, 0, 1, 1, 1]), "next": -1}
    batch = objective.collate([packed], draw(1))
    assert "positions" not in batch["inputs"]
    alone = [objective.collate([{"tokens": tokens[part]}], draw(1)) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(objective(batch).loss, sum(objective(part).loss for part in alone), rtol=1e-6, atol=0)


def test_dropped_features_are_the_same_at_each_step_of_a_text():
    torch.manual_seed(0)
    found = locked_dropout(torch.ones(50, 7, 40), 0.3, training=True)
    assert (found == found[:, :1]).all()
    assert len({tuple(row[0].tolist()) for row in found}) == 50
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert found.mean().item() == pytest.approx(1, abs=0.05)


def test_dropped_words_are_dropped_wherever_they_stand():
    torch.manual_seed(0)
    embedding = WordEmbedding(100, 8, dropout=0.4, std=1.0)
    nn.init.ones_(embedding.token.weight)
    tokens = torch.arange(100).repeat(3, 2)
    found = embedding(tokens)
    assert (found == found[..., :1]).all() and (found[:, :100] == found[:1, 100:]).all()
    assert (found[0, :100, 0] == 0).float().mean().item() == pytest.approx(0.4, abs=0.12)
    assert torch.equal(embedding.eval()(tokens), torch.ones(3, 200, 8))


def test_dropped_weights_are_those_between_hidden_states_and_learn_where_they_are_kept():
    torch.manual_seed(0)
    layer = LSTMLayer(6, 10, weight_drop=0.5)
    x = torch.randn(3, 9, 6)
    read, _ = layer(x)
    read.sum().backward()
    kept = layer.weight_hh_l0.grad != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert (layer.weight_ih_l0.grad != 0).all()
    thinned = nn.LSTM(6, 10, batch_first=True)
    thinned.load_state_dict(layer.state_dict())
    thinned.weight_hh_l0.data.mul_(kept * 2)
    torch.testing.assert_close(read, thinned(x)[0], atol=1e-6, rtol=0)
    assert not torch.equal(layer(x)[0], read)
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


@pytest.mark.parametrize("name", NO_DROPOUT)
def test_every_dropout_changes_training_and_leaves_evaluation_alone(name, make_lstm):
    plain, model = make_lstm(), make_lstm(**{name: 0.5})
    tokens = torch.randint(300, (2, 9))
    assert torch.equal(model(tokens), plain(tokens))
    assert not torch.allclose(model.train()(tokens), plain(tokens))


@pytest.mark.parametrize("name", NO_DROPOUT)
def test_a_dropout_of_everything_is_refused_by_name(name, make_lstm):
    with pytest.raises(ValueError, match=f"{name}=1.0 is no probability below 1"):
        make_lstm(**{name: 1.0})


def test_each_layer_is_a_level_of_its_own_that_learns_slower_and_thaws_later(make_lstm):
    objective = Classify(make_lstm(), 2, ["a", "b"], "concat", 0.1, 0.0, 0.0, 0.0, None, tokenizer=FakeTokenizer())
    rates = [row["rate"] for row in Full(layer_decay=1 / 2.6).table(objective)]
    assert rates == pytest.approx([2.6**-4, 2.6**-3, 2.6**-2, 2.6**-1, 1])
    tuning = Gradual(steps=10, steps_per_epoch=2, every="1 epoch", ratio=2.6)
    tuning.apply(objective)
    for passed, free in enumerate((1, 2, 3, 4, 5)):
        tuning.advance(passed / 5)
        learns = [any(p.requires_grad for p in block.parameters()) for block in objective.model.blocks]
        assert learns == [False] * (5 - free) + [True] * (free - 1)


class FakeTokenizer:
    cls_id, sep_id, eos_id, pad_id, between = 2, 3, 5, 0, (3,)


def test_a_fresh_model_is_as_unsure_as_can_be(make_lstm, tokenizer, draw):
    objective = CLM(make_lstm(), tokenizer, tie=True, document_aware=False).eval()
    output = objective(objective.collate([{"tokens": torch.randint(300, (32,)).numpy()}] * 4, draw(4)))
    assert (output.loss / output.count).item() == pytest.approx(np.log(tokenizer.vocab_size), rel=0.01)


def test_a_text_is_learnt_by_heart(make_lstm, tokenizer, draw):
    objective = CLM(make_lstm(dim=48, layers=1), tokenizer, tie=False, document_aware=False).train()
    text = tokenizer.encode(["the slings and arrows of outrageous fortune"])[0]
    batch = objective.collate([{"tokens": text}], draw(1))
    optimizer = torch.optim.Adam(objective.parameters(), 2e-2)
    for _ in range(150):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert generate(objective.eval(), text[:4].tolist(), len(text) - 4, temperature=0)[0] == text[4:].tolist()
