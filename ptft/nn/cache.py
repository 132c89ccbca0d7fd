"""Keys and values of the tokens already read, so that each new token is computed once."""

from __future__ import annotations

from torch import Tensor


class Cache:
    """Room for the keys and values of `capacity` tokens in every layer, allocated when first used.

    length: how many tokens it holds; the model adds to it after each forward.
    """

    def __init__(self, layers: int, capacity: int):
        self.capacity = capacity
        self.length = 0
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new [B, H, T, size] of one layer; returns all up to now."""
        end = self.length + keys.shape[2]
        if self._layers[layer] is None:
            shape = (*keys.shape[:2], self.capacity, keys.shape[3])
            self._layers[layer] = keys.new_empty(shape), values.new_empty(shape)
        stored = self._layers[layer]
        for store, new in zip(stored, (keys, values), strict=True):
            store[:, :, self.length : end] = new
        return stored[0][:, :, :end], stored[1][:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep these rows [R] of the batch, in their order; one may come several times."""
        self._layers = [stored and (stored[0][rows], stored[1][rows]) for stored in self._layers]
