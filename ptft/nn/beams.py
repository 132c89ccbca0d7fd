"""Beam search: the likeliest text, by keeping the likeliest beginnings (1609.08144, 7)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def length_penalty(length: int, alpha: float) -> float:
    """What the log probability of a text of `length` tokens is divided by: ((5 + length) / 6) ** alpha (equation 14)."""
    return ((5 + length) / 6) ** alpha


def search(writer: Any, count: int, num_beams: int, alpha: float, max_tokens: int, eos_id: int) -> list[list[int]]:
    """The best text of each of `count` prompts, without its end token, which counts all the same.

    A beam that ends leaves its place empty, so that one beam is greedy. What has not ended after `max_tokens` counts as it is.
    The search for a prompt is over when nothing that still grows could become better than what has ended.
    """
    found = [Found() for _ in range(count)]
    logits = writer.advance(None)
    rows = torch.arange(count)
    writer.select(rows.repeat_interleave(num_beams))
    scores = _log_probabilities(logits).repeat_interleave(num_beams, 0)  # [count * beams, vocabulary]
    total = torch.full((count, num_beams), -torch.inf, dtype=scores.dtype)
    total[:, 0] = 0  # all beams begin alike: only one may grow
    texts = torch.zeros(count, num_beams, 0, dtype=torch.int64)
    places = torch.full((count, 1), num_beams)
    for length in range(1, max_tokens + 1):
        ranked, choice = (total[:, :, None] + scores.view(count, num_beams, -1)).flatten(1).topk(num_beams)
        parent, token = choice // scores.shape[1], choice % scores.shape[1]
        texts = torch.cat((texts.gather(1, parent[:, :, None].expand(-1, -1, length - 1)), token[:, :, None]), dim=2)
        grows = (torch.arange(num_beams) < places) & ranked.isfinite()
        ends = grows & (token == eos_id)
        places = places - ends.sum(1, keepdim=True)
        total = ranked.masked_fill(~grows | ends, -torch.inf)
        _keep(found, texts[:, :, :-1], ranked, ends, length_penalty(length, alpha))
        # probability is only ever lost: no text that grows can score better than its total at its kindest penalty
        kindest = max(length_penalty(length + 1, alpha), length_penalty(max_tokens, alpha))
        best = torch.tensor([[entry.score] for entry in found], dtype=total.dtype)
        total = total.masked_fill(total.amax(1, keepdim=True) / kindest <= best, -torch.inf)
        if length == max_tokens or not total.isfinite().any():
            break
        writer.select((rows[:, None] * num_beams + parent).flatten())
        scores = _log_probabilities(writer.advance(token.flatten()))
    _keep(found, texts, total, total.isfinite(), length_penalty(texts.shape[2], alpha))
    return [entry.tokens for entry in found]


class Found:
    """The best text of a prompt so far."""

    def __init__(self) -> None:
        self.score, self.tokens = -math.inf, []


def _log_probabilities(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.double().cpu(), dim=-1)


def _keep(found: list[Found], texts: Tensor, total: Tensor, chosen: Tensor, penalty: float) -> None:
    """Take the chosen texts [count, beams] that are better than what was found for their prompt."""
    for row, beam in chosen.nonzero().tolist():
        score = total[row, beam].item() / penalty
        if score > found[row].score:
            found[row].score, found[row].tokens = score, texts[row, beam].tolist()
