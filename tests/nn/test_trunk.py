"""What convolutional backbones share. The YAML files in configs/ are the list: a new one joins by itself."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from ptft import resolve
from ptft.choices import config_dir, groups
from ptft.locate import read_yaml
from ptft.nn.trunk import Trunk, adapt_channels

OPTIONS = groups([config_dir()])["model"]
HEADS = {"fc", "classifier", "avgpool", "dropout", "AuxLogits", "aux1", "aux2"}


def node(name: str) -> dict:
    """The settings of a model, with those of the option it builds upon."""
    found = read_yaml(OPTIONS[name])
    parents = [entry for entry in found.pop("defaults", []) if entry != "_self_"]
    return {key: value for parent in parents for key, value in node(parent).items()} | found


def make(name: str, shape: list[int], device: str = "cpu", **changes) -> Trunk:
    """A backbone in eval mode, with settings changed by name."""
    settings = node(name)
    kind = resolve.find("model", settings)
    torch.manual_seed(0)
    with torch.device(device):
        return kind(shape, **{key: value for key, value in settings.items() if key != "_target_"} | changes).eval()


def headless(name: str) -> nn.Module:
    """Torchvision's network up to its features, without memory for its weights."""
    plain = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **plain).eval()
    for head in HEADS & network._modules.keys():
        setattr(network, head, nn.Identity())
    return network


def drawn(network: nn.Module) -> nn.Module:
    """Every weight and statistic of a network at random."""
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        if value.ndim > 1:
            value.normal_(std=value[0].numel() ** -0.5, generator=generator)
        elif value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator)
        else:
            value.zero_()
    return network


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


TRUNKS = [name for name in OPTIONS if issubclass(resolve.find("model", node(name)), Trunk)]
PUBLISHED = [name for name in TRUNKS if name in torchvision.models.list_models()]
QUICK = ["resnet18", "vgg11_bn"]
SLOW = ["resnet50", "vgg11", "googlenet", "inception_v3", "densenet121"]
FAMILIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def test_all_families_are_there():
    assert {*QUICK, *SLOW} <= set(PUBLISHED)
    assert len(PUBLISHED) >= 18


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PUBLISHED])
def test_weights_have_the_names_and_shapes_of_torchvisions(name):
    assert shapes(make(name, [3, 299, 299], "meta")) == shapes(headless(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_features_equal_those_of_torchvision_given_its_weights(name):
    ours, theirs = make(name, [3, 75, 90]), drawn(headless(name))
    ours.load_state_dict(theirs.state_dict())
    values = torch.randn(2, 3, 75, 90)
    with torch.no_grad():
        features, expected = ours(values), theirs(values)
    assert features.shape[1] == ours.dim
    found = features.mean((2, 3)) if name.startswith("densenet") else features.flatten(1)
    torch.testing.assert_close(found, expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("name", FAMILIES)
def test_maps_have_the_widths_and_strides_they_say(name, stem):
    model = make(name, [3, 256, 320], "meta", stem=stem)
    maps = model.maps(torch.empty(2, 3, 256, 320, device="meta"))
    assert [found.shape[1] for found in maps] == model.map_dims
    for found, stride in zip(maps, model.map_strides, strict=True):
        for side, whole in zip(found.shape[2:], (256, 320), strict=True):
            assert abs(side - whole / stride) <= 3  # Inception's convolutions have no padding at some edges
    assert model.map_strides == sorted(set(model.map_strides))
    assert maps[-1].shape == model(torch.empty(2, 3, 256, 320, device="meta")).shape
    assert maps[-1].shape[1] == model.dim


@pytest.mark.parametrize("name", FAMILIES)
def test_the_small_stem_keeps_the_size_of_the_image(name):
    model = make(name, [3, 32, 32], "meta", stem="small")
    assert model.blocks[0](torch.empty(1, 3, 32, 32, device="meta")).shape[2:] == (32, 32)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_smallest_image_is_read_and_a_smaller_one_refused(name, stem):
    with torch.device("meta"):
        least = make(name, [3, 299, 299], "meta", stem=stem).smallest
        assert make(name, [3, least, 300], "meta", stem=stem)(torch.empty(2, 3, least, 300)).numel()
        if least > 1:
            message = f"too small, expected at least {least}x{least}: give transform.size={least}"
            with pytest.raises(ValueError, match=message):
                make(name, [3, 300, least - 1], "meta", stem=stem)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_in_turn_are_the_model_and_hold_each_weight_once(name, stem):
    side = 75 if name == "inception_v3" and stem == "imagenet" else 32
    model = make(name, [1, side, side], stem=stem)
    x = values = torch.randn(1, 1, side, side)
    with torch.no_grad():
        for block in model.blocks:
            x = block(x)
        assert torch.equal(x, model(values))
    held = [id(weight) for block in model.blocks for weight in block.parameters()]
    assert len(held) == len(set(held)) == len(list(model.parameters()))


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_from_colour_images_serve_gray_ones(name):
    colour, gray = (make(name, [channels, 16, 16], stem="small") for channels in (3, 1))
    assert colour.state_dict()[f"{colour.first}.weight"].shape[1] == 3
    gray.load_state_dict(gray.adapt(colour.state_dict()))
    values = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        expected = colour(values.expand(-1, 3, -1, -1))
        torch.testing.assert_close(gray(values), expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)


def test_a_copy_goes_on_with_weights_of_its_own():
    model = make("resnet_small", [1, 8, 8])
    twin, values = copy.deepcopy(model), torch.randn(1, 1, 8, 8)
    before = model(values)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert torch.equal(model(values), before)
    assert not twin(values).any()


def test_two_kinds_of_images_are_learnt_by_heart():
    model = make("resnet_small", [1, 16, 16]).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    values, target = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 1, 0])
    for _ in range(25):
        loss = F.cross_entropy(model(values).mean((2, 3))[:, :2], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 3, 16)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
def test_weights_for_other_channels_are_the_sum_for_one_and_else_take_turns(channels, shape):
    weight = torch.randn(shape)
    found = adapt_channels(weight, channels)
    assert found.shape == (4, channels, *shape[2:])
    expected = [weight[:, channel % 3] * 3 / channels for channel in range(channels)]
    torch.testing.assert_close(found, weight.sum(1, keepdim=True) if channels == 1 else torch.stack(expected, 1))


@pytest.mark.parametrize(("known", "channels"), [(3, 1), (3, 6), (1, 3)])
def test_an_image_without_colours_gives_what_it_gave(known, channels):
    weight, gray = torch.randn(4, known, 3, 3), torch.randn(1, 1, 8, 8)
    found = F.conv2d(gray.expand(-1, channels, -1, -1), adapt_channels(weight, channels))
    torch.testing.assert_close(found, F.conv2d(gray.expand(-1, known, -1, -1), weight), atol=1e-5, rtol=1e-5)
