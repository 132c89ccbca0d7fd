"""Tokens by their spelling: the table of bytes, and the network over it step by step."""

import pytest
import torch
import torch.nn.functional as F

from ptft.nn.characters import BEGIN, END, NOTHING, SPECIAL, Characters, Highway, spellings

SHAPE = {"dim": 6, "size": 4, "filters": [[1, 3], [2, 5]], "highways": 2, "longest": 8}


@pytest.fixture
def characters(tokenizer):
    torch.manual_seed(0)
    return Characters(tokenizer, **SHAPE)


def test_a_token_is_its_bytes_between_two_ends(tokenizer):
    table = spellings(tokenizer, 8)
    (token,) = tokenizer.encode([" be"])[0]
    assert table[token].tolist() == [BEGIN, *(1 + byte for byte in b" be"), END, NOTHING, NOTHING, NOTHING]
    long = max(range(tokenizer.vocab_size), key=lambda index: len(tokenizer.token_bytes[index]))
    cut = tokenizer.token_bytes[long][:3]
    assert spellings(tokenizer, 5)[long].tolist() == [BEGIN, *(1 + byte for byte in cut), END]


def test_special_tokens_have_codes_of_their_own(tokenizer):
    rows = spellings(tokenizer, 8)[list(tokenizer.special_ids)]
    assert rows[:, 1].tolist() == list(range(SPECIAL, SPECIAL + 6))
    assert (rows[:, 2] == END).all()


def test_two_tokens_of_one_vocabulary_differ(tokenizer):
    table = spellings(tokenizer, 16)
    assert len(table.unique(dim=0)) == tokenizer.vocab_size


def test_the_network_is_convolution_maximum_activation_highway_projection(characters, tokenizer):
    tokens = torch.tensor([[7, 50, 7], [300, 0, 5]])
    spelt = characters.character.weight[spellings(tokenizer, 8)[tokens]]  # [2, 3, 8, size]
    parts = []
    for convolution in characters.filters:
        width = convolution.kernel_size[0]
        windows = torch.stack([spelt[:, :, start : start + width] for start in range(8 - width + 1)], dim=2)
        found = torch.einsum("btpws,nsw->btpn", windows, convolution.weight) + convolution.bias
        parts.append(F.relu(found.amax(2)))
    x = torch.cat(parts, dim=-1)
    for highway in characters.highways:
        gate = torch.sigmoid(highway.gate(x))
        x = gate * F.relu(highway.transform(x)) + (1 - gate) * x
    torch.testing.assert_close(characters(tokens), characters.projection(x), atol=1e-5, rtol=0)


def test_highways_start_out_handing_on_what_comes_in():
    torch.manual_seed(0)
    highway, x = Highway(16), torch.randn(100, 16)
    assert highway.gate.bias.tolist() == [-2.0] * 16
    assert F.cosine_similarity(highway(x), x).mean() > 0.95


def test_the_table_follows_from_the_tokenizer_and_is_not_saved(characters):
    assert "table" not in characters.state_dict()


def test_filters_wider_than_a_token_are_refused(tokenizer):
    with pytest.raises(ValueError, match="max_characters=2: expected at least 3"):
        Characters(tokenizer, **SHAPE | {"longest": 2})
