"""BERT's two objectives at once: guess hidden tokens, and whether a text goes on with the next one (1810.04805, 3.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.errors import DataError
from ptft.nn.chunks import Chunks, closing, enough
from ptft.nn.language import perplexity, token_loss
from ptft.nn.masking import MaskedToken, Masking
from ptft.nn.text import Layout, truncate_pair
from ptft.objective import Batch, Example, Output
from ptft.randomness import Draw, key, permute

IS_NEXT, RANDOM = 0, 1  # labels, as in BERT's own code
TRIES = 8  # other places to look at, where texts repeat so much that one says just what comes next


@dataclass
class Pairing:
    """Two texts of each chunk: its beginning and what follows, or its beginning and sentences of another document.

    Exactly a share `random_prob` of the rows of an epoch is paired at random, others in each. Where sentences are cut in two
    is random too, and a share `short_seq_prob` of the rows is cut down to a random length first. What does not fit is cut from
    the longer text, each token at its front or its back by a coin (create_pretraining_data.py).
    """

    random_prob: float
    short_seq_prob: float

    def __call__(self, examples: list[Example], draw: Draw) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """First text, second text and label of each row."""
        chunks = examples[0]["chunks"]
        room = chunks.room
        short = draw.uniform("nsp.short") < self.short_seq_prob
        sizes = np.where(short, 2 + draw.integers("nsp.size", room - 1), room)
        splits, places = draw.uniform("nsp.split"), draw.uniform("nsp.place", (TRIES, 3))
        strangers = self._random(len(chunks), draw)
        coins = [draw.uniform(f"nsp.{text}", (2 * room,)) < 0.5 for text in ("first", "second")]
        pairs = []
        for row, (example, size, split) in enumerate(zip(examples, sizes.tolist(), splits.tolist(), strict=True)):
            first, second = divided(example, size, split)
            other = stranger(example, second, size - len(first), places[row]) if strangers[row] else None
            second = second if other is None else other
            kept = truncate_pair(len(first), len(second), size)
            cut = (trimmed(*part) for part in zip((first, second), kept, (coin[row] for coin in coins), strict=True))
            pairs.append((*cut, IS_NEXT if other is None else RANDOM))
        return pairs

    def _random(self, size: int, draw: Draw) -> np.ndarray:
        """Which rows of an epoch are paired at random, bool [B]: those that a permutation puts first."""
        found = np.zeros(len(draw.row), dtype=bool)
        for epoch in np.unique(draw.epoch).tolist():
            inside = draw.epoch == epoch
            places = permute(draw.row[inside], size, key(draw.seed, "nsp.random", epoch))
            found[inside] = places < round(self.random_prob * size)
        return found


def divided(example: Example, size: int, split: float) -> tuple[np.ndarray, np.ndarray]:
    """A chunk's first sentences, as many as have `size` tokens, in two parts; one sentence alone is cut inside."""
    tokens, ends = example["tokens"], enough(example["ends"], size)
    places = ends[:-1] if len(ends) > 1 else np.arange(1, ends[-1])
    place = places[int(split * len(places))]
    return tokens[:place], tokens[place : ends[-1]]


def stranger(example: Example, following: np.ndarray, size: int, places: np.ndarray) -> np.ndarray | None:
    """Sentences of another document that do not say what truly follows; None where all places looked at do."""
    for place in places:
        found = example["chunks"].elsewhere(example["row"], size, place)
        shared = min(len(found), len(following))
        if not np.array_equal(found[:shared], following[:shared]):
            return found
    return None


def trimmed(tokens: np.ndarray, size: int, coins: np.ndarray) -> np.ndarray:
    """`size` of the tokens, the others taken from the front where a coin says so, else from the back."""
    front = int(coins[: len(tokens) - size].sum())
    return tokens[front : front + size]


@dataclass
class Collate:
    """Pairs of texts in the model's layout, with some of their tokens hidden, and whether each pair belongs together."""

    pairing: Pairing
    masking: Masking
    layout: Layout

    def __call__(self, examples: list[Example], draw: Draw) -> Batch:
        pairs = self.pairing(examples, draw)
        inputs = self.layout.inputs([{"tokens": first, "pair": second} for first, second, _ in pairs])
        inputs["tokens"], hidden = self.masking(inputs["tokens"].numpy(), draw)
        return {"inputs": inputs, **hidden, "next": torch.tensor([label for *_, label in pairs])}


