"""LSTM layers with a projection, whose values can be clipped."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # output [B, dim] and cell [B, hidden]


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
        if self.clip is not None or (self.proj_size and x.device.type == "cpu"):
            return self._steps(x, state)
        start = None if state is None else tuple(part.to(x.dtype).unsqueeze(0) for part in state)
        read, (output, cell) = super().forward(x, start)
        return read, (output[0], cell[0])

    def _steps(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        if state is None:
            state = x.new_zeros(len(x), self.proj_size or self.hidden_size), x.new_zeros(len(x), self.hidden_size)
        output, cell = state
        found = []
        for gates in F.linear(x, self.weight_ih_l0, self.bias_ih_l0 + self.bias_hh_l0).unbind(1):
            put, keep, value, show = (gates + F.linear(output, self.weight_hh_l0)).chunk(4, dim=-1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(put) * torch.tanh(value)
            cell = self._bounded(cell)
            output = torch.sigmoid(show) * torch.tanh(cell)
            output = self._bounded(F.linear(output, self.weight_hr_l0) if self.proj_size else output)
            found.append(output)
        return torch.stack(found, dim=1), (output, cell)

    def _bounded(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)
