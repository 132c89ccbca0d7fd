"""Learning-rate schedules: pure functions from progress in [0, 1] to a factor on each group's base rate.

Nothing to checkpoint and nothing to step: step k of n trains with factor(k / n). A schedule is a rise over its warm-up
and a fall over the rest, which meet at 1.
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

    def rise(self, share: float) -> float:
        """The factor after `share` of the warm-up: a line, above zero at the first step (Goyal et al. 2017, §2.2)."""
        return (share * self.warmup + 1) / (self.warmup + 1)

    def fall(self, share: float) -> float:
        """The factor after `share` of what follows the warm-up; fall(0) = 1."""
        raise TypeError(f"{type(self).__name__} defines no fall")
