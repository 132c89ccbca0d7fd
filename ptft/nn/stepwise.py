"""An LSTM token by token: where torch's kernels do not go, and in graphs, which take texts of any length."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # output [B, dim] and cell [B, hidden]
Step = Callable[[State, tuple[Tensor, ...]], State]


def read_stepwise(
    lstm: nn.LSTM,
    x: Tensor,
    state: State | None = None,
    mask: Tensor | None = None,
    clip: float | None = None,
    direction: str = "",
) -> tuple[Tensor, State]:
    """What a layer of LSTMs makes of x [B, T, inputs] from `state` on, [B, T, dim], and its state behind the last token.

    mask [B, T]: where it is False the state stays as it was. clip: cells and outputs stay within [-clip, clip].
    direction: "" or "_reverse", whose weights read x in the order given too.
    """
    weight, recurrent, *biases = (
        getattr(lstm, f"{name}_l0{direction}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    project = getattr(lstm, f"weight_hr_l0{direction}") if lstm.proj_size else None

    def bounded(values: Tensor) -> Tensor:
        return values if clip is None else values.clamp(-clip, clip)

    def step(before: State, now: tuple[Tensor, ...]) -> State:
        gates, *real = now
        put, keep, value, show = (gates + F.linear(before[0], recurrent)).chunk(4, dim=-1)
        cell = bounded(torch.sigmoid(keep) * before[1] + torch.sigmoid(put) * torch.tanh(value))
        output = torch.sigmoid(show) * torch.tanh(cell)
        after = bounded(output if project is None else F.linear(output, project)), cell
        return tuple(torch.where(real[0], new, old) for new, old in zip(after, before, strict=True)) if real else after

    if state is None:
        state = tuple(x.new_zeros(x.shape[0], width) for width in (lstm.proj_size or lstm.hidden_size, lstm.hidden_size))
    steps = [F.linear(x, weight, sum(biases)).transpose(0, 1)]
    if mask is not None:
        steps.append(mask.t().unsqueeze(-1))
    found, state = (_scanned if torch.compiler.is_exporting() else _looped)(step, state, tuple(steps))
    return found.transpose(0, 1), state


def _looped(step: Step, state: State, steps: tuple[Tensor, ...]) -> tuple[Tensor, State]:
    found = []
    for now in zip(*steps, strict=True):
        state = step(state, now)
        found.append(state[0])
    return torch.stack(found), state


def _scanned(step: Step, state: State, steps: tuple[Tensor, ...]) -> tuple[Tensor, State]:
    """As one operation of a graph, however many steps there are; torch.nn.LSTM would be as many as in the example."""
    from torch._higher_order_ops.scan import scan  # torch offers it under this name only

    def carried(before: State, now: tuple[Tensor, ...]) -> tuple[State, Tensor]:
        after = step(before, now)
        return after, after[0].clone()  # what goes on and what is collected must not share memory

    state, found = scan(carried, state, steps)
    return found, state
