"""A table of word vectors and nothing else: each token by itself (word2vec, 1310.4546; GloVe, Pennington et al. 2014)."""

from __future__ import annotations

from torch import Tensor, nn


class Embedding(nn.Module):
    """Tokens -> their vectors, whatever stands around them.

    A fresh table is uniform in (-.5, .5) / dim, as in word2vec.c and glove.c.
    """

    traits = frozenset({"text", "vectors"})

    def __init__(self, vocab_size: int, dim: int, max_length: int):
        super().__init__()
        self.dim, self.max_length = dim, max_length
        self.embedding = nn.ModuleDict({"token": nn.Embedding(vocab_size, dim)})
        nn.init.uniform_(self.token_embedding.weight, -0.5 / dim, 0.5 / dim)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table."""
        return self.embedding["token"]

    @property
    def blocks(self) -> list[nn.Module]:
        """The table is all there is."""
        return [self.embedding]

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Vectors [B, T, dim] of tokens [B, T]; padding changes nothing, so the mask is not looked at."""
        return self.token_embedding(tokens)
