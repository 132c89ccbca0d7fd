"""Learning-rate schedules; a file of your own beside these is found by the _target_ of its YAML."""

from ptft.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Plateau,
    Polynomial,
    SlantedTriangular,
    Step,
    WarmupStableDecay,
)
from ptft.schedules.schedule import Schedule

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "Plateau",
    "Polynomial",
    "Schedule",
    "SlantedTriangular",
    "Step",
    "WarmupStableDecay",
]
