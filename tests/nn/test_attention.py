"""Both attention kernels against the formula, written in float64."""

import dataclasses

import pytest
import torch

from ptft.nn.attention import SelfAttention, attend, normalise, prefers_flash, visibility

HEADS, LENGTH, SIZE = 3, 10, 8
MASK = torch.arange(LENGTH) < torch.tensor([[LENGTH], [6]])
DOCUMENTS = torch.tensor([[0] * 4 + [1] * 6, [3] * 10])


def by_the_formula(q, k, v, allowed):
    scores = (q.double() @ k.double().transpose(-1, -2)) / SIZE**0.5
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v.double()


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("mask", [None, MASK])
def test_both_kernels_hide_what_is_to_be_hidden(mask, documents, causal, flash):
    q, k, v = torch.randn(3, 2, HEADS, LENGTH, SIZE).unbind(0)
    x = torch.zeros(2, LENGTH, HEADS * SIZE)
    visible = dataclasses.replace(visibility(x, HEADS, 0.0, causal, mask, documents), flash=flash)
    allowed = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    if documents is not None:
        allowed = allowed & (documents[:, None, :, None] == documents[:, None, None, :])
    if mask is not None:
        allowed = allowed & mask[:, None, None, :]
    expected = by_the_formula(q, k, v, allowed)
    sees = allowed.any(-1).expand(2, HEADS, LENGTH)
    found = attend(q, k, v, visible, 0.0)
    assert found.isfinite().all()
    torch.testing.assert_close(found[sees].double(), expected[sees], atol=1e-5, rtol=0)


def test_nothing_is_built_where_nothing_is_hidden():
    x = torch.zeros(2, LENGTH, HEADS * SIZE)
    assert visibility(x, HEADS, 0.0, causal=False, mask=None, documents=None).bias is None
    assert visibility(x[:, :1], HEADS, 0.0, causal=True, mask=None, documents=None, past=9).bias is None


def test_a_row_that_sees_nothing_stays_finite_in_half_precision():
    x = torch.zeros(1, 4, 8, dtype=torch.float16)
    visible = visibility(x, 1, 0.0, False, torch.zeros(1, 4, dtype=torch.bool), None)
    q = torch.full((1, 1, 4, 8), 60.0, dtype=torch.float16)
    assert attend(q, -q, q, dataclasses.replace(visible, flash=False), 0.0).isfinite().all()


def test_short_texts_and_dropout_on_a_cpu_take_the_explicit_way():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert not prefers_flash(cpu, torch.float32, 64, 0.0)
    assert prefers_flash(cpu, torch.float32, 512, 0.0)
    assert not prefers_flash(cpu, torch.float32, 512, 0.1)
    assert prefers_flash(cuda, torch.float32, 64, 0.1)


def test_dropout_on_the_weights_keeps_their_mean():
    x = torch.zeros(1, 400, 4)
    q, k, v = torch.zeros(1, 1, 400, 4), torch.zeros(1, 1, 400, 4), torch.ones(1, 1, 400, 4)
    torch.manual_seed(0)
    mixed = attend(q, k, v, visibility(x, 1, 0.3, False, None, None), 0.3)
    assert mixed.mean().item() == pytest.approx(1.0, abs=0.01)
    assert mixed.std() > 0.01


def test_normalised_queries_and_keys_have_a_mean_square_of_one_whatever_their_scale():
    x = torch.randn(3, 2, 5, SIZE)
    found = normalise(1000 * x)
    torch.testing.assert_close(found.square().mean(-1), torch.ones(3, 2, 5))
    torch.testing.assert_close(found, normalise(x / 5), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found, x * SIZE**0.5 / x.norm(dim=-1, keepdim=True))
    assert (normalise(torch.zeros(1, SIZE)) == 0).all()
    assert normalise(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(normalise(x.bfloat16() / 50).float(), normalise(x / 50), atol=0.03, rtol=0.03)


def test_with_normalised_queries_and_keys_shares_are_those_of_cosines():
    torch.manual_seed(0)
    attention = SelfAttention(HEADS * SIZE, HEADS, 0.0, True, qk_norm=True)
    x = 30 * torch.randn(2, LENGTH, HEADS * SIZE)
    q, k, v = (part.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1))
    cosines = torch.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    shares = (cosines * SIZE**0.5).softmax(-1)
    torch.testing.assert_close(attention.shares(x), shares, atol=1e-5, rtol=0)
    visible = visibility(x, HEADS, 0.0, False, None, None)
    expected = attention.out((shares @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, visible), expected, atol=1e-4, rtol=1e-4)
