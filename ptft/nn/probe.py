"""What a representation is worth: how well frozen features tell the classes, by their neighbours or by a linear map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptft.nn.embedding_map import neighbourly, scatter
from ptft.nn.pooling import vector
from ptft.objective import Example
from ptft.randomness import Draw, key, permute

Protocol = Literal["knn", "linear"]
Read = Callable[[list[Example], Draw], dict[str, Tensor]]

BATCH = 64
SIMILARITIES = 1 << 22  # as many as are held at once
NEIGHBOURS, TEMPERATURE = 20, 0.07  # of DINO, 2104.14294
DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
HELD_OUT = 5  # one in so many rows chooses the decay
STEPS = 200


def knn(
    bank: Tensor, labels: Tensor, queries: Tensor, neighbours: int = NEIGHBOURS, temperature: float = TEMPERATURE
) -> Tensor:
    """The class of each query by its nearest neighbours, each with the weight exp(cosine / temperature).

    bank: [N, D] with labels [N]; queries: [M, D]. All that are as near as the last neighbour vote too, so that the order
    of the bank does not matter; it may be smaller than `neighbours`. Source: Wu et al. 2018, 1805.01978, §3.4.
    """
    classes, codes = labels.unique(return_inverse=True)
    votes = F.one_hot(codes, len(classes)).to(bank.dtype)
    bank, queries = F.normalize(bank, dim=-1), F.normalize(queries, dim=-1)
    found = []
    for chunk in queries.split(max(1, SIMILARITIES // len(bank))):
        cosines = chunk @ bank.mT
        nearest = cosines.topk(min(neighbours, len(bank)), dim=1).values
        weights = ((cosines - nearest[:, :1]) / temperature).exp()
        found.append(weights.masked_fill(cosines < nearest[:, -1:], 0.0) @ votes)
    return classes[torch.cat(found).argmax(1)]


def linear(bank: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """The class of each query by L2-regularised logistic regression on standardised features, solved to the end.

    The strength is the one of DECAYS that does best on a fifth of the bank, held out from the rest. Deterministic.
    """
    classes, codes = labels.unique(return_inverse=True)
    mean, deviation = bank.double().mean(0), bank.double().std(0, correction=0)
    bank, queries = ((values.double() - mean) / deviation.clamp(min=1e-6) for values in (bank, queries))
    weights = fit(bank, codes, len(classes), choose_decay(bank, codes, len(classes)))
    return classes[_logits(queries, weights).argmax(1)]


def choose_decay(features: Tensor, codes: Tensor, classes: int) -> float:
    """The strength with the least cross-entropy on held-out rows, from strong to weak, each fit starting from the last."""
    places = torch.from_numpy(permute(np.arange(len(codes)), len(codes), key(0, "decay"))).to(codes.device)
    held, kept = places[::HELD_OUT], torch.cat([places[start::HELD_OUT] for start in range(1, HELD_OUT)])
    if len(kept) == 0:
        return DECAYS[0]
    weights, losses = None, {}
    for decay in DECAYS:
        weights = fit(features[kept], codes[kept], classes, decay, weights)
        losses[decay] = F.cross_entropy(_logits(features[held], weights), codes[held]).item()
    return min(losses, key=losses.get)


def fit(features: Tensor, codes: Tensor, classes: int, decay: float, start: Tensor | None = None) -> Tensor:
    """The minimum of mean cross-entropy + decay / 2 |weights|^2 by L-BFGS: [D + 1, classes], the last row without decay.

    features: float64 [N, D]; codes: [N]. The gradient is written out, so it works where autograd is off.
    """
    shape = features.size(1) + 1, classes
    weights = nn.Parameter(features.new_zeros(shape) if start is None else start.clone())
    targets = F.one_hot(codes, classes).to(features.dtype)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=STEPS, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def evaluate() -> Tensor:
        value = weights.detach()
        logits = _logits(features, value)
        error = (logits.softmax(-1) - targets) / len(targets)
        weights.grad = torch.cat((features.mT @ error + decay * value[:-1], error.sum(0, keepdim=True)))
        return F.cross_entropy(logits, codes) + decay / 2 * value[:-1].square().sum()

    optimizer.step(evaluate)
    return weights.detach()


def _logits(features: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[-1], features, weights[:-1])


PROTOCOLS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"knn": knn, "linear": linear}


@dataclass
class Probe:
    """Scores the features of a frozen encoder on labelled rows; the same one online and offline.

    bank, queries: rows with a label. read: examples -> the model's inputs. limit: as many rows of each, chosen once, are
    looked at; None: all of them. names: of the classes.
    """

    protocol: Protocol
    bank: Any
    queries: Any
    read: Read
    pooling: str
    limit: int | None = None
    names: list[str] | None = None

    @property
    def score(self) -> str:
        """The name of what it measures."""
        return f"{self.protocol}_accuracy"

    @torch.no_grad()
    def scores(self, model: nn.Module, rows: Any = None) -> dict[str, float]:
        """The share of the queries, or of other rows, whose class is found; the model is left in evaluation mode."""
        bank, labels = self.features(model, self.bank, self.limit)
        queries, truths = self.features(model, self.queries if rows is None else rows, self.limit)
        found = PROTOCOLS[self.protocol](bank, labels, queries)
        return {self.score: (found == truths).double().mean().item()}

    def map(self, model: nn.Module, limit: int, rows: Any = None) -> Tensor:
        """Features of the queries, or of other rows, as points coloured by class: a picture, uint8 [3, H, W]."""
        features, labels = self.features(model, self.queries if rows is None else rows, limit)
        classes, codes = labels.unique(return_inverse=True)
        names = [self.names[label] if self.names else str(label) for label in classes.tolist()]
        return scatter(neighbourly(features.cpu()), codes.cpu(), names)

    @torch.no_grad()
    def features(self, model: nn.Module, rows: Any, limit: int | None) -> tuple[Tensor, Tensor]:
        """The pooled features [N, D] of rows as an evaluation sees them, and their labels [N]."""
        model.eval()
        device = next(model.parameters(), torch.empty(0)).device  # some models have nothing to train
        chosen = choose(len(rows), limit)
        features, labels = [], []
        for start in range(0, len(chosen), BATCH):
            places = chosen[start : start + BATCH]
            examples = rows.take(places.tolist())
            inputs = self.read(examples, Draw(0, np.zeros_like(places), places))
            inputs = {name: value.to(device) for name, value in inputs.items()}
            features.append(vector(model(**inputs), inputs.get("mask"), self.pooling).float())
            labels += [int(example["label"]) for example in examples]
        return torch.cat(features), torch.tensor(labels, device=device)


def choose(size: int, limit: int | None) -> np.ndarray:
    """Which of `size` rows are looked at, in file order."""
    if limit is None or limit >= size:
        return np.arange(size)
    return np.sort(permute(np.arange(limit), size, key(0, "probe")))


def online(protocol: Protocol | None, limit: int | None, dataset: Any, read: Read, pooling: str) -> Probe | None:
    """The probe that runs with each evaluation: train rows are the bank, those of valid the queries unless others are given.

    None without labels.
    """
    if protocol is None or dataset is None:
        return None
    bank, queries = dataset.rows("train"), dataset.rows("valid")
    if bank is None or queries is None or not has_class(bank[0]):
        dataset.notes.append(f"objective.probe={protocol}: the data has no classes to tell, so nothing is probed")
        return None
    return Probe(protocol, bank, queries, read, pooling, limit, dataset.facts.get("labels"))


def has_class(example: Example) -> bool:
    """Whether an example is of one class, not of several, with a number or without a label."""
    label = np.asarray(example.get("label", 0.0))
    return label.ndim == 0 and np.issubdtype(label.dtype, np.integer)
