"""Skip-gram with negative sampling: each word predicts every word in its window (Mikolov et al. 2013, 1310.4546)."""

from __future__ import annotations

from ptft.nn.negative_sampling import NegativeSampling


class SkipGram(NegativeSampling):
    """For each word v and each word o in its window: -log sigmoid(o . v) - the sum over noise n of log sigmoid(-n . v)."""

    average = False
