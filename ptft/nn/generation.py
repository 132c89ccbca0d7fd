"""Writing text one token at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ptft.nn.language import NextToken


@torch.no_grad()
def generate(
    objective: NextToken,
    prompt: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    eos_id: int | None = None,
    num_samples: int = 1,
    cache: bool = True,
) -> list[list[int]]:
    """Continuations of `prompt`, without it: up to `max_tokens` ids each, ended before `eos_id`.

    temperature: 0 takes the likeliest token. top_k, top_p: draw from the k likeliest, or the fewest that hold
    probability p. cache: keep keys and values, which changes the time and not the text. Beyond the model's max_length
    it reads the last max_length tokens. The objective is to be in eval mode. Raises ValueError for settings out of
    range.
    """
    _check(prompt, temperature, top_k, top_p)
    device = next(objective.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([list(prompt)] * num_samples, device=device)
    memory = objective.model.new_cache() if cache else None
    finished = torch.zeros(num_samples, dtype=torch.bool)
    for _ in range(max_tokens):
        logits = _next_logits(objective, tokens, memory)
        chosen = choose(logits.float().cpu(), temperature, top_k, top_p, generator)
        tokens = torch.cat((tokens, chosen.to(device)[:, None]), dim=1)
        finished |= chosen == (-1 if eos_id is None else eos_id)
        if finished.all():
            break
    return [_until(row, eos_id) for row in tokens[:, len(prompt) :].tolist()]


def choose(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator) -> Tensor:
    """One token id per row of logits [B, vocabulary]."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(restrict(logits / temperature, top_k, top_p), dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def restrict(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Set to -inf all but the k likeliest, then all but the fewest that hold probability p (1904.09751)."""
    if top_k is not None:
        lowest = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    if top_p is not None:
        ordered, order = logits.sort(descending=True, stable=True)
        probabilities = torch.softmax(ordered, dim=-1)
        beyond = probabilities.cumsum(-1) - probabilities >= top_p  # what came before already holds p
        logits = logits.masked_fill(beyond.gather(-1, order.argsort(-1)), -torch.inf)
    return logits


def _next_logits(objective: NextToken, tokens: Tensor, memory) -> Tensor:
    """Scores of the next token, reading only what the cache has not; a window that slides reads itself anew."""
    limit = objective.model.max_length
    if memory is None or tokens.shape[1] > limit:
        return objective.logits(tokens[:, -limit:])
    return objective.logits(tokens[:, memory.length :], memory)


def _until(row: list[int], eos_id: int | None) -> list[int]:
    return row[: row.index(eos_id)] if eos_id in row else row


def _check(prompt: Sequence[int], temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not len(prompt):
        raise ValueError("prompt is empty: generation needs at least one token to continue")
    if temperature < 0:
        raise ValueError(f"temperature={temperature} is negative; 0 takes the likeliest token, 1 samples as trained")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} leaves no token to choose; null chooses from all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} is no probability above 0; null chooses from all")
