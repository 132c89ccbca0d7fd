"""VGG; what it shares with other backbones is in tests/nn/test_trunk.py."""

import pytest
import torch
from torch import nn

from ptft.models.vgg import VGG


def test_every_convolution_after_the_stem_is_a_step_of_layer_decay(settings):
    with torch.device("meta"):
        model = VGG([3, 64, 64], **settings("vgg16_bn"))
    counts = [sum(isinstance(layer, nn.Conv2d) for layer in block.modules()) for block in model.blocks]
    assert counts == [2] + [1] * 11


@pytest.mark.parametrize("layers", [[1, 1, 2, 2], [1, 1, 0, 2, 2]])
def test_any_other_number_of_stages_is_refused(settings, layers):
    with pytest.raises(ValueError, match="five stages"):
        VGG([3, 64, 64], **settings("vgg11") | {"layers": layers})
