"""Randomness as a function: the same (seed, epoch, row, purpose) gives the same numbers, whoever asks and whenever.

Counter based: a number is a hash of its address (splitmix64, Steele et al. 2014), so a batch is drawn in one vectorised call
and neither batch size, worker count nor interruption can change what a sample gets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

MASK = (1 << 64) - 1
ROUNDS = 6


def key(*parts: int | str) -> int:
    """A 64-bit key from seeds, names and counters."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(words: np.ndarray) -> np.ndarray:
    """Hash each 64-bit word (the finaliser of splitmix64)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def permute(positions: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Where `positions` land in the permutation of range(size) that `seed` chooses.

    A Feistel network over the next power of four, walked until the value falls below `size` (Black & Rogaway 2002): a
    bijection that needs no memory for the permutation itself.
    """
    bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    half, low = np.uint64(bits), np.uint64((1 << bits) - 1)
    keys = mix(np.uint64(seed & MASK) + np.arange(ROUNDS, dtype=np.uint64))
    values = np.asarray(positions, dtype=np.uint64).copy()
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for round_key in keys:
            left, right = right, left ^ (mix(right ^ round_key) & low)
        values[outside] = (left << half) | right
        outside = values >= size
    return values.astype(np.int64)


@dataclass(frozen=True)
class Draw:
    """The random numbers of the samples of one batch.

    seed: the run's seed. epoch, row: int arrays [B] that address each sample; evaluation always uses epoch 0.
    training: whether the samples are to be learned from, so that they may be augmented.
    """

    seed: int
    epoch: np.ndarray
    row: np.ndarray
    training: bool = False

    def words(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Random 64-bit words [B, *shape]."""
        base = np.uint64(key(self.seed, purpose))
        sample = mix(mix(base ^ np.asarray(self.epoch, dtype=np.uint64)) ^ np.asarray(self.row, dtype=np.uint64))
        count = int(np.prod(shape, dtype=np.int64))
        counter = mix(np.arange(count, dtype=np.uint64))
        return mix(sample[:, None] ^ counter[None, :]).reshape(len(sample), *shape)

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform numbers in [0, 1) as float64 [B, *shape]."""
        return (self.words(purpose, shape) >> np.uint64(11)) * 2.0**-53

    def integers(self, purpose: str, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform integers in [0, high) as int64 [B, *shape]."""
        return (self.uniform(purpose, shape) * high).astype(np.int64)
