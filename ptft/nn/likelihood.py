"""How likely a causal language model holds each of several continuations (GPT-3, 2005.14165, 2.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ptft.nn.language import NextToken
from ptft.nn.text import pad, text_inputs


@torch.no_grad()
def log_likelihoods(objective: NextToken, prompt: Sequence[int], options: Sequence[Sequence[int]]) -> Tensor:
    """The log probability of each option after `prompt`, summed over its tokens, float64 [options].

    What is longer than the model reads loses the beginning of its prompt; an option that is longer by itself, its own.
    """
    limit = objective.model.max_length
    rows = [np.array([*prompt, *option], dtype=np.int64)[-limit - 1 :] for option in options]
    inputs = text_inputs([row[:-1] for row in rows], pad_id=0)
    device = next(objective.parameters()).device
    logits = objective.answer({name: value.to(device) for name, value in inputs.items()})  # [options, T, vocabulary]
    following = torch.from_numpy(pad([row[1:] for row in rows], 0)).to(device)
    found = logits.float().log_softmax(-1).gather(-1, following[..., None])[..., 0].double().cpu()
    ends = [len(row) - 1 for row in rows]
    begins = [max(0, end - len(option)) for end, option in zip(ends, options, strict=True)]
    return torch.stack([row[begin:end].sum() for row, begin, end in zip(found, begins, ends, strict=True)])


def choose(objective: NextToken, question: dict) -> tuple[int, int]:
    """The options chosen of a question {prompt, options}: by their log probability, and by that per byte of the option."""
    options = [f" {option}" for option in question["options"]]
    tokens = [ids.tolist() for ids in objective.tokenizer.encode(options)]
    found = log_likelihoods(objective, objective.prompt(question["prompt"]), tokens)
    lengths = torch.tensor([len(option.encode()) for option in options])
    return int(found.argmax()), int((found / lengths).argmax())
