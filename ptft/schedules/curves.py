"""The curves of the field: how a rate falls after its warm-up."""

from __future__ import annotations

import math
from typing import Any

from ptft.duration import duration
from ptft.schedules.schedule import Schedule


class Constant(Schedule):
    """The base rate all along."""

    def fall(self, share: float) -> float:
        return 1.0


class Polynomial(Schedule):
    """A fall to `final` along (1 - share) ** power; power 1 is a line."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, power: float, final: float):
        super().__init__(steps, steps_per_epoch, warmup)
        self.power, self.final = power, final

    def fall(self, share: float) -> float:
        return self.final + (1 - self.final) * max(0.0, 1 - share) ** self.power


class Linear(Polynomial):
    """A straight line to `final`."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, final: float):
        super().__init__(steps, steps_per_epoch, warmup, power=1.0, final=final)


class Cosine(Schedule):
    """Half a cosine wave to `final` (Loshchilov & Hutter 2017, eq. 5, without restarts)."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, final: float):
        super().__init__(steps, steps_per_epoch, warmup)
        self.final = final

    def fall(self, share: float) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


class Exponential(Schedule):
    """Shrinks by the same ratio each step, to `final` at the end."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, final: float):
        super().__init__(steps, steps_per_epoch, warmup)
        if final <= 0:
            raise ValueError(f"final={final}: an exponential never reaches zero; give a factor > 0, such as 0.01")
        self.final = final

    def fall(self, share: float) -> float:
        return self.final**share


class OneCycle(Cosine):
    """Half a cosine wave up from `initial` over the warm-up, half a one down to `final` (Smith & Topin 2018)."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, initial: float, final: float):
        super().__init__(steps, steps_per_epoch, warmup, final)
        self.initial = initial

    def rise(self, share: float) -> float:
        return self.initial + (1 - self.initial) * (1 - math.cos(math.pi * share)) / 2


class SlantedTriangular(Schedule):
    """A line up from 1 / ratio over the warm-up, a line back down over the rest (ULMFiT, Howard & Ruder 2018, eq. 3).

    The paper's cut_frac is `warmup` as a fraction.
    """

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, ratio: float):
        super().__init__(steps, steps_per_epoch, warmup)
        self.ratio = ratio

    def rise(self, share: float) -> float:
        return (1 + share * (self.ratio - 1)) / self.ratio

    def fall(self, share: float) -> float:
        return self.rise(1 - share)


class InverseSqrt(Schedule):
    """Falls as sqrt(warmup / step), from the end of the warm-up on (Vaswani et al. 2017, §5.3)."""

    def fall(self, share: float) -> float:
        start = max(self.warmup, 1)
        return math.sqrt(start / (start + share * (self.steps - self.warmup)))


class Step(Schedule):
    """Multiplies the rate by `gamma` at each of the `milestones`, durations counted from the start of the run."""

    def __init__(
        self,
        steps: int,
        steps_per_epoch: float,
        warmup: int | float | str,
        milestones: list[int | float | str],
        gamma: float,
    ):
        super().__init__(steps, steps_per_epoch, warmup)
        self.milestones = [duration(value, steps, steps_per_epoch, "milestones") for value in milestones]
        self.gamma = gamma

    def fall(self, share: float) -> float:
        step = self.warmup + share * (self.steps - self.warmup)
        return self.gamma ** sum(step > milestone - 1e-6 for milestone in self.milestones)


class WarmupStableDecay(Schedule):
    """The base rate until the last `decay` of the run, then a line to `final` (Hu et al. 2024, MiniCPM §4)."""

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str, decay: int | float | str, final: float):
        super().__init__(steps, steps_per_epoch, warmup)
        self.decay, self.final = duration(decay, steps, steps_per_epoch, "decay"), final
        if self.warmup + self.decay > steps:
            raise ValueError(f"decay={decay}: with warmup={warmup} it is longer than the run's {steps} steps")

    def fall(self, share: float) -> float:
        left = (1 - share) * (self.steps - self.warmup)
        return 1 - (1 - self.final) * max(0.0, 1 - left / max(self.decay, 1))


class Plateau(Schedule):
    """The base rate, times `factor` after each `patience` evaluations without a better score, down to `min_factor`.

    Evaluations within the warm-up do not count. progress: what training remembers, its evaluations among it; None where there
    are none before its end.
    """

    def __init__(
        self,
        steps: int,
        steps_per_epoch: float,
        warmup: int | float | str,
        progress: Any,
        factor: float,
        patience: int,
        min_factor: float,
    ):
        super().__init__(steps, steps_per_epoch, warmup)
        if progress is None:
            raise ValueError("patience: no score tells a plateau without a validation split and trainer.eval_every")
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor}: expected a number between 0 and 1, such as 0.1")
        if patience < 1:
            raise ValueError(f"patience={patience}: expected at least 1 evaluation")
        if not 0 <= min_factor <= 1:
            raise ValueError(f"min_factor={min_factor}: expected a share of the base rate, 0 to 1")
        self.training, self.factor, self.patience, self.min_factor = progress, factor, patience, min_factor

    def fall(self, share: float) -> float:
        return 1.0

    def __call__(self, progress: float) -> float:
        return super().__call__(progress) * max(self.factor ** self.cuts(progress), self.min_factor)

    def cuts(self, progress: float) -> int:
        """How often the rate was cut by then: told from all evaluations, so that there is no state beside them."""
        cuts = waited = 0
        for when, better in self.training.evaluations:
            if self.warmup <= when * self.steps and when <= progress:
                waited = 0 if better else waited + 1
                cuts += waited > 0 and waited % self.patience == 0
        return cuts

    def course(self, rate: float) -> str:
        evaluations = "evaluation" if self.patience == 1 else f"{self.patience} evaluations in a row"
        return f"{super().course(rate)}, but times {self.factor:g} after each {evaluations} without a better score"
