"""What torch.optim lacks, or does slowly on a CPU; a file of your own beside these is found by the _target_ of its YAML."""

from ptft.optimizers.lars import LARS
from ptft.optimizers.muon import Muon, orthogonalise
from ptft.optimizers.rows import RowAdagrad, RowSGD

__all__ = ["LARS", "Muon", "RowAdagrad", "RowSGD", "orthogonalise"]
