"""A recurrent encoder-decoder with attention: the translation model whose encoder is CoVe (1708.00107, 3)."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.attentional import BiLSTM, Decoder, Memory


class Seq2Seq(nn.Module):
    """Tokens of a source and of what is written so far -> features of what comes next.

    The encoder is a bidirectional LSTM, whose last states the decoder's LSTM begins with. One embedding serves both sides.
    dim: width of the features of both, half of it for each direction of the encoder. layers: of each. dim_embedding: width
    of the embedding; None for dim. input_feeding: the decoder reads its last h~ as well.
    """

    traits = frozenset({"text", "seq2seq"})
    token_width = "dim_embedding"  # the setting that says how wide a token's vector is, where it is not dim

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        layers: int,
        dim_embedding: int | None,
        max_length: int,
        dropout: float,
        input_feeding: bool,
        init_std: float,
    ):
        super().__init__()
        self.dim, self.max_length = dim, max_length
        width = dim_embedding or dim
        self.embedding = nn.ModuleDict({"token": nn.Embedding(vocab_size, width)})
        self.encoder = BiLSTM(width, dim, layers, dropout)
        self.decoder = Decoder(width, dim, layers, dropout, input_feeding)
        nn.init.normal_(self.token_embedding.weight, std=init_std)

    @property
    def token_embedding(self) -> nn.Embedding:
        """What tied heads share."""
        return self.embedding["token"]

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep, the encoder before the decoder; its attention counts with the last layer."""
        return [self.embedding, *self.encoder.layers, *self.decoder.layers]

    def forward(self, tokens: Tensor, mask: Tensor | None = None, target: Tensor | None = None) -> Tensor:
        """Features [B, T, dim] of target [B, T], each of which sees itself, those before it and the source.

        tokens [B, S]: the source; mask: True at real ones. Without a target: the encoder's features [B, S, dim].
        """
        memory = self.begin(tokens, mask)
        return memory.source if target is None else self.write(target, memory)

    def begin(self, tokens: Tensor, mask: Tensor | None = None) -> Memory:
        """What `write` needs of sources [B, S]."""
        source, states = self.encoder(self.token_embedding(tokens), mask)
        return Memory(source, mask, states, source.new_zeros(source.shape[0], 1, self.dim))

    def write(self, target: Tensor, memory: Memory) -> Tensor:
        """Features [B, T, dim] of target tokens that continue what the memory holds."""
        return self.decoder(self.token_embedding(target), memory)
