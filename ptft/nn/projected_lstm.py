"""LSTM layers with a projection, whose values can be clipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ptft.nn.stepwise import State, read_stepwise


class ProjectedLSTM(nn.LSTM):
    """One layer that reads from left to right: [B, T, inputs] -> [B, T, dim] (LSTMP, Sak et al. 2014).

    hidden: cells; where they are as many as `dim` there is no projection, for which a CPU has a kernel that is 5x faster.
    clip: cells and outputs stay within [-clip, clip]; None for no bound. Forget gates start open (bias 1). Raises ValueError.
    """

    def __init__(self, inputs: int, hidden: int, dim: int, clip: float | None):
        if dim > hidden:
            raise ValueError(f"hidden={hidden}: {hidden} cells cannot be projected to {dim} outputs; give at least as many")
        super().__init__(inputs, hidden, proj_size=dim if dim < hidden else 0, batch_first=True)
        self.clip = clip
        nn.init.zeros_(self.bias_hh_l0)
        nn.init.zeros_(self.bias_ih_l0)
        nn.init.ones_(self.bias_ih_l0[hidden : 2 * hidden])

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """What is read, and the state behind the last token."""
        # on a CPU torch's own way to project is hardly faster than steps in Python, and warns that it is slow
        slow = self.proj_size and x.device.type == "cpu"
        if self.clip is not None or slow or torch.compiler.is_exporting():
            return read_stepwise(self, x, state, clip=self.clip)
        start = None if state is None else tuple(part.to(x.dtype).unsqueeze(0) for part in state)
        read, (output, cell) = super().forward(x, start)
        return read, (output[0], cell[0])
