"""XLNet against another library's, and what its two streams can and cannot see."""

import pytest
import torch
from transformers import XLNetConfig, XLNetModel

from ptft.models.xlnet import XLNet
from ptft.nn.positions import rotate, rotations, toward
from ptft.nn.relative import distances, shifted

SMALL = {"dim": 32, "layers": 2, "heads": 4, "hidden": 64, "max_length": 64, "dropout": 0.0}
PARTS = {
    "attention_norm": "rel_attn.layer_norm",
    "feed_forward.inner": "ff.layer_1",
    "feed_forward.outer": "ff.layer_2",
    "feed_forward_norm": "ff.layer_norm",
}


@pytest.fixture
def make_xlnet(settings):
    """A small model in eval mode, with settings changed by name."""

    def make(**changes) -> XLNet:
        torch.manual_seed(0)
        return XLNet(**settings("xlnet") | {"vocab_size": 100, **SMALL, **changes}).eval()

    return make


@pytest.fixture
def theirs():
    """Another library's model with weights that are nowhere zero or one."""

    def make(**changes) -> XLNetModel:
        small = {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "ff_activation": "gelu"}
        torch.manual_seed(1)
        model = XLNetModel(XLNetConfig(**small, **changes)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model

    return make


def converted(model: XLNetModel) -> dict:
    """Another library's weights under the names of ours; its linear maps are stored transposed and cut into heads."""
    state = model.state_dict()
    ours = {"embedding.token.weight": state["word_embedding.weight"], "embedding.blank": state["mask_emb"].flatten()}
    for layer in range(model.config.n_layer):
        attention = f"layer.{layer}.rel_attn"
        for name, part in {"query": "q", "key": "k", "value": "v", "distance": "r"}.items():
            ours[f"layers.{layer}.attention.{name}.weight"] = state[f"{attention}.{part}"].flatten(1).T
        ours[f"layers.{layer}.attention.out.weight"] = state[f"{attention}.o"].flatten(1)
        for name, part in {"content": "r_w_bias", "distance": "r_r_bias", "segment": "r_s_bias"}.items():
            ours[f"layers.{layer}.attention.{name}_bias"] = state[f"{attention}.{part}"].unsqueeze(1)
        ours[f"layers.{layer}.attention.segment"] = state[f"{attention}.seg_embed"].transpose(0, 1)
        for name, part in PARTS.items():
            for kind in ("weight", "bias"):
                ours[f"layers.{layer}.{name}.{kind}"] = state[f"layer.{layer}.{part}.{kind}"]
    return ours


@pytest.fixture
def pair(make_xlnet, theirs):
    """Our model and another library's, with the same weights."""

    def make(**changes):
        other = theirs(**changes)
        ours = make_xlnet(segments=2)
        ours.load_state_dict(converted(other))
        return ours, other

    return make


def by_distance(model: XLNet, layer: int, length: int) -> torch.Tensor:
    """What each head of a layer gives the tokens for their places alone: [heads, length, length]."""
    attention = model.layers[layer].attention
    key = attention.distance(distances(0, length, model.dim, model.embedding.blank)).unflatten(-1, (attention.heads, -1))
    scores = torch.einsum("hod,shd->hos", attention.distance_bias, key).expand(-1, length, -1)
    return shifted(scores.unsqueeze(0))[0]


@pytest.mark.parametrize("dim", [32, 40])
def test_local_heads_of_a_fresh_model_look_at_the_tokens_beside(dim, make_xlnet):
    looked = by_distance(make_xlnet(dim=dim, local_heads=None), 1, 12)
    assert looked[0].argmax(-1)[1:].tolist() == list(range(11))
    assert looked[1].argmax(-1)[:-1].tolist() == list(range(1, 12))
    assert looked[2:].abs().max() < 0.1 * looked[:2].max()


def test_a_local_head_scores_a_place_as_a_rotary_one_does(make_xlnet):
    looked = by_distance(make_xlnet(local_heads=3), 0, 12)[2]
    query, key = rotate(torch.stack([part.expand(12, -1) for part in toward(-2, 8)]), rotations(torch.arange(12), 8))
    torch.testing.assert_close(looked, query @ key.T, atol=1e-4, rtol=1e-5)


def test_local_heads_want_an_even_size_and_as_many_heads(make_xlnet):
    make_xlnet(dim=36, local_heads=None)
    with pytest.raises(ValueError, match="local_heads=1: needs an even dim / heads"):
        make_xlnet(dim=36, local_heads=1)
    with pytest.raises(ValueError, match="at most heads=4"):
        make_xlnet(local_heads=5)


def random_order(tokens: torch.Tensor, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An order in which the tokens at `places` come last, one after the other."""
    places = torch.stack([torch.randperm(tokens.shape[1])[:targets] for _ in tokens])
    order = torch.full_like(tokens, -1)
    return order.scatter(1, places, torch.arange(targets).expand(len(tokens), -1)), places


def forbidden(order: torch.Tensor) -> torch.Tensor:
    """The order in the other library's words: 1 where a token may not look, to itself neither, unless it is no target."""
    open_to_itself = torch.where(order < 0, order + 1, order)
    return (open_to_itself[:, :, None] <= order[:, None, :]).float()


@pytest.mark.parametrize("case", ["plain", "padded", "segments"])
def test_features_equal_those_of_another_library_given_its_weights(case, pair):
    ours, other = pair()
    tokens = torch.randint(100, (3, 24))
    mask = torch.arange(24) < torch.tensor([[24], [20], [5]]) if case != "plain" else None
    segments = (torch.arange(24) >= torch.tensor([[24], [9], [2]])).long() if case == "segments" else None
    expected = other(tokens, attention_mask=mask if mask is None else mask.float(), token_type_ids=segments)
    real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    found = ours(tokens, mask=mask, segments=segments)
    torch.testing.assert_close(found[real], expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("remembers", [False, True])
def test_the_query_stream_equals_that_of_another_library(remembers, pair):
    ours, other = pair()
    tokens, before = torch.randint(100, (3, 20)), torch.randint(100, (3, 12))
    order, places = random_order(tokens, 5)
    mapping = torch.nn.functional.one_hot(places, 20).float()
    memory = theirs_memory = None
    if remembers:
        flat = torch.zeros_like(before)
        _, _, read = ours.two_streams(before, flat, flat[:, :1])
        memory = read, torch.ones_like(before, dtype=torch.bool)
        theirs_memory = other(before, use_mems=True).mems
        torch.testing.assert_close(read.permute(1, 2, 0, 3), torch.stack(theirs_memory), atol=1e-5, rtol=0)
    expected = other(tokens, perm_mask=forbidden(order), target_mapping=mapping, mems=theirs_memory).last_hidden_state
    found, _, _ = ours.two_streams(tokens, order, places, memory=memory)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_identity_order_gives_a_plain_causal_model(pair):
    """The content stream is another library's XLNet with its causal mask; the query stream knows no more than it."""
    ours, other = pair(attn_type="uni", bi_data=False)
    tokens = torch.randint(100, (2, 16))
    order = places = torch.arange(16).expand(2, -1)
    query, content, _ = ours.two_streams(tokens, order, places)
    torch.testing.assert_close(content, other(tokens).last_hidden_state, atol=1e-5, rtol=1e-5)
    for length in range(1, 16):  # what a model that has only read the beginning knows of the next token
        start = tokens[:, : length + 1].clone()
        start[:, length] = 0
        alone, _, _ = ours.two_streams(start, order[:, : length + 1], places[:, length : length + 1])
        torch.testing.assert_close(query[:, length : length + 1], alone, atol=1e-5, rtol=1e-5)


def test_no_stream_sees_what_comes_later_in_the_order_and_no_query_its_own_token(make_xlnet):
    model = make_xlnet()
    tokens = torch.randint(100, (1, 12))
    order = torch.randperm(12).unsqueeze(0)
    order[0, order[0] > 8] = -1  # some come first, together
    places = torch.arange(12).unsqueeze(0)
    embedded = model.embedding.token(tokens).detach().requires_grad_()
    model.embedding.token.forward = lambda _: embedded
    streams = model.two_streams(tokens, order, places)[:2]
    for stream, sees in zip(streams, (torch.lt, torch.le), strict=True):
        for place in range(12):
            (gradient,) = torch.autograd.grad(stream[0, place, 0], embedded, retain_graph=True, materialize_grads=True)
            seen = gradient[0].abs().sum(-1) > 0
            assert torch.equal(seen, sees(order[0], order[0, place]))


def test_the_first_of_an_order_knows_only_where_it_stands(make_xlnet):
    model = make_xlnet()
    order = torch.arange(8).unsqueeze(0)
    found = [model.two_streams(torch.randint(100, (1, 8)), order, order[:, :1])[0] for _ in range(2)]
    assert torch.equal(*found)


def test_memory_stands_for_the_text_before(make_xlnet):
    model = make_xlnet()
    tokens = torch.randint(100, (2, 30))
    order = torch.arange(30).expand(2, -1)
    whole, _, _ = model.two_streams(tokens, order, order)
    _, _, read = model.two_streams(tokens[:, :18], order[:, :18], order[:, :18])
    part = order[:, :12]
    all_of_it = torch.ones(2, 18, dtype=torch.bool)
    found, _, _ = model.two_streams(tokens[:, 18:], part, part, memory=(read, all_of_it))
    torch.testing.assert_close(found, whole[:, 18:], atol=1e-5, rtol=1e-5)
    none, _, _ = model.two_streams(tokens[:, 18:], part, part, memory=(read, ~all_of_it))
    torch.testing.assert_close(none, model.two_streams(tokens[:, 18:], part, part)[0], atol=1e-6, rtol=0)
    assert (none - found).abs().max() > 1e-3


def test_padding_changes_no_real_token(make_xlnet):
    model = make_xlnet()
    tokens = torch.randint(100, (2, 20))
    mask = torch.arange(20) < torch.tensor([[20], [13]])
    torch.testing.assert_close(model(tokens, mask=mask)[1, :13], model(tokens[1:, :13])[0], atol=1e-5, rtol=0)


def test_only_distances_count(make_xlnet):
    """A text that is read behind others is what it is alone."""
    model = make_xlnet()
    tokens = torch.randint(100, (1, 20))
    mask = torch.arange(20).unsqueeze(0) >= 8
    torch.testing.assert_close(model(tokens, mask=mask)[:, 8:], model(tokens[:, 8:]), atol=1e-5, rtol=0)


def test_base_has_the_published_number_of_parameters(settings):
    with torch.device("meta"):
        ours = XLNet(vocab_size=32000, **settings("xlnet_base"))
        sizes = {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}
        other = XLNetModel(XLNetConfig(vocab_size=32000, **sizes))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, other)]
    assert counts == [116_718_336] * 2


@pytest.mark.parametrize("wrong", [{"dim": 31}, {"segments": 1}])
def test_sizes_that_cannot_be_are_refused(wrong, make_xlnet):
    with pytest.raises(ValueError, match="=".join(map(str, *wrong.items()))):
        make_xlnet(**wrong)
