"""The vision transformer against one of another library."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import VisionTransformer

from ptft.models.vit import ViT
from ptft.nn.patches import pick, resize_positions
from ptft.state import load_model

SMALL = {"patch": 4, "dim": 24, "layers": 2, "heads": 3, "hidden": 48}
PARTS = {
    "attention.qkv.weight": "self_attention.in_proj_weight",
    "attention.qkv.bias": "self_attention.in_proj_bias",
    "attention.out": "self_attention.out_proj",
    "attention_norm": "ln_1",
    "feed_forward.inner": "mlp.0",
    "feed_forward.outer": "mlp.3",
    "feed_forward_norm": "ln_2",
}


@pytest.fixture
def make(settings):
    """A small model in eval mode, with settings changed by name."""

    def build(shape=(3, 16, 16), **changes):
        torch.manual_seed(0)
        return ViT(list(shape), **settings("vit") | SMALL | changes).eval()

    return build


def theirs_as_ours(theirs) -> dict:
    state, ours = theirs.state_dict(), {}
    ours["embedding.project.weight"] = state["conv_proj.weight"].flatten(1)
    ours["embedding.project.bias"] = state["conv_proj.bias"]
    ours["embedding.cls"] = state["class_token"].flatten()
    ours["embedding.position"] = state["encoder.pos_embedding"][0]
    for layer in range(len(theirs.encoder.layers)):
        for part, name in PARTS.items():
            for kind in ("",) if "qkv" in part else (".weight", ".bias"):
                ours[f"stack.layers.{layer}.{part}{kind}"] = state[f"encoder.layers.encoder_layer_{layer}.{name}{kind}"]
    return ours | {f"stack.norm.{kind}": state[f"encoder.ln.{kind}"] for kind in ("weight", "bias")}


# without the head: DeiT's 5,717,416, 22,050,664 and 86,567,656 (2012.12877, table 1), ViT-L's 304,326,632
@pytest.mark.parametrize(
    ("name", "count"),
    [("tiny", 5_524_416), ("small", 21_665_664), ("base", 85_798_656), ("large", 303_301_632)],
)
def test_sizes_have_the_published_number_of_parameters(name, count, settings):
    with torch.device("meta"):
        model = ViT([3, 224, 224], **settings(f"vit_{name}"))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_features_equal_those_of_torchvision_given_its_weights(make):
    torch.manual_seed(1)
    theirs = VisionTransformer(16, 4, 2, 3, 24, 48).eval()
    theirs.heads = torch.nn.Identity()
    for parameter in theirs.parameters():  # biases and norms too: fresh ones are zero and one
        torch.nn.init.normal_(parameter, std=0.2)
    ours = make(positions="learned")
    ours.load_state_dict(theirs_as_ours(theirs) | {"embedding.grid": torch.tensor([4, 4])})
    values = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(ours(values)[:, 0], theirs(values), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sincos"])
@pytest.mark.parametrize(("shape", "tokens"), [((1, 28, 28), 49), ((3, 8, 20), 10), ((2, 4, 4), 1)])
def test_features_are_one_for_the_image_and_one_for_each_patch(make, shape, tokens, positions):
    model = make(shape, positions=positions)
    assert model(torch.randn(3, *shape)).shape == (3, 1 + tokens, 24)


def test_keeping_all_patches_changes_nothing_and_their_order_is_that_of_the_features(make):
    model, values = make(), torch.randn(2, 3, 16, 16)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    whole, ordered = model(values), model(values, order)
    torch.testing.assert_close(ordered[:, 0], whole[:, 0])
    torch.testing.assert_close(ordered[:, 1:], pick(whole[:, 1:], order))


def test_patches_that_are_not_kept_are_not_looked_at(make):
    model, values = make(), torch.randn(1, 3, 16, 16, requires_grad=True)
    model(values, torch.tensor([[0, 5]])).sum().backward()
    seen = values.grad.abs().sum((0, 1)).unfold(0, 4, 4).unfold(1, 4, 4).sum((2, 3)).flatten().nonzero().flatten()
    assert seen.tolist() == [0, 5]


@pytest.mark.parametrize(("old", "new"), [((16, 16), (8, 8)), ((16, 16), (20, 28)), ((8, 20), (16, 16))])
def test_weights_from_images_of_another_size_are_adapted(make, old, new):
    before, after = make((3, *old), positions="learned"), make((3, *new), positions="learned")
    after.load_state_dict(after.adapt(before.state_dict()))
    table, resized = before.embedding.position, after.embedding.position
    assert torch.equal(resized[0], table[0])
    torch.testing.assert_close(resized, resize_positions(table, before.grid, after.grid))
    assert after.embedding.grid.tolist() == list(after.grid)
    values = torch.randn(2, 3, *new)
    torch.testing.assert_close(after(values), before(values), atol=1e-5, rtol=1e-5)  # which interpolates on the fly


def test_fixed_positions_need_no_adapting(make):
    before, after = make((3, 16, 16)), make((3, 8, 20))
    after.load_state_dict(before.state_dict())
    values = torch.randn(2, 3, 8, 20)
    torch.testing.assert_close(after(values), before(values), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_weights_from_colour_images_serve_gray_ones(make, positions):
    colour, gray = make((3, 16, 16), positions=positions), make((1, 16, 16), positions=positions)
    gray.load_state_dict(gray.adapt(colour.state_dict()))
    values = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(gray(values), colour(values.expand(-1, 3, -1, -1)), atol=1e-5, rtol=1e-5)


def test_weights_that_fit_are_handed_on_as_they_are(make):
    model = make(positions="learned")
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.adapt(state).items())


def test_weights_of_another_model_are_left_to_who_loads_them(make):
    foreign = {"embedding.project.weight": torch.zeros(24, 3 * 9), "other": torch.zeros(2)}
    assert make().adapt(foreign) == foreign


def test_drop_path_rises_with_depth_and_is_for_training_only(make):
    model, plain = make(layers=3, drop_path=0.5), make(layers=3)
    model.load_state_dict(plain.state_dict())
    assert [layer.dropout[1].rate for layer in model.stack.layers] == [0, 0.25, 0.5]
    values = torch.randn(4, 3, 16, 16)
    assert torch.equal(model(values), plain(values))
    assert not torch.equal(model.train()(values), plain(values))


def test_blocks_run_from_the_patches_to_the_last_layer(make):
    model = make(layers=3)
    assert model.blocks == [model.embedding, *model.stack.layers]


def test_a_patch_that_does_not_divide_the_image_is_refused(make):
    with pytest.raises(ValueError, match="patch=4 does not divide images of 30x28"):
        make((1, 30, 28))


def test_a_checkpoint_of_smaller_colour_images_lands_whole(make):
    small, large = make((3, 16, 16)), make((1, 24, 32))
    landed = load_model(large, small.state_dict())
    assert (landed.share, landed.reshaped, landed.missing) == (1.0, {}, [])
    assert torch.equal(large.embedding.position[0], small.embedding.position[0])


def test_where_cls_looks_is_what_torchs_own_attention_weighs(make):
    model = make()
    values = torch.randn(2, 3, 16, 24)
    last = model.stack.layers[-1]
    seen = []
    last.attention_norm.register_forward_hook(lambda module, given, made: seen.append(made))
    model(values)
    inner = seen[0].transpose(0, 1)
    weights = torch.nn.functional.multi_head_attention_forward(
        *(inner, inner, inner, model.dim, last.attention.heads, last.attention.qkv.weight, last.attention.qkv.bias),
        *(None, None, False, 0.0, last.attention.out.weight, last.attention.out.bias),
        average_attn_weights=False,
    )[1]
    found = model.gaze(values)
    assert found.shape == (2, 3, 4, 6)
    torch.testing.assert_close(found.flatten(2), weights[:, :, 0, 1:], rtol=1e-4, atol=1e-5)
