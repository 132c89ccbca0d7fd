import pytest
import torch
from torch import nn

from ptft.checkpoint import read, read_state, save
from ptft.errors import CheckpointError, UserError
from ptft.objective import Objective
from ptft.state import load_heads, load_model, optimizer_state, report, restore_optimizer

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "adamw_fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adam_amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-2),
    "asgd": lambda p: torch.optim.ASGD(p, lr=1e-2),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def train(model, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        loss = model(torch.randn(16, 4)).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def through_disk(folder, model, optimizer):
    tensors, state = optimizer_state(optimizer, model)
    groups = {"model": model.state_dict(), "optimizer": tensors}
    path = save(folder, 5, groups, {"optimizer": state}, "", {}, {"run_id": "one"})
    return read(path, "model"), read(path, "optimizer"), read_state(path)["optimizer"]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_an_optimizer_goes_on_to_the_bit_after_a_checkpoint(tmp_path, make):
    model = network()
    optimizer = make(model.parameters())
    train(model, optimizer, range(5))
    weights, tensors, state = through_disk(tmp_path, model, optimizer)
    train(model, optimizer, range(5, 10))
    again = network()
    load_model(again, weights)
    optimizer = make(again.parameters())
    restore_optimizer(optimizer, again, tensors, state)
    train(again, optimizer, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_entries_are_named_after_parameters_not_numbered():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer, range(1))
    tensors, _ = optimizer_state(optimizer, model)
    assert {name for name in tensors if name.startswith("2.bias")} == {
        "2.bias::step",
        "2.bias::exp_avg",
        "2.bias::exp_avg_sq",
    }


def test_a_parameter_without_memory_yet_has_none_afterwards():
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer, range(1))
    tensors, state = optimizer_state(optimizer, model)
    again = network()
    optimizer = torch.optim.AdamW(again.parameters())
    restore_optimizer(optimizer, again, tensors, state)
    assert set(optimizer.state) == {again[2].weight, again[2].bias}


def test_restored_memory_is_not_the_file_it_was_read_from(tmp_path):
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer, range(1))
    _, tensors, state = through_disk(tmp_path, model, optimizer)
    before = {name: value.clone() for name, value in tensors.items()}
    restore_optimizer(optimizer, model, tensors, state)
    train(model, optimizer, range(1, 3))
    assert all(torch.equal(tensors[name], value) for name, value in before.items())


def test_options_come_from_the_configuration_not_from_the_checkpoint():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
    train(model, optimizer, range(1))
    tensors, state = optimizer_state(optimizer, model)
    optimizer = torch.optim.AdamW([{"params": list(model.parameters()), "base_lr": 0.1, "label": "all"}], lr=0.1)
    restore_optimizer(optimizer, model, tensors, state)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["base_lr"], group["label"]) == (0.1, 0.01, 0.1, "all")


def test_another_kind_of_optimizer_is_refused():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer, range(1))
    with pytest.raises(CheckpointError, match="made with AdamW, this run uses SGD"):
        restore_optimizer(torch.optim.SGD(model.parameters(), lr=1), model, *optimizer_state(optimizer, model))


def test_another_choice_of_what_trains_is_refused_by_name():
    model = network()
    saved = optimizer_state(torch.optim.AdamW(model.parameters()), model)
    with pytest.raises(CheckpointError, match=r"0\.bias"):
        restore_optimizer(torch.optim.AdamW(model[2].parameters()), model, *saved)


def test_missing_and_additional_entries_are_refused_by_name():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    train(model, optimizer, range(1))
    tensors, state = optimizer_state(optimizer, model)
    with pytest.raises(CheckpointError, match=r"holds stray::exp_avg"):
        restore_optimizer(optimizer, model, {**tensors, "stray::exp_avg": torch.ones(1)}, state)
    del tensors["0.bias::exp_avg"]
    with pytest.raises(CheckpointError, match=r"lacks 0\.bias::exp_avg"):
        restore_optimizer(optimizer, model, tensors, state)


def test_a_gradient_scaler_is_plain_values(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**11, growth_interval=7)
    scaler.scale(torch.ones(1))
    scaler.update(2.0**12 / 3)
    path = save(tmp_path, 1, {"model": {"w": torch.ones(1)}}, {"scaler": scaler.state_dict()}, "", {}, {"run_id": "one"})
    again = torch.amp.GradScaler("cpu")
    again.load_state_dict(read_state(path)["scaler"])
    assert again.state_dict() == scaler.state_dict()


def layers(count, width=4):
    return nn.ModuleDict({f"layer{index}": nn.Linear(width, width) for index in range(count)})


