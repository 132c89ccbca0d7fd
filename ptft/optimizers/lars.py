"""SGD for large batches, whose steps are shares of the norms of what they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from ptft.optimizers.step import evaluated, momentum_buffer


class LARS(Optimizer):
    """SGD whose step of each matrix is a fixed share of the matrix's norm (You et al. 2017, arXiv 1708.03888).

    u = g + weight_decay * w;  v <- momentum * v + u * trust_coefficient * |w| / |u|;  w <- w - lr * v. The factor on u
    is 1 where either norm is 0, and applies without decay too. Vectors are plain SGD with momentum, without decay.
    """

    def __init__(self, params: Iterable, lr: float, weight_decay: float, momentum: float, trust_coefficient: float):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = evaluated(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    velocity = momentum_buffer(self.state[parameter], parameter)
                    velocity.mul_(group["momentum"]).add_(self._update(parameter, group))
                    parameter.add_(velocity, alpha=-group["lr"])
        return loss

    @staticmethod
    def _update(parameter: Tensor, group: dict) -> Tensor:
        if parameter.ndim <= 1:
            return parameter.grad
        update = parameter.grad.add(parameter, alpha=group["weight_decay"])
        weight_norm, update_norm = parameter.norm(), update.norm()
        ratio = group["trust_coefficient"] * weight_norm / update_norm
        return update * torch.where((weight_norm > 0) & (update_norm > 0), ratio, torch.ones_like(ratio))
