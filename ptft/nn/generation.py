"""Writing text one token at a time: the likeliest, drawn ones, or by beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptft.nn.beams import search
from ptft.nn.writers import together
from ptft.randomness import Draw


@dataclass(frozen=True)
class Decoding:
    """How texts are written. Raises ValueError for settings out of range.

    max_tokens: the longest text. temperature: 0 takes the likeliest token each time. top_k, top_p: draw from the k
    likeliest, or the fewest that hold probability p. num_beams: of a search for the likeliest text, which draws nothing;
    length_penalty: its alpha, above 0 for longer texts (1609.08144, 7).
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int = 1
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens={self.max_tokens} leaves nothing to write")
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature} is negative; 0 takes the likeliest token, 1 samples as trained")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} leaves no token to choose; null chooses from all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} is no probability above 0; null chooses from all")
        if self.num_beams < 1:
            raise ValueError(f"num_beams={self.num_beams}: give at least 1, which takes the likeliest token each time")
        if self.num_beams > 1 and self.temperature:
            told = f"num_beams={self.num_beams} searches for the likeliest text, and temperature={self.temperature} draws one"
            raise ValueError(f"{told}; give one of them")


@torch.no_grad()
def write(
    objective: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    eos_id: int | None = None,
    cache: bool = True,
) -> list[list[int]]:
    """What a NextToken objective in eval mode writes for each prompt, without it, ended before `eos_id`.

    What is drawn for a prompt follows from the seed and its number in `rows` (by default its place), whatever is written
    beside it. Raises ValueError for an empty prompt.
    """
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("prompt is empty: generation needs at least one token to continue")
    rows = np.arange(len(prompts)) if rows is None else np.array(rows)
    eos_id = -1 if eos_id is None else eos_id
    if "seq2seq" in objective.model.traits:  # what it writes has places of its own; a causal model moves on over its text
        decoding = replace(decoding, max_tokens=min(decoding.max_tokens, objective.model.max_length))
    written: list[list[int]] = [[]] * len(prompts)
    for chosen in together(objective.model, prompts, decoding.max_tokens) if len(prompts) else []:
        writer = objective.writer([prompts[index] for index in chosen], cache)
        if decoding.num_beams > 1:
            settings = decoding.num_beams, decoding.length_penalty, decoding.max_tokens
            texts = search(writer, len(chosen), *settings, eos_id)
        else:
            texts = _choose_each(writer, decoding, Draw(seed, np.zeros(len(chosen)), rows[chosen]), eos_id)
        for index, text in zip(chosen, texts, strict=True):
            written[index] = text
    return written


def generate(
    objective: Any,
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
    """`num_samples` continuations of one prompt, by the settings of Decoding."""
    decoding = Decoding(max_tokens, temperature, top_k, top_p)
    return write(objective, [prompt] * num_samples, decoding, seed, eos_id=eos_id, cache=cache)


def _choose_each(writer: Any, decoding: Decoding, draw: Draw, eos_id: int) -> list[list[int]]:
    """Texts token by token; one that has ended leaves the batch."""
    written: list[list[int]] = [[] for _ in draw.row]
    places, token = torch.arange(len(written)), None
    for step in range(decoding.max_tokens):
        logits = writer.advance(token).float().cpu()
        chances = torch.from_numpy(draw.uniform(f"generate.{step}"))[places]
        token = choose(logits, decoding.temperature, decoding.top_k, decoding.top_p, chances)
        going = (token != eos_id).nonzero()[:, 0]
        if len(going) < len(token):
            writer.select(going)
            places, token = places[going], token[going]
        for place, chosen in zip(places.tolist(), token.tolist(), strict=True):
            written[place].append(chosen)
        if not len(going):
            break
    return written


def choose(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, chances: Tensor) -> Tensor:
    """One token id per row of logits [B, vocabulary]; chances [B], uniform in [0, 1), settle what is drawn."""
    if temperature == 0:
        return logits.argmax(-1)
    sums = torch.softmax(restrict(logits / temperature, top_k, top_p).double(), dim=-1).cumsum(-1)
    return torch.searchsorted(sums, chances[:, None] * sums[:, -1:], right=True)[:, 0]


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
