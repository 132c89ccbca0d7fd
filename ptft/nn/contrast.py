"""Losses that compare embeddings with one another: NT-Xent, InfoNCE, supervised contrast, triplets.

All of them in float32, whatever the embeddings come in: at a low temperature half precision has no room for the exponentials.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of every row of first [M, D] with every row of second [N, D]: float32 [M, N]."""
    with torch.autocast(first.device.type, enabled=False):
        return F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).mT


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The mean over the 2N anchors of -log softmax of each view's likeness to its other view among all 2N - 1 others.

    first, second: [N, D], two views of the same images. Source: SimCLR, 2002.05709, §2.1, eq. 1; Google's own code
    returns twice this.
    """
    views = torch.cat((first, second))
    logits = (cosines(views, views) / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(views), device=views.device).roll(len(first)))


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The mean over both directions of finding an image's other view among the other views of the batch.

    first, second: [N, D]. The N - 1 negatives of an anchor are views of the other kind only (CPC, 1807.03748, eq. 4).
    """
    logits = cosines(first, second) / temperature
    return (_own(logits) + _own(logits.mT)) / 2


def info_nce_one_way(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """The mean of -log softmax of each query's likeness to its key among all keys of the batch: both [N, D]."""
    return _own(cosines(queries, keys) / temperature)


def info_nce_against(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """The mean of -log softmax of each query's likeness to its key, among the negatives [K, D] that all queries share.

    queries, keys: [N, D]. Source: MoCo, 1911.05722, eq. 1.
    """
    positive = F.cosine_similarity(queries.float(), keys.float(), dim=-1)
    logits = torch.cat((positive[:, None], cosines(queries, negatives)), dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def supervised_contrast(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The mean over anchors of the mean of -log softmax over all others of the anchor's class.

    embeddings: [M, D]; labels: [M], each at least twice. Source: Khosla et al. 2020, 2004.11362, eq. 2.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (cosines(embeddings, embeddings) / temperature).masked_fill(itself, -torch.inf)
    positive = (labels[:, None] == labels) & ~itself
    chosen = logits.log_softmax(-1).masked_fill(~positive, 0.0)
    return -(chosen.sum(-1) / positive.sum(-1)).mean()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """relu(d(anchor, positive) - d(anchor, negative) + margin) of each row, d the squared distance on the unit sphere.

    All [..., D]. Source: FaceNet, 1503.03832, eq. 3.
    """
    nearer = F.cosine_similarity(anchor.float(), positive.float(), dim=-1)
    farther = F.cosine_similarity(anchor.float(), negative.float(), dim=-1)
    return F.relu(2 * farther - 2 * nearer + margin)


def hardest_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The triplet loss of each anchor with its farthest positive and nearest negative: [anchors that have both].

    embeddings: [M, D]; labels: [M]. Source: Hermans et al. 2017, 1703.07737, eq. 5.
    """
    likeness, same, other = _pairs(embeddings, labels)
    nearer = likeness.masked_fill(~same, torch.inf).amin(1)
    farther = likeness.masked_fill(~other, -torch.inf).amax(1)
    whole = same.any(1) & other.any(1)
    return F.relu(2 * farther[whole] - 2 * nearer[whole] + margin)


def all_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """The triplet loss of every anchor, positive and negative in the batch: [triplets].

    embeddings: [M, D]; labels: [M]. Source: Hermans et al. 2017, 1703.07737, eq. 6.
    """
    likeness, same, other = _pairs(embeddings, labels)
    losses = F.relu(2 * likeness[:, None, :] - 2 * likeness[:, :, None] + margin)  # [anchor, positive, negative]
    return losses[same[:, :, None] & other[:, None, :]]


def _own(logits: Tensor) -> Tensor:
    """The mean cross-entropy of finding, in row i of logits [N, N], column i."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _pairs(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cosine of all pairs, which are of one class (nobody with itself), and which are of two: [M, M] each."""
    equal = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return cosines(embeddings, embeddings), equal & ~itself, ~equal
