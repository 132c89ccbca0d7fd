"""The bidirectional transformer against BERT of another library."""

import pytest
import torch
from transformers import BertConfig, BertModel

from ptft.models.transformer import Transformer
from ptft.nn.positions import rotate, rotations

BERT = {"positions": "learned", "segments": 2, "norm": "post", "eps": 1e-12}


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def bert_config(settings: dict, vocab_size: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=settings["dim"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        intermediate_size=settings["hidden"],
        max_position_embeddings=settings["max_length"],
    )


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "base", "large"])
def test_bert_sizes_have_the_published_number_of_parameters(size, settings):
    with torch.device("meta"):
        ours = Transformer(vocab_size=30522, **settings(f"bert_{size}"))
        theirs = BertModel(bert_config(settings(f"bert_{size}"), 30522), add_pooling_layer=False)
    assert count(ours) == count(theirs)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [24, 150])
def test_features_equal_those_of_bert_given_its_weights(length, padded, make_transformer, bert_weights):
    ours = make_transformer(**BERT, vocab_size=100, max_length=160)
    torch.manual_seed(1)
    small = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 160}
    theirs = BertModel(bert_config(small, 100), add_pooling_layer=False).eval()
    for parameter in theirs.parameters():  # biases and norms too: fresh ones are zero and one
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(bert_weights(theirs))
    tokens, segments = torch.randint(100, (3, length)), torch.randint(2, (3, length))
    mask = torch.arange(length) < torch.tensor([[length], [length - 7], [5]]) if padded else None
    expected = theirs(tokens, mask, segments).last_hidden_state
    found = ours(tokens, mask=mask, segments=segments)
    real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
def test_padding_does_not_change_the_features_of_a_text(positions, make_transformer):
    model = make_transformer(positions=positions)
    tokens = torch.randint(6, 300, (2, 20))
    mask = torch.arange(20) < torch.tensor([[20], [11]])
    alone = model(tokens[1:, :11])
    torch.testing.assert_close(model(tokens, mask=mask)[1:, :11], alone, atol=1e-5, rtol=0)


def test_every_token_sees_both_sides(make_transformer):
    model = make_transformer()
    x = torch.randn(1, 10, 32, requires_grad=True)
    model.stack(x, causal=False)[0, 4, 0].backward()
    assert (x.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("changes", [{"norm": "post"}, {"activation": "swiglu"}, {"activation": "relu"}, {"bias": False}])
def test_variants_learn_to_tell_two_texts_apart(changes, make_transformer):
    model = make_transformer(**changes).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    tokens, target = torch.randint(6, 300, (2, 12)), torch.tensor([-1.0, 1.0])
    for _ in range(40):
        loss = (model(tokens)[:, :, 0].mean(1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_without_bias_no_part_has_one(make_transformer):
    assert not [name for name, _ in make_transformer(bias=False).named_parameters() if name.endswith("bias")]


def test_a_width_that_heads_cannot_share_is_refused(make_transformer):
    with pytest.raises(ValueError, match="dim=30 cannot be split over heads=4"):
        make_transformer(dim=30)


def test_rotary_positions_refuse_heads_of_odd_size(make_transformer):
    with pytest.raises(ValueError, match="even size"):
        make_transformer(dim=36, heads=4, positions="rotary")


def test_blocks_run_from_the_embeddings_to_the_last_layer(make_transformer):
    model = make_transformer(layers=3)
    assert model.blocks == [model.embedding, *model.stack.layers]
    assert model.token_embedding is model.embedding.token


def test_local_heads_of_a_fresh_model_look_at_the_tokens_beside(make_transformer):
    model = make_transformer(local_heads=2, heads=4)
    attention = model.stack.layers[1].attention
    x = 0.1 * torch.randn(1, 12, model.dim)
    q, k, _ = attention.qkv(x).view(12, 3, 4, -1).permute(1, 2, 0, 3)
    q, k = rotate(torch.stack((q, k)), rotations(torch.arange(12), model.stack.rotary_size))
    looked = (q @ k.transpose(1, 2)).argmax(-1)
    assert looked[0, 1:].tolist() == list(range(11))
    assert looked[1, :-1].tolist() == list(range(1, 12))
    assert looked[2].tolist() != list(range(12)) != looked[3].tolist()


def test_local_heads_need_rotary_positions_and_biases_and_are_left_out_without(make_transformer):
    for settings in ({"positions": "learned"}, {"bias": False}):
        make_transformer(local_heads=None, **settings)
        with pytest.raises(ValueError, match="local_heads=2: needs positions=rotary, bias=true"):
            make_transformer(local_heads=2, **settings)
    with pytest.raises(ValueError, match="at most heads=4"):
        make_transformer(local_heads=5)


def test_with_normalised_queries_and_keys_scores_do_not_follow_their_weights(make_transformer):
    model = make_transformer(qk_norm=True, local_heads=0)
    tokens = torch.randint(300, (2, 20))
    before = model(tokens)
    for layer in model.stack.layers:
        layer.attention.qkv.weight.data[: 2 * model.dim] *= 10
    torch.testing.assert_close(model(tokens), before, atol=1e-4, rtol=0)
