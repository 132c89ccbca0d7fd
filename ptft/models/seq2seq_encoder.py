"""Contextualised word vectors: the encoder of a recurrent translation model as a model of its own (CoVe, 1708.00107)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptft.nn.attentional import BiLSTM


class Seq2SeqEncoder(nn.Module):
    """Tokens -> features of both sides, by the weights that a translation model calls `embedding` and `encoder`.

    concat_embedding: the embedding of each token stands before what the LSTMs make of it ([GloVe; CoVe], 3.3), which makes
    features of dim_embedding + dim. The other settings are those of that model.
    """

    traits = frozenset({"text"})
    token_width = "dim_embedding"  # the setting that says how wide a token's vector is, where it is not dim

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        dim_embedding: int | None,
        max_length: int,
        dropout: float,
        init_std: float,
        concat_embedding: bool,
    ):
        super().__init__()
        width = dim_embedding or dim
        self.dim = dim + width * concat_embedding
        self.max_length, self.concat_embedding = max_length, concat_embedding
        self.embedding = nn.ModuleDict({"token": nn.Embedding(vocab_size, width)})
        self.encoder = BiLSTM(width, dim, layers, dropout)
        nn.init.normal_(self.token_embedding.weight, std=init_std)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The vectors of the tokens."""
        return self.embedding["token"]

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return [self.embedding, *self.encoder.layers]

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; mask: True at real ones."""
        embedded = self.token_embedding(tokens)
        features, _ = self.encoder(embedded, mask)
        return torch.cat((embedded, features), dim=-1) if self.concat_embedding else features
