"""The running average of weights."""

import math

import pytest
import torch

from ptft.averaging import Average
from ptft.build import settings
from ptft.errors import CheckpointError


def walk(average, weight, values):
    for value in values:
        weight.data.fill_(value)
        average.update()


def test_the_average_is_the_closed_form_of_its_updates():
    weight, values, decay = torch.nn.Parameter(torch.full((3,), 5.0)), [1.0, -2.0, 4.0, 0.5, 7.0, 3.0], 0.3
    average = Average({"weight": weight}, decay)
    walk(average, weight, values)
    keeps = [min(decay, (1 + n) / (10 + n)) for n in range(len(values))]
    expected = 5.0
    for keep, value in zip(keeps, values, strict=True):
        expected = keep * expected + (1 - keep) * value
    assert keeps[0] == 0.1 and keeps[-1] == decay
    torch.testing.assert_close(average.averages["weight"], torch.full((3,), expected))


def test_a_constant_weight_is_its_own_average():
    weight = torch.nn.Parameter(torch.randn(4))
    average = Average({"weight": weight}, 0.999)
    for _ in range(50):
        average.update()
    torch.testing.assert_close(average.averages["weight"], weight.detach())


def test_swapping_lends_the_average_and_gives_the_weights_back_to_the_bit():
    layer = torch.nn.Linear(3, 2)
    average = Average(dict(layer.named_parameters()), 0.9)
    before = layer.weight.detach().clone()
    layer.weight.data.add_(torch.randn(2, 3))
    raw = layer.weight.detach().clone()
    with average.swap():
        assert torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, raw)
    assert torch.equal(average.averages["weight"], before)


def test_an_error_inside_the_swap_gives_the_weights_back_too():
    weight = torch.nn.Parameter(torch.zeros(1))
    average = Average({"weight": weight}, 0.9)
    weight.data.fill_(1.0)
    with pytest.raises(KeyboardInterrupt), average.swap():
        raise KeyboardInterrupt
    assert weight.item() == 1.0


def test_a_restored_average_continues_to_the_bit():
    def start():
        weight = torch.nn.Parameter(torch.full((4,), 0.3))
        return weight, Average({"weight": weight}, 0.9)

    values = [0.1 * n for n in range(20)]
    weight, whole = start()
    walk(whole, weight, values)
    weight, first = start()
    walk(first, weight, values[:7])
    saved = {name: value.clone() for name, value in first.state().items()}
    weight, second = start()
    second.load(saved)
    walk(second, weight, values[7:])
    assert torch.equal(whole.averages["weight"], second.averages["weight"])


def test_an_average_of_other_weights_is_refused():
    average = Average({"weight": torch.nn.Parameter(torch.zeros(1))}, 0.9)
    with pytest.raises(CheckpointError, match="bias"):
        average.load({**average.state(), "bias": torch.zeros(1)})


def test_an_average_of_every_fourth_step_keeps_what_its_steps_keep_together():
    weight, values, decay = torch.nn.Parameter(torch.zeros(1)), [float(n * n % 7) for n in range(14)], 0.6
    average = Average({"weight": weight}, decay, every=4)
    walk(average, weight, values)
    expected = 0.0
    for last in (3, 7, 11):
        keep = math.prod(min(decay, (1 + n) / (10 + n)) for n in range(last - 3, last + 1))
        expected = keep * expected + (1 - keep) * values[last]
    torch.testing.assert_close(average.averages["weight"], torch.tensor([expected]))


@pytest.mark.parametrize("every", [1, 4])
def test_after_its_half_life_a_weight_counts_half_however_often_the_average_moves(every):
    weight = torch.nn.Parameter(torch.ones(1))
    average = Average({"weight": weight}, 0.5 ** (1 / 20), every)
    walk(average, weight, [1.0] * 400)
    walk(average, weight, [0.0] * 20)
    assert average.averages["weight"].item() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("half_life", [0.1, "0.5 epochs"])
def test_a_half_life_as_a_share_is_the_same_in_rows_for_batches_of_any_size(half_life, compose):
    words = "pretrain", "trainer.epochs=5", f"trainer.ema_half_life={half_life!r}"
    found = {}
    for batch, accumulate in ((8, 1), (32, 1), (8, 4)):
        config = compose(*words, f"trainer.batch_size={batch}", f"trainer.accumulate={accumulate}")
        decay = settings(config, 3200, "fp32", "loss").ema
        found[batch, accumulate] = batch * accumulate * math.log(0.5) / math.log(decay)
    assert list(found.values()) == pytest.approx([1600] * 3)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_outside_its_range_is_refused_by_name(decay):
    with pytest.raises(ValueError, match="^ema="):
        Average({}, decay)
