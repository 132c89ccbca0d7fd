"""Supervised contrast knows the class of every view."""

import torch

from ptft.nn.contrast import supervised_contrast


def embeddings(objective, batch):
    return [objective.projection(objective.model(view).mean((2, 3))) for view in batch["views"]]


def test_supervised_contrast_knows_the_class_of_both_views(make_joint, pictured, learning):
    objective = make_joint("supcon").eval()
    batch = objective.collate(pictured(8), learning(8))
    assert batch["target"].tolist() == [0, 1, 2, 3] * 2
    expected = supervised_contrast(torch.cat(embeddings(objective, batch)), batch["target"].repeat(2), 0.1)
    torch.testing.assert_close(objective(batch).loss, 8 * expected, rtol=1e-4, atol=1e-4)
