"""Learning-rate schedules: pure functions from progress in [0, 1] to a factor on each group's base rate.

Nothing to checkpoint and nothing to step: step k of n trains with factor(k / n). A schedule is a rise over its warm-up
and a fall over the rest, which meet at 1. One that follows the scores reads them from what training remembers of itself.
"""

from __future__ import annotations

from ptft.duration import duration


class Schedule:
    """Warm-up, then `fall`.

    warmup: length of the rise, as `duration` reads it. steps, steps_per_epoch: facts about the run. Raises ValueError.
    """

    def __init__(self, steps: int, steps_per_epoch: float, warmup: int | float | str):
        self.steps = steps
        self.warmup = duration(warmup, steps, steps_per_epoch, "warmup")
        if self.warmup > steps:
            raise ValueError(f"warmup={warmup}: {self.warmup} steps are more than the run's {steps}")

    def __call__(self, progress: float) -> float:
        """The factor at `progress`."""
        step = progress * self.steps
        if step < self.warmup:
            return self.rise(step / self.warmup)
        return self.fall((step - self.warmup) / max(self.steps - self.warmup, 1))

    def course(self, rate: float) -> str:
        """Where a base rate starts, when it is at its height and where it ends, in words."""
        places = {0: "at first", self.steps - 1: "at the end"}
        if 0 < self.warmup < self.steps - 1:
            places = {0: "at first", self.warmup: f"at step {self.warmup:,}", self.steps - 1: "at the end"}
        rates = {place: f"{rate * self(step / self.steps):.3g}" for step, place in places.items()}
        if len(set(rates.values())) == 1:
            return f"{rate:.3g} all along"
        return ", ".join(f"{found} {place}" for place, found in rates.items())

    def rise(self, share: float) -> float:
        """The factor after `share` of the warm-up: a line, above zero at the first step (Goyal et al. 2017, §2.2)."""
        return (share * self.warmup + 1) / (self.warmup + 1)

    def fall(self, share: float) -> float:
        """The factor after `share` of what follows the warm-up; fall(0) = 1."""
        raise TypeError(f"{type(self).__name__} defines no fall")
