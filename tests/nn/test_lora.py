"""Low-rank adaptations of layers that read word by word, whose kernels take several weights at once."""

import pytest
import torch
from torch import nn

from ptft.nn import lora
from ptft.nn.projected_lstm import ProjectedLSTM
from ptft.nn.recurrent import LSTMLayer

LAYERS = {
    "plain": lambda: LSTMLayer(4, 6, 0.0),
    "weights dropped": lambda: LSTMLayer(4, 6, 0.3),
    "projected": lambda: ProjectedLSTM(4, 6, 3, None),
    "clipped": lambda: ProjectedLSTM(4, 6, 6, 3.0),
    "both directions": lambda: nn.LSTM(4, 3, bidirectional=True, batch_first=True),
}


def test_the_product_of_the_factors_counts_alpha_over_rank_times():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.eye(2)
    adapter = lora.LowRank(layer.weight, rank=2, alpha=6.0, generator=torch.Generator())
    adapter.down.data, adapter.up.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert adapter(layer.weight).tolist() == [[1 + 3, 6], [0, 1 + 6]]


@pytest.mark.parametrize("kind", LAYERS)
def test_an_adapted_lstm_starts_as_it_was_learns_by_its_factors_alone_and_merges_into_a_plain_one(kind):
    torch.manual_seed(0)
    model, plain, x = nn.ModuleList([LAYERS[kind]()]), nn.ModuleList([LAYERS[kind]()]), torch.randn(2, 5, 4)
    start = model.eval()[0](x)[0]
    frozen = {name: value.clone() for name, value in model.requires_grad_(False).state_dict().items()}
    assert lora.inject(model, ["*"], rank=2, alpha=4.0, seed=0) == ["0"]
    assert torch.equal(model[0](x)[0], start)

    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model[0](x)[0].square().sum().backward()
        optimizer.step()
    learned = model.eval()[0](x)[0]
    assert not torch.allclose(learned, start, atol=1e-2)

    merged = lora.merged_state(model)
    plain.load_state_dict(merged, strict=True)
    torch.testing.assert_close(plain.eval()[0](x)[0], learned)
    changed = {name for name, value in merged.items() if not torch.equal(value, frozen[name])}
    assert changed == {name for name in frozen if ".weight_" in name} == set(lora.adapted(model))
