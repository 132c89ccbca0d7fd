"""Residual networks; what they share with other backbones is in tests/nn/test_trunk.py."""

from __future__ import annotations

import pytest
import torch

from ptft.models.resnet import ResNet


@pytest.fixture
def make(settings):
    """A small ResNet in eval mode, with settings changed by name."""

    def build(shape=(1, 16, 16), **changes):
        torch.manual_seed(0)
        return ResNet(list(shape), **settings("resnet_small") | changes).eval()

    return build


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("squeeze_excitation", [False, True])
def test_with_zero_init_every_unit_that_keeps_its_shape_starts_as_the_identity(make, bottleneck, squeeze_excitation):
    model = make(layers=[2, 2, 2, 2], bottleneck=bottleneck, zero_init_residual=True, squeeze_excitation=squeeze_excitation)
    units = [unit for unit in model.blocks[1:] if unit.downsample is None]
    assert len(units) >= 4
    for unit in units:
        x = torch.rand(2, (unit.bn3 if bottleneck else unit.bn2).num_features, 4, 4)
        assert torch.equal(unit.train()(x), x)


def test_squeeze_and_excitation_weighs_the_branch_and_not_what_came_in(make):
    plain, gated = make(), make(squeeze_excitation=True)
    added = gated.state_dict().keys() - plain.state_dict().keys()
    assert {name.split(".")[2] for name in added} == {"excitation"}
    gated.load_state_dict(plain.state_dict(), strict=False)
    unit = gated.layer1[0]
    for parameter in unit.excitation.parameters():
        torch.nn.init.zeros_(parameter)  # every gate is sigmoid(0)
    x = torch.rand(2, 16, 4, 4)
    torch.testing.assert_close(unit(x), (x + 0.5 * plain.layer1[0].branch(x)).relu())


def test_units_are_the_steps_of_layer_decay_and_drop_path(make):
    model = make(layers=[1, 2, 1, 1], drop_path=0.4)
    assert len(model.blocks) == 1 + 5
    assert [unit.drop_path.rate for unit in model.blocks[1:]] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_dropped_unit_passes_on_what_came_in(make):
    unit = make(layers=[2, 1, 1, 1], drop_path=0.999).layer1[1].train()
    unit.drop_path.rate = 0.999
    x = torch.rand(2, 16, 4, 4)
    assert torch.equal(unit(x), x)


@pytest.mark.parametrize("layers", [[2, 2, 2], [1, 1, 0, 1], [1, 1, 1, 1, 1]])
def test_any_other_number_of_stages_is_refused(make, layers):
    with pytest.raises(ValueError, match="four stages"):
        make(layers=layers)


def test_a_single_pixel_is_an_image(make):
    assert make((3, 1, 1), stem="imagenet")(torch.rand(2, 3, 1, 1)).shape == (2, 128, 1, 1)
