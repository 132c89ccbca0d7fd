"""The causal transformer against GPT-2 of another library."""

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from ptft.models.gpt import GPT

GPT2 = {"positions": "learned", "activation": "gelu_tanh"}
PUBLISHED = {"gpt2": 124_439_808, "gpt2_medium": 354_823_168, "gpt2_large": 774_030_080, "gpt2_xl": 1_557_611_200}


def gpt2_config(settings: dict, vocab_size: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocab_size,
        bos_token_id=0,
        eos_token_id=0,
        n_embd=settings["dim"],
        n_layer=settings["layers"],
        n_head=settings["heads"],
        n_inner=settings["hidden"],
        n_positions=settings["max_length"],
    )


@pytest.mark.parametrize("size", PUBLISHED)
def test_gpt2_sizes_have_the_published_number_of_parameters(size, settings):
    with torch.device("meta"):
        ours = GPT(vocab_size=50257, **settings(size))
        theirs = GPT2Model(gpt2_config(settings(size), 50257))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert counts == [PUBLISHED[size]] * 2


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length", [24, 150])
def test_features_equal_those_of_gpt2_given_its_weights(length, padded, make_gpt, gpt2_weights):
    ours = make_gpt(**GPT2, vocab_size=100, max_length=160)
    torch.manual_seed(1)
    small = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 160}
    theirs = GPT2Model(gpt2_config(small, 100)).eval()
    for parameter in theirs.parameters():  # biases and norms too: fresh ones are zero and one
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(gpt2_weights(theirs))
    tokens = torch.randint(100, (3, length))
    mask = torch.arange(length) < torch.tensor([[length], [length - 7], [5]]) if padded else None
    expected = theirs(tokens, attention_mask=mask).last_hidden_state
    real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(ours(tokens, mask=mask)[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("length", [20, 140])
def test_no_token_sees_the_future(positions, length, make_gpt):
    model = make_gpt(positions=positions, max_length=140)
    x = torch.randn(1, length, 32, requires_grad=True)
    model.stack(x, causal=True)[0, 7, 0].backward()
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen[:8].all() and not seen[8:].any()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_reading_in_parts_through_the_cache_equals_reading_at_once(positions, make_gpt):
    model = make_gpt(positions=positions)
    tokens = torch.randint(300, (2, 32))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens.split([9, 1, 1, 20, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("length", [30, 140])
def test_packed_documents_get_the_features_they_get_alone(positions, length, make_gpt):
    model = make_gpt(positions=positions, max_length=140)
    tokens = torch.randint(300, (1, length))
    ends = [0, 11, 12, length]
    documents = torch.zeros(1, length, dtype=torch.int64)
    where = torch.zeros(1, length, dtype=torch.int64)
    for document, (begin, end) in enumerate(zip(ends, ends[1:], strict=False)):
        documents[:, begin:end], where[:, begin:end] = document, torch.arange(end - begin)
    packed = model(tokens, positions=where, documents=documents)
    for begin, end in zip(ends, ends[1:], strict=False):
        torch.testing.assert_close(packed[:, begin:end], model(tokens[:, begin:end]), atol=1e-5, rtol=0)


def test_what_is_added_to_the_residual_stream_starts_smaller_with_depth(make_gpt):
    model = make_gpt(dim=256, hidden=1024, layers=8, init_std=0.02)
    layer = model.stack.layers[3]
    expected = 0.02 / 16**0.5
    assert layer.attention.out.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert layer.feed_forward.outer.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
