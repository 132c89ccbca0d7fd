"""The optimizer's base rate: what was given, or what follows from the batch."""

from __future__ import annotations

import math

from ptft.errors import UserError

SCALES = {"linear": lambda share: share, "sqrt": math.sqrt, "none": lambda share: 1.0}


def optimizer_node(config: dict) -> dict:
    """The optimizer's settings with the rate in force: `lr`, or what `base_lr` and `scale` make of the batch. Raises UserError.

    The saved configuration keeps `base_lr`, so that launching from it does not scale twice.
    """
    node = dict(config["optimizer"])
    scale = node.pop("scale", "linear")
    own = {name: node.pop(name, None) for name in ("base_lr", "vector_lr", "weight_decay_end")}  # the loop's
    for name, value in own.items():
        if isinstance(value, str):
            raise UserError(f"optimizer.{name}: expected a number or null, found '{value}'")
        if (value or 0) < 0:
            raise UserError(f"optimizer.{name}: expected at least 0, found {value}")
    if scale not in SCALES:
        raise UserError(f"optimizer.scale={scale}: expected one of {', '.join(SCALES)}")
    if own["base_lr"] is not None:
        node["lr"] = own["base_lr"] * growth(config)
    for name in ("lr", "weight_decay"):
        if name not in node:
            raise UserError(f"optimizer.{name} must be given: the YAML file of an optimizer has a line such as {name}: 0.0")
        if isinstance(node[name], (int, float)) and not node[name] >= 0:
            raise UserError(f"optimizer.{name}: expected at least 0, found {node[name]}")
    for name in ("momentum", "betas"):
        shares = node.get(name) if isinstance(node.get(name), list) else [node.get(name)]
        if any(isinstance(share, (int, float)) and not 0 <= share < 1 for share in shares):
            raise UserError(f"optimizer.{name}: expected at least 0 and less than 1, found {node[name]}")
    return node


def growth(config: dict) -> float:
    """What rates of a batch of 256 are multiplied by for this batch; 1 where the optimizer names no such rate."""
    node, trainer = config["optimizer"], config["trainer"]
    if node.get("base_lr") is None:
        return 1.0
    return SCALES[node.get("scale", "linear")](trainer["batch_size"] * trainer["accumulate"] / 256)