def test_whole_weights_land_and_the_report_says_so():
    source, model = layers(2), layers(2)
    found = load_model(model, source.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))
    assert (found.share, len(found.loaded), found.missing, found.unexpected, found.reshaped) == (1.0, 4, [], [], {})
    assert str(found) == "4 tensors loaded (100.0% of 40 parameters), 0 newly initialised, 0 of the checkpoint unused"


def test_weights_of_another_precision_are_refused_by_name():
    halves = {name: value.half() for name, value in layers(1).state_dict().items()}
    with pytest.raises(CheckpointError, match=r"layer0.weight is torch.float16 in the checkpoint and torch.float32"):
        load_model(layers(1), halves)


def test_a_deeper_model_than_the_checkpoint_is_refused_before_any_weight_moves():
    model = layers(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"66\.7% of 60 parameters.*model also has layer2\.weight, layer2\.bias"):
        load_model(model, layers(2).state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_shallower_model_than_the_checkpoint_is_refused():
    with pytest.raises(UserError, match=r"checkpoint also has layer2\.weight"):
        load_model(layers(2), layers(3).state_dict())


def test_another_width_is_refused_naming_both_shapes():
    with pytest.raises(UserError, match=r"layer0\.weight is \[4, 4\] in the checkpoint and \[6, 6\] in the model"):
        load_model(layers(1, 6), layers(1).state_dict())


def test_only_three_names_of_a_kind_are_shown():
    with pytest.raises(UserError, match=r"layer2\.weight, layer2\.bias, layer3\.weight and 5 more;"):
        load_model(layers(6), layers(2).state_dict())


def test_allow_partial_loads_what_fits_and_reports_the_rest():
    source, model = layers(2), layers(3)
    found = load_model(model, source.state_dict(), allow_partial=True)
    assert torch.equal(model["layer1"].weight, source["layer1"].weight)
    assert found.missing == ["layer2.weight", "layer2.bias"]
    assert found.share == pytest.approx(2 / 3)


def test_partial_is_not_nothing():
    with pytest.raises(UserError, match="no weight of the checkpoint fits"):
        load_model(layers(1), {"other": torch.ones(1)}, allow_partial=True)


def test_names_left_fresh_keep_the_models_own_start():
    source, model = layers(2), layers(2)
    start = model["layer1"].weight.clone()
    found = load_model(model, source.state_dict(), fresh={"layer1.weight", "layer1.bias"})
    assert torch.equal(model["layer1"].weight, start)
    assert torch.equal(model["layer0"].weight, source["layer0"].weight)
    assert found.fresh == ["layer1.weight", "layer1.bias"] and found.unexpected == []


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "backbone.", "encoder.", "model.", "module.model."])
def test_a_prefix_that_explains_everything_is_named(prefix):
    saved = {f"{prefix}{name}": value for name, value in layers(2).state_dict().items()}
    with pytest.raises(UserError, match=f"start with '{prefix}'"):
        load_model(layers(2), {**saved, "head.weight": torch.ones(2)})


def test_a_prefix_that_the_checkpoint_lacks_is_named():
    with pytest.raises(UserError, match="lack the prefix 'encoder.'"):
        load_model(nn.ModuleDict({"encoder": layers(2)}), layers(2).state_dict())


def test_a_tied_weight_counts_once():
    model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "head": nn.Linear(4, 10, bias=False)})
    model["head"].weight = model["embed"].weight
    found = report(model.state_dict(), model)
    assert (found.parameters, found.loaded_parameters) == (40, 40)


class Task(Objective):
    def __init__(self, classes):
        super().__init__(nn.Linear(4, 4))
        self.head = nn.Linear(4, classes)


def test_heads_go_on_without_touching_the_model():
    source, target = Task(3), Task(3)
    start = target.model.weight.clone()
    load_heads(target, {"head.weight": source.head.weight, "head.bias": source.head.bias})
    assert torch.equal(target.head.weight, source.head.weight)
    assert torch.equal(target.model.weight, start)


def test_heads_of_another_size_or_name_are_refused():
    source = Task(3).head
    with pytest.raises(CheckpointError, match=r"head\.weight is \[3, 4\] in the checkpoint and \[5, 4\] here"):
        load_heads(Task(5), {"head.weight": source.weight, "head.bias": source.bias})
    with pytest.raises(CheckpointError, match=r"head\.bias is missing from the checkpoint"):
        load_heads(Task(3), {"head.weight": source.weight})
    with pytest.raises(CheckpointError, match=r"heads: decoder is only in the checkpoint"):
        load_heads(Task(3), {"head.weight": source.weight, "head.bias": source.bias, "decoder": source.bias})


def test_a_model_without_weights_takes_a_checkpoint_without_any_and_no_other():
    assert load_model(nn.Flatten(), {}).loaded == []
    with pytest.raises(UserError, match="no weight of the checkpoint fits"):
        load_model(nn.Flatten(), {"w": torch.ones(1)}, allow_partial=True)
