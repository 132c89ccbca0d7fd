"""The neural probabilistic language model: a window of words through one hidden layer (Bengio et al. 2003)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.recurrent import Memory, WordEmbedding


class NNLM(nn.Module):
    """Tokens -> [tanh(d + Hx); x], where x are the vectors of the last `window` tokens, the latest first.

    A linear head with a bias on it is the paper's y = b + Wx + U tanh(d + Hx) (section 2). window: the paper's n - 1. width:
    of a word's vector (m). hidden: width of tanh (h). direct: whether x itself goes to the head (W), else only tanh does.
    Before the beginning of a text x is zero. init_std: of fresh vectors.
    """

    traits = frozenset({"text", "causal"})
    token_width = "width"  # the setting that says how wide a token's vector is, where it is not dim

    def __init__(self, vocab_size: int, window: int, width: int, hidden: int, direct: bool, max_length: int, init_std: float):
        super().__init__()
        self.window, self.direct, self.max_length = window, direct, max_length
        self.dim = hidden + (window * width if direct else 0)
        self.embedding = WordEmbedding(vocab_size, width, 0.0, init_std)
        self.hidden = nn.Linear(window * width, hidden)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table C of the paper; narrower than the features, so that no head can share it."""
        return self.embedding.token

    @property
    def blocks(self) -> list[nn.Module]:
        """Shallow to deep."""
        return [self.embedding, self.hidden]

    def new_cache(self) -> Memory:
        """A memory that has read nothing; it keeps the last vectors."""
        return Memory(1)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        documents: Tensor | None = None,
        cache: Memory | None = None,
    ) -> Tensor:
        """Features [B, T, dim] of tokens [B, T]; padding, False in mask, must come last; documents: equal ids see each other.

        With a cache, `tokens` continue what it has read, and it takes them in.
        """
        vectors = self.embedding(tokens)
        past = vectors.new_zeros(tokens.shape[0], self.window - 1, vectors.shape[-1])
        if cache is not None and cache.states[0] is not None:
            (past,) = cache.states[0]
        vectors = torch.cat((past, vectors), dim=1)
        if cache is not None:
            cache.states[0] = (vectors[:, vectors.shape[1] - self.window + 1 :],)
            cache.length += tokens.shape[1]
        starts = range(self.window - 1, -1, -1)  # the latest first
        x = torch.stack([vectors[:, start : start + tokens.shape[1]] for start in starts], dim=2)  # [B, T, window, width]
        if documents is not None:
            x = x * self._together(documents).unsqueeze(-1)
        x = x.flatten(2)
        hidden = torch.tanh(self.hidden(x))
        return torch.cat((hidden, x), dim=-1) if self.direct else hidden

    def _together(self, documents: Tensor) -> Tensor:
        """Which tokens of each window are of the document of its last: bool [B, T, window], the latest first."""
        before = F.pad(documents + 1, (self.window - 1, 0)) - 1  # -1 before the beginning
        windows = before.unfold(1, self.window, 1).flip(-1)
        return windows == documents.unsqueeze(-1)
