"""Tunings: which weights train, and how fast; a file of your own beside these is found by the _target_ of its YAML."""

from ptft.tuning.frozen import Frozen
from ptft.tuning.full import Full
from ptft.tuning.gradual import Gradual
from ptft.tuning.lora import LoRA
from ptft.tuning.tuning import Tuning, depths, top_names

__all__ = ["Frozen", "Full", "Gradual", "LoRA", "Tuning", "depths", "top_names"]
