"""What trains tables of which a step sees few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptft.optimizers.step import evaluated


class RowSGD(Optimizer):
    """Plain SGD on tables of which a step sees few rows: g <- g * min(1, clip / |g|) for each row; w <- w - lr * g.

    Where the gradients of many examples are added up, as by many small steps of word2vec, `clip` keeps the rows that all of
    them share from running away. Takes sparse gradients; what has one dimension is one row.
    """

    sparse = True

    def __init__(self, params: Iterable, lr: float, weight_decay: float, clip: float | None):
        if weight_decay:
            raise ValueError(f"weight_decay={weight_decay}: rows that a step does not see cannot decay; leave it 0")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "clip": clip})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every row that has a gradient."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows, gradient = _rows(parameter)
                    if group["clip"] is not None:
                        norms = torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1)
                        factors = (group["clip"] / norms.clamp(min=1e-12)).clamp(max=1.0)
                        gradient = gradient * factors.view(-1, *[1] * (gradient.ndim - 1))
                    _add_rows(parameter, rows, gradient, -group["lr"])
        return loss


class RowAdagrad(Optimizer):
    """AdaGrad (Duchi et al. 2011) on tables of which a step sees few rows: s <- s + g^2; w <- w - lr * g / (sqrt(s) + eps).

    s starts at `initial`. Takes sparse gradients; torch's own is slower with them, and warns.
    """

    sparse = True

    def __init__(self, params: Iterable, lr: float, weight_decay: float, initial: float, eps: float):
        if weight_decay:
            raise ValueError(f"weight_decay={weight_decay}: rows that a step does not see cannot decay; leave it 0")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "initial": initial, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every row that has a gradient."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if not state:
                        state["sum"] = torch.full_like(parameter, group["initial"])
                    rows, gradient = _rows(parameter)
                    _add_rows(state["sum"], rows, gradient.square(), 1.0)
                    total = state["sum"] if rows is None else state["sum"].index_select(0, rows)
                    _add_rows(parameter, rows, gradient / total.sqrt().add_(group["eps"]), -group["lr"])
        return loss


def _rows(parameter: Tensor) -> tuple[Tensor | None, Tensor]:
    """The rows a gradient is of, None for all of them, and the gradient of each [rows, ...]; of a vector, it is one row."""
    gradient = parameter.grad
    if gradient.is_sparse:
        return gradient.indices()[0], gradient.values()
    return None, gradient if gradient.ndim > 1 else gradient.view(1, -1)


def _add_rows(table: Tensor, rows: Tensor | None, values: Tensor, factor: float) -> None:
    if rows is None:
        table.add_(values.view_as(table), alpha=factor)
    else:
        table.index_add_(0, rows, values, alpha=factor)
