"""SimCLR's objective: which loss it is, and what it is when nothing is told apart."""

import math

import pytest
import torch

from ptft.nn.contrast import info_nce, nt_xent


@pytest.mark.parametrize(("loss", "expected"), [("nt_xent", nt_xent), ("info_nce", info_nce)])
def test_the_loss_is_the_mean_over_anchors_times_the_images(loss, expected, make_joint, pictured, learning):
    objective = make_joint("contrastive", loss=loss, temperature=0.3).eval()
    batch = objective.collate(pictured(6), learning(6))
    first, second = (objective.projection(objective.model(view).mean((2, 3))) for view in batch["views"])
    torch.testing.assert_close(objective(batch).loss, 6 * expected(first, second, 0.3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("loss", "constant"), [("nt_xent", math.log(127)), ("info_nce", math.log(64))])
def test_the_collapsed_loss_depends_on_the_batch(loss, constant, make_joint):
    assert make_joint("contrastive", loss=loss).collapsed_loss(64) == pytest.approx(constant)


def test_both_views_go_through_batch_norm_together(make_joint, pictured, learning):
    objective = make_joint("contrastive").train()
    objective(objective.collate(pictured(6), learning(6)))
    assert objective.model.layers[1].num_batches_tracked == 1
