"""Language modelling in both directions, with one softmax for both (ELMo, 1802.05365, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptft.nn.carried import NOWHERE, Carried, follow
from ptft.nn.language import IGNORED, perplexity, token_loss
from ptft.nn.masking import guessed_texts
from ptft.nn.text import pad, text_inputs
from ptft.objective import Batch, Example, Objective, Output
from ptft.randomness import Draw

DIRECTIONS = ("forward", "backward")
SHOWN_EVERY = 5  # tokens: one in so many is shown as it was guessed from the left


class Mirrored:
    """Blocks of running text, each with the block that is as far from the end, and with the token before each of the two.

    Where a lane of training goes through blocks from first to last, the mirrored ones go from last to first: what the
    backward direction knows at the beginning of one is what comes after the next.
    """

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def lengths(self) -> np.ndarray:
        return self.rows.lengths()

    def longest(self, number: int) -> list[int]:
        return self.rows.longest(number)

    def take(self, indices: Sequence[int]) -> list[Example]:
        mirrors = [len(self.rows) - 1 - index for index in indices]
        pairs = zip(self._preceded(indices), self._preceded(mirrors), strict=True)
        return [{**example, "mirror": mirror} for example, mirror in pairs]

    def _preceded(self, indices: Sequence[int]) -> list[Example]:
        examples = self.rows.take(indices)
        for example in examples:
            start = example["row"] * self.rows.length
            example["previous"] = int(self.rows.ids.read(start - 1, start)[0]) if start else IGNORED
        return examples


@dataclass
class Collate:
    """Texts to read from left to right, and texts to read from right to left, with the token that comes after each token.

    In training the second are the mirrored blocks, where there are some, in evaluation the same as the first.
    """

    pad_id: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        mirrors = [example.get("mirror", example) if draw.training else example for example in examples]
        ahead = [np.append(example["tokens"], example.get("next", IGNORED)) for example in examples]
        back = [np.append(example["tokens"][::-1], example.get("previous", IGNORED)) for example in mirrors]
        batch = {"inputs": text_inputs([row[:-1] for row in ahead], self.pad_id)}
        batch["backward"] = torch.from_numpy(pad([row[:-1] for row in back], self.pad_id))
        for direction, rows in zip(DIRECTIONS, (ahead, back), strict=True):
            batch[f"{direction}_targets"] = torch.from_numpy(pad([row[1:] for row in rows], IGNORED))
        batch["rows"], batch["forward_follows"] = follow(examples)
        # a state behind padding is of no use: that of the mirrored last block, if it is shorter than others
        whole = [len(row) == batch["backward"].shape[1] + 1 and row[-1] != IGNORED for row in back]
        batch["backward_follows"] = torch.where(torch.tensor(whole), batch["rows"] + 1, NOWHERE)
        return batch


class BiLM(Objective):
    """Half the cross-entropy of every token from the left plus half of that from the right.

    The token layer and the softmax, which is thrown away, serve both directions. carry: whether training batches continue
    each other; evaluations score each block by itself, so that no score depends on how they are batched. With
    trainer.accumulate each micro-batch continues the one before it, which makes a step another than that of one large batch;
    without carry it is the same.
    """

    needs = frozenset({"text", "bilm"})
    fields = ("tokens",)

    def __init__(self, model: nn.Module, tokenizer: Any, carry: bool):
        super().__init__(model)
        self.lanes, self.tokenizer = carry, tokenizer
        self.softmax = nn.Linear(model.width, tokenizer.vocab_size)
        self.carried = nn.ModuleList(Carried("outputs", "cells") for _ in DIRECTIONS if carry)
        nn.init.normal_(self.softmax.weight, std=0.02)
        nn.init.zeros_(self.softmax.bias)
        self.collate = Collate(tokenizer.pad_id)

    def view(self, rows: Any) -> Any:
        return Mirrored(rows) if hasattr(rows, "ids") else rows

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        for number, carried in enumerate(self.carried):
            carried.make_room(tensors, f"carried.{number}.")

    def forward(self, batch: Batch) -> Output:
        texts = batch["inputs"]["tokens"], batch["backward"]
        vectors = self.model.embedding(torch.cat([text.flatten() for text in texts])).split([text.numel() for text in texts])
        parts, guesses = {}, None
        for number, (direction, text) in enumerate(zip(DIRECTIONS, texts, strict=True)):
            logits = self.softmax(self._read(number, vectors[number].unflatten(0, text.shape), batch)).flatten(0, 1)
            targets = batch[f"{direction}_targets"].flatten()
            if guesses is None and not self.training:  # from the left, which samples show
                guesses = logits.argmax(-1)
            parts[f"{direction}_loss"] = token_loss(logits, targets), (targets != IGNORED).sum()
        losses, counts = zip(*parts.values(), strict=True)
        return Output(sum(losses), sum(counts), guesses, means={} if self.training else parts)

    def _read(self, number: int, vectors: Tensor, batch: Batch) -> Tensor:
        """The top layer of one direction, which in training goes on where it was."""
        carried = self.carried[number] if self.training and self.lanes else None
        before = carried.take(batch["rows"]) if carried else None
        layers, (outputs, cells) = self.model.read(vectors, number, before and (before["outputs"], before["cells"]))
        if carried:
            carried.leave(batch[f"{DIRECTIONS[number]}_follows"], outputs=outputs, cells=cells)
        return self.model.dropout(layers[-1])

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        each = {f"{direction}_perplexity": perplexity(means[f"{direction}_loss"]) for direction in DIRECTIONS}
        return {"perplexity": perplexity(means["loss"]), **each}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """Texts in which some tokens are shown as the forward direction guessed them."""
        tokens = batch["inputs"]["tokens"]
        before = torch.arange(SHOWN_EVERY - 1, tokens.numel() - 1, SHOWN_EVERY, device=tokens.device)
        before = before[(before + 1) % tokens.shape[1] != 0]
        chosen = Output(output.loss, output.count, output.prediction[before], tokens.flatten()[before + 1])
        return guessed_texts(self.tokenizer, tokens, before + 1, chosen)