class BERT(MaskedToken):
    """The mean loss of hidden tokens and that of pairs, added.

    mask_prob, mask_share, random_share, whole_word: as in objective mlm. nsp_weight: of the loss of pairs. nsp_random_prob:
    the share of pairs of different documents (label 1; 0 is a true next text). short_seq_prob: the share of texts that are cut
    short. Pairs are judged by a tanh layer over [CLS], BERT's pooler, which is thrown away with the other heads. Raises
    ValueError for shares that are none, and for a model that tells no segments apart.
    """

    needs = frozenset({"text", "bidirectional", "segments"})
    added_tokens = 3  # [CLS] a [SEP] b [SEP]

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        mask_prob: float,
        mask_share: float,
        random_share: float,
        whole_word: bool,
        nsp_weight: float,
        nsp_random_prob: float,
        short_seq_prob: float,
    ):
        super().__init__(model, tokenizer)
        for name, share in (("nsp_random_prob", nsp_random_prob), ("short_seq_prob", short_seq_prob)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is no share between 0 and 1")
        if model.segments < 2:
            raise ValueError(f"pairs need a model that tells two texts apart, not segments={model.segments}: model.segments=2")
        self.weight, self.random_prob = nsp_weight, nsp_random_prob
        self.pooler, self.next = nn.Linear(model.dim, model.dim), nn.Linear(model.dim, 2)
        for linear in (self.pooler, self.next):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        masking = Masking.of(tokenizer, mask_prob, mask_share, random_share, whole_word)
        self.collate = Collate(Pairing(nsp_random_prob, short_seq_prob), masking, Layout.of(model, tokenizer))
        self.closes = closing(tokenizer)

    def describe(self) -> dict[str, Any]:
        share = f"exactly {self.random_prob:g} of each epoch's pairs are random"
        return {"next sentence": f"label {IS_NEXT}: the second text is next, {RANDOM}: it is of another document; {share}"}

    def view(self, rows: Any) -> Chunks:
        """Chunks of whole sentences. Raises DataError where there are no two documents to take them from."""
        layout = self.collate.layout
        room = layout.max_length - layout.added_tokens - len(layout.between)
        chunks = Chunks(rows, min(room, getattr(rows, "length", room)), self.closes)
        if chunks.documents < 2:
            raise DataError(
                f"objective bert pairs sentences of different documents, and a split of this text has {chunks.documents}: "
                "dataset.documents=paragraph (or line) makes each paragraph a document; or give a folder of files, "
                "or a larger dataset.valid_fraction"
            )
        return chunks

    def together(self, batches: Iterable[Batch]) -> list[Batch]:
        """Batches that are told how many hidden tokens there are to a pair in all of them."""
        batches = list(batches)
        share = sum(len(batch["targets"]) for batch in batches) / sum(len(batch["next"]) for batch in batches)
        return [{**batch, "share": share} for batch in batches]

    def next_logits(self, features: Tensor) -> Tensor:
        """Scores [B, 2] of both labels from features [B, T, dim]."""
        return self.next(torch.tanh(self.pooler(features[:, 0]))).float()

    def forward(self, batch: Batch) -> Output:
        features, targets, labels = self.model(**batch["inputs"]), batch["targets"], batch["next"]
        logits, judged = self.hidden_logits(features, batch), self.next_logits(features)
        masked, paired = token_loss(logits, targets), F.cross_entropy(judged, labels, reduction="sum")
        # counted by hidden tokens, so that dividing by their number leaves the mean over pairs as well
        share = batch.get("share", len(targets) / len(labels))
        output = Output(masked + self.weight * share * paired, targets.new_tensor(len(targets)))
        pairs = labels.new_tensor(len(labels))
        output.means |= {"mlm_loss": (masked, output.count), "nsp_loss": (paired, pairs)}
        if not self.training:
            self.compare(output, logits, targets)
            output.means["nsp_accuracy"] = (judged.argmax(-1) == labels).sum(), pairs
        return output

    def scores(self, means: dict[str, float]) -> dict[str, float]:
        total = means["mlm_loss"] + self.weight * means["nsp_loss"]
        return {"loss": total, "perplexity": perplexity(means["mlm_loss"])}
