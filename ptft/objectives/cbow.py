"""Continuous bag of words: the words in its window, averaged, predict each word (Mikolov et al. 2013, 1301.3781)."""

from __future__ import annotations

from ptft.nn.negative_sampling import NegativeSampling


class CBOW(NegativeSampling):
    """For each word o and the mean h of its window: -log sigmoid(o . h) - the sum over noise n of log sigmoid(-n . h).

    As in word2vec.c, each word of the window gets the error of h undivided, not the gradient of the mean.
    """

    average = True
