"""A teacher follows by the closed form of its average, and carries all it knows in its state."""

import math

import pytest
import torch
from torch import nn

from ptft.errors import UserError
from ptft.nn.teacher import Teacher, momenta, rising


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def values(seed=0):
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(seed))


def changed(net, step):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(step)
        net[1].running_mean.fill_(step)
    return net


@pytest.mark.parametrize(("start", "end"), [(0.996, 1.0), (0.99, 0.999)])
def test_the_momentum_rises_along_half_a_cosine(start, end):
    assert rising(start, end, 0.0) == pytest.approx(start)
    assert rising(start, end, 0.5) == pytest.approx((start + end) / 2)
    assert rising(start, end, 1.0) == pytest.approx(end)
    third = end - (end - start) * (math.cos(math.pi / 3) + 1) / 2
    assert rising(start, end, 1 / 3) == pytest.approx(third)


@pytest.mark.parametrize(("start", "end", "named"), [(2.0, 1.0, "momentum=2.0"), (0.99, -0.1, "momentum_end=-0.1")])
def test_a_momentum_is_a_share(start, end, named):
    with pytest.raises(ValueError, match=f"{named}: expected a share from 0 to 1"):
        momenta(start, end)
    assert momenta(0.0, 1.0) == (0.0, 1.0)


def test_a_teacher_starts_as_its_network_and_has_no_gradient():
    student = network()
    teacher = Teacher(student, "own")
    assert all(map(torch.equal, student.parameters(), teacher.network.parameters()))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher(values()).requires_grad


def test_a_teacher_is_the_moving_average_in_closed_form():
    student = changed(network(), 0.0)
    teacher = Teacher(student, "own")
    for step in range(1, 6):
        teacher.follow(changed(student, float(step)), 0.9)
    expected = sum(0.9 ** (5 - step) * 0.1 * step for step in range(1, 6))
    for parameter in teacher.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected))


@pytest.mark.parametrize(("policy", "expected"), [("copy", 5.0), ("ema", 0.5)])
def test_batch_statistics_follow_as_the_policy_says(policy, expected):
    student = changed(network(), 0.0)
    teacher = Teacher(student, policy).train()
    teacher.follow(changed(student, 5.0), 0.9)
    teacher(values())  # its own batches leave no trace
    torch.testing.assert_close(teacher.network[1].running_mean, torch.full((8,), expected))


def test_its_own_batches_move_its_own_statistics():
    student = network()
    teacher = Teacher(student, "own").train()
    alone = network().train()
    teacher(values())
    alone(values())
    torch.testing.assert_close(teacher.network[1].running_mean, alone[1].running_mean)
    assert not student[1].running_mean.any()


def test_a_teacher_drops_nothing_out_in_training():
    teacher = Teacher(network(), "own").train()
    torch.testing.assert_close(teacher(values()), teacher(values()))
    assert teacher.network[1].training and not teacher.network[2].training
    assert not teacher.eval().network[1].training


def test_weights_loaded_late_reach_the_teacher_until_its_first_update():
    student = network()
    teacher = Teacher(student, "own")
    student.load_state_dict(network(seed=7).state_dict())
    teacher.start(student)
    assert all(map(torch.equal, student.state_dict().values(), teacher.network.state_dict().values()))
    teacher.follow(student, 0.5)
    before = teacher.network[0].weight.clone()
    teacher.start(changed(student, 3.0))
    assert torch.equal(teacher.network[0].weight, before)


def test_a_restored_teacher_goes_on_to_the_bit():
    student = network()
    teacher, other = Teacher(student, "ema"), Teacher(network(seed=3), "ema")
    teacher.follow(changed(student, 0.3), 0.9)
    other.load_state_dict(teacher.state_dict())
    for each in (teacher, other):
        each.start(student)
        each.follow(changed(student, 0.7), 0.99)
    assert all(map(torch.equal, teacher.state_dict().values(), other.state_dict().values()))


def test_weights_that_were_renamed_are_refused():
    teacher = Teacher(network(), "own")
    with pytest.raises(UserError, match="tuning: a teacher cannot follow"):
        teacher.follow(nn.Sequential(nn.Identity(), nn.Linear(4, 8)), 0.9)
