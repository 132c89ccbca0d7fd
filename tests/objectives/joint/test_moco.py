"""Momentum contrast: the queue, the teacher, and the order in which they move."""

import math

import pytest
import torch
import torch.nn.functional as F


def unit(count, width=16, seed=0):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_keys_are_made_as_queries_are_at_first_projection_included(make_joint):
    objective = make_joint("moco")
    own = objective.encoder.state_dict()
    theirs = objective.teacher.network.state_dict()
    assert own.keys() == theirs.keys() and any(key.startswith("projection") for key in own)
    assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_the_queue_is_of_length_one_and_in_the_state(make_joint):
    objective = make_joint("moco")
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(40))
    assert {"queue", "place"} <= objective.state_dict().keys()


def test_the_queue_goes_around_where_batches_do_not_fit_it(make_joint):
    objective = make_joint("moco", queue=10)
    keys = [unit(4, seed=seed) for seed in range(4)]
    for each in keys:
        objective.enqueue(each)
    assert objective.place == 6
    stream = torch.cat(keys)
    expected = torch.cat((stream[10:16], stream[6:10]))
    torch.testing.assert_close(objective.queue, expected)


def test_more_keys_than_the_queue_holds_leave_the_newest(make_joint):
    objective = make_joint("moco", queue=3)
    objective.enqueue(unit(5))
    torch.testing.assert_close(objective.queue, unit(5)[2:])


def test_keys_are_queued_after_they_were_used_and_in_training_only(make_joint, pictured, learning):
    objective = make_joint("moco").eval()
    batch = objective.collate(pictured(6), learning(6))
    before = objective.queue.clone()
    queries, keys = objective.encoder(batch["views"][0]), objective.teacher(batch["views"][1])
    logits = torch.cat((F.cosine_similarity(queries, keys)[:, None], F.normalize(queries, dim=-1) @ before.T), 1) / 0.2
    expected = -logits.log_softmax(1)[:, 0].sum()
    torch.testing.assert_close(objective(batch).loss, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(objective.queue, before)
    objective.train()(batch)
    assert objective.place == 6
    assert not torch.equal(objective.queue[:6], before[:6]) and torch.equal(objective.queue[6:], before[6:])


def test_the_teacher_follows_with_the_momentum_of_the_moment(make_joint):
    objective = make_joint("moco", momentum=0.9, momentum_end=1.0)
    before = objective.teacher.network.model.layers[0].weight.clone()
    with torch.no_grad():
        objective.model.layers[0].weight.add_(1)
    objective.after_step(0.5)
    torch.testing.assert_close(objective.teacher.network.model.layers[0].weight, before + 0.05)


def test_the_collapsed_loss_is_the_log_of_the_queue_and_one(make_joint):
    assert make_joint("moco", queue=4096).collapsed_loss(8) == pytest.approx(8.31801, abs=1e-5)
    assert make_joint("moco", queue=40).collapsed_loss(99) == pytest.approx(math.log(41))


@pytest.mark.parametrize(("queue", "notes"), [(61, 1), (60, 0)])
def test_a_queue_longer_than_the_data_is_said(queue, notes, make_joint, make_dataset):
    dataset = make_dataset()
    make_joint("moco", queue=queue, dataset=dataset)
    assert len(dataset.notes) == notes
