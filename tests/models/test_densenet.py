"""DenseNet; what it shares with other backbones is in tests/nn/test_trunk.py."""

import pytest
import torch

from ptft.models.densenet import DenseNet


def test_the_settings_are_those_of_torchvisions(settings):
    with torch.device("meta"):
        model = DenseNet(
            [3, 64, 64], **settings("densenet121") | {"layers": [1, 2, 1, 1], "growth": 8, "width": 12, "dropout": 0.2}
        )
    assert model.map_dims == [20, 26, 21, 18]
    assert model.features.denseblock2.denselayer2.drop_rate == 0.2


@pytest.mark.parametrize("layers", [[6, 12, 24], [6, 12, 24, 0]])
def test_any_other_number_of_stages_is_refused(settings, layers):
    with pytest.raises(ValueError, match="four stages"):
        DenseNet([3, 64, 64], **settings("densenet121") | {"layers": layers})
