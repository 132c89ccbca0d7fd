"""Causal language modelling: guess each token from those before it (GPT-2, Radford et al. 2019)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptft.nn.aligned import Aligned
from ptft.nn.generation import generate
from ptft.nn.language import IGNORED, NextToken
from ptft.nn.text import in_pieces, pad, restarting_positions, text_inputs
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw

PROMPT_TOKENS = 16
SHOWN_TOKENS = 64
DOUBLINGS = 3  # of the length of what is read, where it grows


@dataclass
class Collate:
    """Targets are the tokens moved by one, the last from the example's `next` (-1 or absent: none).

    document_aware: positions restart with each document, attention stays inside it, and no document has to guess how
    the next one begins. placed: whether the model is to be told positions.
    """

    document_aware: bool
    placed: bool
    pad_id: int
    eos_id: int

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        inputs = text_inputs([example["tokens"] for example in examples], self.pad_id)
        following = [np.append(example["tokens"][1:], example.get("next", IGNORED)) for example in examples]
        targets = torch.from_numpy(pad(following, IGNORED))
        if self.document_aware:
            targets[inputs["tokens"] == self.eos_id] = IGNORED
            inputs.update(self._documents(examples))
        return {"inputs": inputs, "targets": targets}

    def _documents(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """What keeps the documents of packed rows apart; nothing where each row is one document."""
        if "documents" not in examples[0]:
            return {}
        documents = pad([example["documents"] for example in examples], IGNORED)
        if (documents == documents[:, :1]).all():
            return {}
        positions = {"positions": torch.from_numpy(restarting_positions(documents))} if self.placed else {}
        return {"documents": torch.from_numpy(documents), **positions}


class CLM(NextToken):
    """Cross-entropy of every next token.

    tie: the head is the token embedding and survives with the model; a head of its own may have a bias. document_aware:
    packed documents do not see each other. aligned: see Aligned. length_schedule: up to this share of a run each row of a
    batch is read as 8, then 4, then 2 shorter texts, after it whole. Raises ValueError for a share that is none.
    """

    fields = ("tokens",)
    byte_lengths: Tensor
    reached: Tensor | None  # the share of the run, while texts are shorter: a run that is resumed goes on with the same ones

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        tie: bool | None,
        document_aware: bool,
        bias: bool = False,
        aligned: bool = False,
        length_schedule: float | None = None,
        dataset: Any = None,
    ):
        super().__init__(model, tokenizer, tie, bias)
        if length_schedule is not None and not 0 < length_schedule <= 1:
            raise ValueError(f"length_schedule={length_schedule} is no share of a run: expected above 0, up to 1, or null")
        self.aligned, self.length_schedule, self.dataset = aligned, length_schedule, dataset
        self.register_buffer("reached", torch.zeros(()) if length_schedule else None)
        placed = "positions" in inspect.signature(model.forward).parameters
        self.collate = Collate(document_aware, placed, tokenizer.pad_id, tokenizer.eos_id)
        self.register_buffer("byte_lengths", torch.as_tensor(tokenizer.byte_lengths), persistent=False)

    def view(self, rows: Any) -> Any:
        if not self.aligned or not hasattr(rows, "ends"):  # a row of other data is one document
            return rows
        found = Aligned(rows)
        if self.dataset is not None:
            self.dataset.notes.append(f"objective.aligned: {rows.ids.path.stem}: {found}")
        return found

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        super().make_room(tensors)
        self.reached = torch.zeros(()) if "reached" in tensors else None

    def after_step(self, progress: float) -> None:
        if self.length_schedule:
            self.reached = torch.tensor(progress) if progress < self.length_schedule else None

    @property
    def pieces(self) -> int:
        """How many texts each row of a training batch is read as."""
        if self.reached is None or not self.length_schedule or not self.training:
            return 1
        return 2 ** max(0, DOUBLINGS - int(DOUBLINGS * self.reached.item() / self.length_schedule))

    def _shorter(self, batch: Batch) -> Batch:
        """The batch as it is read now: nothing of it is left out."""
        if self.pieces == 1:
            return batch
        fills = {"tokens": self.tokenizer.pad_id, "mask": False, "positions": 0, "documents": IGNORED}
        inputs = {name: in_pieces(value, self.pieces, fills[name]) for name, value in batch["inputs"].items()}
        cut = {"inputs": inputs, "targets": in_pieces(batch["targets"], self.pieces, IGNORED)}
        if "mask" not in inputs:
            return cut
        kept = inputs["mask"].any(1)  # pieces that are all padding have nothing to say
        return {"inputs": {name: value[kept] for name, value in inputs.items()}, "targets": cut["targets"][kept]}

    def forward(self, batch: Batch) -> Output:
        output = super().forward(self._shorter(batch))
        if not self.training:
            targets = batch["targets"]
            sizes = self.byte_lengths[targets.clamp(min=0)] * (targets != IGNORED)
            output.means["bytes_per_token"] = sizes.sum(), output.count
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        size = means["bytes_per_token"]
        bits = means["loss"] / math.log(2) / size if size else math.nan
        return {**super().scores(means), "bits_per_byte": bits}

    def samples(self, batch: Batch, output: Output) -> list[str]:
        """How the model continues the beginning of the first text."""
        prompt = batch["inputs"]["tokens"][0, :PROMPT_TOKENS].tolist()
        written = generate(self, prompt, SHOWN_TOKENS, temperature=0.8, eos_id=self.tokenizer.eos_id)[0]
        return [f"{self.tokenizer.decode(prompt)} --> {self.tokenizer.decode(written)}"]
