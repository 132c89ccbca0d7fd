"""What holds of every model that reads a source and writes a target, recurrent or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ptft.models.seq2seq import Seq2Seq
from ptft.models.seq2seq_encoder import Seq2SeqEncoder
from ptft.models.transformer_seq2seq import TransformerSeq2Seq

WORDS = 50
TRANSFORMERS = [
    {"positions": "sinusoidal", "norm": "post"},
    {"positions": "learned", "norm": "pre"},
    {"positions": "rotary", "norm": "pre", "activation": "swiglu"},
]
RECURRENT = [{"input_feeding": True}, {"input_feeding": False, "dim_embedding": 8}]
KINDS = [*((TransformerSeq2Seq, changes) for changes in TRANSFORMERS), *((Seq2Seq, changes) for changes in RECURRENT)]


@pytest.fixture
def make(settings):
    """A small model in eval mode, with settings changed by name."""

    def build(kind, changes: dict):
        torch.manual_seed(0)
        name = "seq2seq" if kind is Seq2Seq else "transformer_seq2seq"
        small = {"dim": 16, "layers": 2, "max_length": 12, "dropout": 0.0, "init_std": 0.5}
        small |= {} if kind is Seq2Seq else {"heads": 4, "hidden": 24}
        return kind(vocab_size=WORDS, **settings(name) | small | changes).eval()

    return build


@pytest.fixture(params=KINDS, ids=lambda case: "-".join(map(str, [case[0].__name__, *case[1].values()])))
def model(make, request):
    return make(*request.param)


@pytest.fixture
def pairs():
    """Two sources of 7 and 4 tokens, and targets of 6."""
    generator = torch.Generator().manual_seed(1)
    tokens, target = (torch.randint(6, WORDS, (2, length), generator=generator) for length in (7, 6))
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    return tokens, mask, target


def test_no_feature_of_the_target_sees_its_future(model, pairs):
    tokens, mask, target = pairs
    taken = []
    model.token_embedding.register_forward_hook(lambda module, inputs, output: taken.append(output) or output.retain_grad())
    features = model(tokens, mask, target) * torch.randn(16)  # a plain sum after a norm would have no gradient
    for place in range(target.shape[1]):
        for embedded in taken:
            embedded.grad = None
        features[:, place].sum().backward(retain_graph=True)
        source, written = (embedded.grad.abs().sum(-1) for embedded in taken)
        assert (written[:, place + 1 :] == 0).all()
        assert (written[:, : place + 1] > 0).all()
        assert ((source > 0) == mask).all()


def test_neither_padding_nor_the_other_texts_of_the_batch_change_a_feature(model, pairs):
    tokens, mask, target = pairs
    together = model(tokens, mask, target)
    torch.testing.assert_close(model(tokens[1:, :4], None, target[1:]), together[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(model(tokens[:1], None, target[:1, :3]), together[:1, :3], atol=1e-5, rtol=0)
    tokens[~mask] = 49
    torch.testing.assert_close(model(tokens, mask, target), together, atol=1e-6, rtol=0)


def test_writing_token_by_token_gives_the_features_of_all_at_once(model, pairs):
    tokens, mask, target = pairs
    memory = model.begin(tokens, mask)
    steps = [model.write(part, memory) for part in target.split([1, 2, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(tokens, mask, target), atol=1e-5, rtol=0)


def test_a_memory_keeps_the_rows_that_are_selected(model, pairs):
    tokens, mask, target = pairs
    memory = model.begin(tokens, mask)
    model.write(target[:, :3], memory)
    memory.select(torch.tensor([1, 0, 1]))
    expected = model(tokens, mask, target)[[1, 0, 1], 3:4]
    torch.testing.assert_close(model.write(target[[1, 0, 1], 3:4], memory), expected, atol=1e-5, rtol=0)


def test_without_a_target_the_encoder_alone_answers(model, pairs):
    tokens, mask, _ = pairs
    assert model(tokens, mask).shape == (2, 7, 16)
    assert {"text", "seq2seq"} == model.traits
    names = {name for block in model.blocks[1:3] for name, _ in block.named_parameters()}
    assert names and all(f"encoder.layers.0.{name}" in model.state_dict() for name in names)


def test_blocks_hold_every_layer_from_the_embedding_to_the_end_of_the_decoder(model):
    blocks = model.blocks
    assert len(blocks) == 5
    assert blocks[0] is model.embedding and blocks[1] is model.encoder.layers[0] and blocks[-1] is model.decoder.layers[-1]
    assert model.state_dict()["embedding.token.weight"] is not None


def test_attention_rows_of_the_recurrent_decoder_sum_to_one_and_are_zero_on_padding(make, pairs):
    tokens, mask, target = pairs
    model = make(Seq2Seq, {})
    source = model(tokens, mask)
    weights = model.decoder.attention.weights(torch.randn(2, 6, 16), source, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6))
    assert (weights[1, :, 4:] == 0).all() and (weights[1, :, :4] > 0).all()


def test_the_recurrent_encoder_is_torchs_own_two_layer_lstm(make, pairs):
    tokens, _, _ = pairs
    model = make(Seq2Seq, {})
    theirs = nn.LSTM(16, 8, num_layers=2, bidirectional=True, batch_first=True)
    names = {name: name.replace("_l1", "_l0") for name in theirs.state_dict()}
    layers = [layer.state_dict() for layer in model.encoder.layers]
    theirs.load_state_dict({name: layers["_l1" in name][own] for name, own in names.items()})
    expected, _ = theirs(model.token_embedding(tokens))
    torch.testing.assert_close(model(tokens), expected, atol=1e-6, rtol=0)


def test_the_decoder_follows_the_equations_of_cove_step_by_step(make, pairs):
    tokens, mask, target = pairs
    model = make(Seq2Seq, {"layers": 1})
    source, ((hidden, cell),) = model.encoder(model.token_embedding(tokens), mask)
    lstm, attention = model.decoder.layers[0], model.decoder.attention
    cells = nn.LSTMCell(32, 16)
    cells.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    state, fed, expected = (hidden[0], cell[0]), torch.zeros(2, 16), []
    for word in model.token_embedding(target).unbind(1):
        state = cells(torch.cat((word, fed), -1), state)
        scores = torch.einsum("bsd,bd->bs", source, attention.query(state[0])).masked_fill(~mask, -torch.inf)
        context = torch.einsum("bs,bsd->bd", scores.softmax(-1), source)
        fed = torch.tanh(attention.mix(torch.cat((context, state[0]), -1)))
        expected.append(fed)
    torch.testing.assert_close(model(tokens, mask, target), torch.stack(expected, 1), atol=1e-5, rtol=0)


def test_the_encoder_as_a_model_gives_its_features_behind_the_embedding(make, settings, pairs):
    tokens, mask, _ = pairs
    model = make(Seq2Seq, {"dim_embedding": 8})
    shape = {"dim": 16, "layers": 2, "dim_embedding": 8, "max_length": 12, "dropout": 0.0, "init_std": 0.1}
    both, alone = (Seq2SeqEncoder(WORDS, **shape, concat_embedding=choice).eval() for choice in (True, False))
    shared = {name: value for name, value in model.state_dict().items() if not name.startswith("decoder.")}
    both.load_state_dict(shared)
    alone.load_state_dict(shared)
    features = both(tokens, mask)
    assert (both.dim, alone.dim) == (24, 16) and features.shape == (2, 7, 24)
    assert torch.equal(features[..., :8], model.token_embedding(tokens))
    assert torch.equal(features[..., 8:], model(tokens, mask)) and torch.equal(alone(tokens, mask), model(tokens, mask))


def test_an_odd_width_is_refused_by_name(make):
    with pytest.raises(ValueError, match="dim=15"):
        make(Seq2Seq, {"dim": 15})
