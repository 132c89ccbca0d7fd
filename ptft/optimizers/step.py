"""What every step of an optimizer begins with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def momentum_buffer(state: dict, parameter: Tensor) -> Tensor:
    """The momentum of a parameter, zero at first."""
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    return state["momentum_buffer"]


def evaluated(closure: Callable[[], float] | None) -> float | None:
    """The loss that `closure` computes anew, where there is one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
