"""A recurrent network that reads a text from left to right, with the dropouts of AWD-LSTM (1708.02182)."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.recurrent import LSTMLayer, Memory, WordEmbedding, locked_dropout, read_apart


class LSTM(nn.Module):
    """Tokens -> features of the text up to each of them.

    dim: width of embeddings and features. hidden: of all layers but the last, whose width is dim, so that a head can share
    its matrix with the embeddings. embedding_dropout: of whole words; input_dropout, hidden_dropout and output_dropout: of
    what enters the first layer, goes from layer to layer and leaves the last, the same features at each step of a text;
    weight_drop: of hidden-to-hidden weights. init_std: of fresh embeddings. Raises ValueError for a dropout that is no share.
    """

    traits = frozenset({"text", "causal"})

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        hidden: int,
        layers: int,
        max_length: int,
        embedding_dropout: float,
        input_dropout: float,
        hidden_dropout: float,
        output_dropout: float,
        weight_drop: float,
        init_std: float,
    ):
        super().__init__()
        self.dim, self.max_length = dim, max_length
        self.dropouts = [input_dropout, *[hidden_dropout] * (layers - 1), output_dropout]  # before each layer, and at the end
        rates = {"embedding_dropout": embedding_dropout, "input_dropout": input_dropout, "hidden_dropout": hidden_dropout}
        rates |= {"output_dropout": output_dropout, "weight_drop": weight_drop}
        for name, rate in rates.items():
            if not 0 <= rate < 1:
                raise ValueError(f"{name}={rate} is no probability below 1")
        widths = [dim, *[hidden] * (layers - 1), dim]
        self.embedding = WordEmbedding(vocab_size, dim, embedding_dropout, init_std)
        self.layers = nn.ModuleList(LSTMLayer(*pair, weight_drop) for pair in zip(widths, widths[1:], strict=False))

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return [self.embedding, *self.layers]

    def new_cache(self) -> Memory:
        """A memory that has read nothing."""
        return Memory(len(self.layers))

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        documents: Tensor | None = None,
        cache: Memory | None = None,
    ) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; padding, False in mask, must come last; texts of `documents` are read apart.

        With a cache, `tokens` continue what it has read, and it takes them in.
        """
        x = self.embedding(tokens)
        return self.read(x, cache) if documents is None else read_apart(self.read, x, documents)

    def read(self, x: Tensor, cache: Memory | None = None) -> Tensor:
        """Features of vectors [B, T, dim], from an empty state or from what the cache remembers."""
        memory = self.new_cache() if cache is None else cache
        for index, (layer, rate) in enumerate(zip(self.layers, self.dropouts, strict=False)):
            x, memory.states[index] = layer(locked_dropout(x, rate, self.training), memory.states[index])
        memory.length += x.shape[1]
        return locked_dropout(x, self.dropouts[-1], self.training)
