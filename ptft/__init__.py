"""ptft trains models in stages: pretrain on plenty of data, fine-tune on a little, evaluate, use."""

__version__ = "0.1.0"
