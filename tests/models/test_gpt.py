"""The causal transformer against GPT-2 of another library."""

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from ptft.models.gpt import GPT

GPT2 = {"positions": "learned", "activation": "gelu_tanh"}
KIT = {"activation": "relu_squared", "qk_norm": True, "zero_init": True, "logit_cap": 5.0}
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


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
@pytest.mark.parametrize("length", [20, 140])
def test_no_token_sees_the_future(positions, length, make_gpt):
    model = make_gpt(positions=positions, max_length=140)
    x = torch.randn(1, length, 32, requires_grad=True)
    model.stack(x, causal=True)[0, 7, 0].backward()
    seen = x.grad.abs().sum(-1)[0] > 0
    assert seen[:8].all() and not seen[8:].any()


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
def test_reading_in_parts_through_the_cache_equals_reading_at_once(positions, make_gpt):
    model = make_gpt(positions=positions)
    tokens = torch.randint(300, (2, 32))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens.split([9, 1, 1, 20, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
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


def test_squared_relu_is_the_square_of_relu(make_gpt):
    layer = make_gpt(activation="relu_squared").stack.layers[0].feed_forward
    x = torch.randn(3, 32)
    torch.testing.assert_close(layer(x), layer.outer(layer.inner(x).clamp(min=0) ** 2))


def test_what_starts_at_zero_passes_the_embedding_through_and_learns_from_the_first_step(make_gpt):
    model = make_gpt(zero_init=True)
    tokens = torch.randint(300, (2, 32))
    features = model(tokens)
    torch.testing.assert_close(features, model.stack.norm(model.embedding(tokens, None, None)))
    features.square().sum().backward()
    for layer in model.stack.layers:
        assert all(linear.weight.grad.abs().sum() > 0 for linear in layer.outward)


@pytest.mark.parametrize("change", [*({key: value} for key, value in KIT.items()), KIT], ids=str)
def test_no_option_adds_a_weight_and_the_defaults_are_those_of_before(change, make_gpt, settings):
    before = {key: value for key, value in settings("gpt").items() if key not in ("qk_norm", "zero_init", "logit_cap")}
    torch.manual_seed(0)
    plain = GPT(vocab_size=300, **before | {"dim": 32, "heads": 4})
    torch.manual_seed(0)
    now = GPT(vocab_size=300, **settings("gpt") | {"dim": 32, "heads": 4})
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in plain.state_dict().items())
    changed = GPT(vocab_size=300, **settings("gpt") | {"dim": 32, "heads": 4} | change)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (plain, changed)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
def test_with_all_options_reading_through_the_cache_equals_reading_at_once(positions, make_gpt):
    model = make_gpt(positions=positions, **KIT | {"zero_init": False})
    tokens = torch.randint(300, (2, 32))
    cache = model.new_cache()
    parts = [model(part, cache=cache) for part in tokens.split([9, 1, 1, 20, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=0)


def test_with_all_options_bf16_is_near_fp32_and_has_gradients(make_gpt):
    model = make_gpt(**KIT | {"zero_init": False})
    tokens = torch.randint(300, (2, 32))
    expected = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(tokens)
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)
    found.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("cap", [0, -1.0])
def test_a_cap_that_leaves_no_logits_is_refused(cap, make_gpt):
    with pytest.raises(ValueError, match=f"logit_cap={cap}: expected a number above 0"):
        make_gpt(logit_cap=cap)
