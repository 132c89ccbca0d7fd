"""DINO: pairs of crops, the centre, the temperature, the last layer that waits."""

import math

import pytest
import torch

from ptft.objectives.dino import distance


def test_every_large_crop_teaches_every_other_crop():
    generator = torch.Generator().manual_seed(0)
    targets = [torch.rand(3, 5, generator=generator).softmax(-1) for _ in range(2)]
    guesses = [torch.rand(3, 5, generator=generator).log_softmax(-1) for _ in range(4)]
    pairs = [(t, s) for t in range(2) for s in range(4) if t != s]
    expected = sum(float(-(targets[t] * guesses[s]).sum()) / 3 for t, s in pairs) / len(pairs)
    assert len(pairs) == 6
    assert distance(targets, guesses).item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_knows_nothing_costs_the_log_of_the_prototypes(make_joint):
    targets = [torch.eye(24)[:3]] * 2
    guesses = [torch.zeros(3, 24).log_softmax(-1)] * 3
    assert distance(targets, guesses).item() == pytest.approx(math.log(24), rel=1e-6)
    assert make_joint("dino", prototypes=4096).collapsed_loss(8) == pytest.approx(8.31777, abs=1e-5)


def test_the_centre_moves_after_it_was_used_and_in_training_only(make_joint, pictured, learning):
    objective = make_joint("dino").train()
    batch = objective.collate(pictured(6), learning(6))
    objective.centre.copy_(torch.linspace(-0.1, 0.1, 24))
    centre = objective.centre.clone()
    other = make_joint("dino").train()
    taught = other.teacher(torch.cat(batch["views"][:2]))
    targets = ((taught - centre) / 0.04).softmax(-1).chunk(2)
    guesses = [(other.prototypes(each) / 0.1).log_softmax(-1) for each in other.embed(batch["views"])]
    torch.testing.assert_close(objective(batch).loss, 6 * distance(targets, guesses), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(objective.centre, 0.9 * centre + 0.1 * taught.mean(0), rtol=1e-4, atol=1e-5)
    moved = objective.centre.clone()
    objective.eval()(batch)
    assert torch.equal(objective.centre, moved)


def test_the_teacher_sees_the_large_crops_only(make_joint, pictured, learning):
    objective = make_joint("dino").train()
    batch = objective.collate(pictured(4), learning(4))
    assert [view.shape[-1] for view in batch["views"]] == [16] * 2 + [8] * 8
    seen = []
    objective.teacher.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    objective(batch)
    assert seen == [(8, 1, 16, 16)]


def test_small_crops_are_enlarged_for_models_of_one_size(make_joint, pictured, learning):
    objective = make_joint("dino").train()
    seen = []
    objective.model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-1]))
    batch = objective.collate(pictured(4), learning(4))
    objective(batch)
    objective.model.traits = frozenset({"image"})
    objective(batch)
    assert seen == [16, 8, 16]


def test_the_last_layer_stands_still_at_first_without_decay_too(make_joint, pictured, learning):
    objective = make_joint("dino", freeze_prototypes=0.2).train()
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-2, weight_decay=0.5)
    moved = []
    for step in range(10):
        before = objective.prototypes.weight.detach().clone()
        objective(objective.collate(pictured(4), learning(4, step))).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        objective.after_step(step / 10)
        moved.append(not torch.equal(before, objective.prototypes.weight))
    assert not any(moved[:2]) and all(moved[3:])


def test_the_teachers_temperature_warms_up_linearly(make_joint):
    objective = make_joint("dino", teacher_temperature=0.04, teacher_temperature_end=0.07, temperature_warmup=0.3)
    found = [objective.teacher_temperature(progress) for progress in (0.0, 0.15, 0.3, 0.9)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert make_joint("dino", temperature_warmup=0.0).teacher_temperature(0.0) == 0.04


def test_what_is_probed_is_the_teacher_and_its_weights_have_a_name(make_joint):
    objective = make_joint("dino")
    assert objective.probed is objective.teacher.network.model
    names = {f"{objective.teacher_model}{name}" for name in objective.model.state_dict()}
    assert names <= objective.state_dict().keys()
