"""The encoder-decoder transformer against torch's own, given the same weights."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from ptft.models.transformer_seq2seq import TransformerSeq2Seq
from ptft.models.transformer_seq2seq_encoder import TransformerSeq2SeqEncoder
from ptft.nn.positions import rotate, rotations

SHAPE = {"dim": 32, "layers": 2, "heads": 4, "hidden": 48, "max_length": 16, "dropout": 0.0, "init_std": 0.2}
SELF = {
    "attention.qkv.{}": "self_attn.in_proj_{}",
    "attention.out.{}": "self_attn.out_proj.{}",
    "feed_forward.inner.{}": "linear1.{}",
    "feed_forward.outer.{}": "linear2.{}",
    "attention_norm.{}": "norm1.{}",
}
ENCODER = {**SELF, "feed_forward_norm.{}": "norm2.{}"}
DECODER = {
    **SELF,
    "cross.out.{}": "multihead_attn.out_proj.{}",
    "cross_norm.{}": "norm2.{}",
    "feed_forward_norm.{}": "norm3.{}",
}


def torchs(model: TransformerSeq2Seq, norm: str) -> nn.Transformer:
    """torch.nn.Transformer with the weights of ours; its last norms only where ours has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that norm_first has no fast path
        theirs = nn.Transformer(32, 4, 2, 2, 48, 0.0, batch_first=True, norm_first=norm == "pre").eval()
    state = {}
    for half, names in (("encoder", ENCODER), ("decoder", DECODER)):
        for layer in range(2):
            own = getattr(model, half).layers[layer].state_dict()
            for part in ("weight", "bias"):
                renamed = {there.format(part): own[here.format(part)] for here, there in names.items()}
                if half == "decoder":
                    both = [own[f"cross.{name}.{part}"] for name in ("query", "key_value")]
                    renamed[f"multihead_attn.in_proj_{part}"] = torch.cat(both)
                state |= {f"{half}.layers.{layer}.{name}": value for name, value in renamed.items()}
        stack = getattr(theirs, half)
        stack.norm = None if norm == "post" else stack.norm
        if norm == "pre":
            state |= {f"{half}.norm.{name}": value for name, value in getattr(model, half).norm.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_features_and_gradients_equal_those_of_torchs_transformer_given_its_weights(norm, positions, settings):
    torch.manual_seed(0)
    node = settings("transformer_seq2seq") | SHAPE | {"norm": norm, "positions": positions}
    model = TransformerSeq2Seq(vocab_size=60, **node).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    theirs = torchs(model, norm)
    tokens, target = torch.randint(60, (3, 9)), torch.randint(60, (3, 7))
    mask = torch.arange(9) < torch.tensor([[9], [5], [2]])
    embedded = [model.embedding(x, None, None) for x in (tokens, target)]
    future = nn.Transformer.generate_square_subsequent_mask(7)
    padding = torch.zeros(3, 9).masked_fill(~mask, -torch.inf)
    known = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
    expected = theirs(*embedded, tgt_mask=future, **known)
    found = model(tokens, mask, target)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weight = model.token_embedding.weight
    scale = torch.randn_like(found)
    ours, other = (torch.autograd.grad((x * scale).sum(), weight, retain_graph=True)[0] for x in (found, expected))
    torch.testing.assert_close(ours, other, atol=1e-4, rtol=1e-4)


def test_the_encoder_as_a_model_gives_the_encoders_features(settings):
    torch.manual_seed(0)
    model = TransformerSeq2Seq(vocab_size=60, **settings("transformer_seq2seq") | SHAPE).eval()
    alone = TransformerSeq2SeqEncoder(vocab_size=60, **settings("transformer_seq2seq_encoder") | SHAPE).eval()
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("decoder.")})
    tokens, mask = torch.randint(60, (2, 9)), torch.arange(9) < torch.tensor([[9], [5]])
    assert torch.equal(alone(tokens, mask), model(tokens, mask))


KIT = {"activation": "relu_squared", "qk_norm": True, "logit_cap": 5.0}


def test_with_all_options_writing_token_by_token_equals_writing_at_once(settings):
    torch.manual_seed(0)
    model = TransformerSeq2Seq(vocab_size=60, **settings("transformer_seq2seq") | SHAPE | KIT).eval()
    tokens, target = torch.randint(60, (2, 9)), torch.randint(60, (2, 7))
    memory = model.begin(tokens)
    found = torch.cat([model.write(token, memory) for token in target.split(1, dim=1)], dim=1)
    torch.testing.assert_close(found, model(tokens, target=target), atol=1e-4, rtol=0)


def test_a_decoder_that_starts_at_zero_passes_its_embedding_through(settings):
    model = TransformerSeq2Seq(vocab_size=60, **settings("transformer_seq2seq") | SHAPE | {"zero_init": True}).eval()
    tokens, target = torch.randint(60, (2, 9)), torch.randint(60, (2, 7))
    expected = model.decoder.norm(model.embedding(target, None, None))
    torch.testing.assert_close(model(tokens, target=target), expected)


def test_fresh_encoders_look_to_both_sides_and_fresh_decoders_back(settings):
    model = TransformerSeq2Seq(vocab_size=60, **settings("transformer_seq2seq") | SHAPE | {"init_std": 0.02})
    for stack, offsets in ((model.encoder, (-1, 1)), (model.decoder, (-1, -2))):
        biases = stack.layers[1].attention.qkv.bias.view(3, 4, 1, 8).expand(-1, -1, 16, -1)
        queries, keys = rotate(biases[:2], rotations(torch.arange(16), 8))
        looked = (queries @ keys.mT).argmax(-1)
        for head, offset in enumerate(offsets):
            assert looked[head, 3:13].tolist() == [place + offset for place in range(3, 13)]
        assert not biases[:, 2:].any()
    with pytest.raises(ValueError, match="local_heads=2: needs positions=rotary, bias=true"):
        changed = {"positions": "sinusoidal", "local_heads": 2}
        TransformerSeq2Seq(vocab_size=60, **settings("transformer_seq2seq") | SHAPE | changed)


@pytest.mark.parametrize(("positions", "where"), [("rotary", False), ("sinusoidal_rotary", True)])
def test_sources_know_where_tokens_stand_by_sinusoids_and_how_far_apart_by_rotations(positions, where, settings):
    torch.manual_seed(0)
    node = settings("transformer_seq2seq") | SHAPE | {"positions": positions}
    model = TransformerSeq2Seq(vocab_size=60, **node).eval()
    tokens = torch.randint(60, (1, 5))
    late = torch.arange(3, 8)
    found = model.encoder(model.embedding(tokens, late, None), causal=False, positions=late)
    assert torch.allclose(found, model.encode(tokens), atol=1e-5) != where
    mixed = model.encoder(model.embedding(tokens, None, None), causal=False, positions=2 * torch.arange(5))
    assert not torch.allclose(mixed, model.encode(tokens), atol=1e-2)
