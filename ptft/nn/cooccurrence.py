"""Which words occur near each other, counted out of core: sorted runs on disk, merged in bounded memory (GloVe's cooccur)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptft.randomness import mix

PAIR = np.dtype([("pair", "i8"), ("count", "f8")])  # pair: first * vocabulary + second, first <= second
TRIPLE = np.dtype([("first", "i4"), ("second", "i4"), ("count", "f4")])
TOKENS_AT_ONCE = 1 << 19
MERGED_AT_ONCE = 1 << 20  # pairs of all runs together
SHUFFLED_AT_ONCE = 1 << 22  # triples that are shuffled in memory


def count_pairs(stretches: Iterator[tuple[np.ndarray, np.ndarray]], window: int, vocabulary: int, folder: Path) -> int:
    """Write to `triples` how often any two words occur together, in an order without meaning; returns how many triples.

    stretches: words of running text and the document of each; windows end with either. Words d apart count 1 / d, up to
    `window` apart. The counts are symmetric: both orders are written.
    """
    runs, seen = [], (np.empty(0, np.int64), np.empty(0, np.int64))
    for number, stretch in enumerate(stretches):
        words, documents = (np.concatenate(parts) for parts in zip(seen, stretch, strict=True))
        runs.append(_run(words, documents, len(seen[0]), window, vocabulary, folder / f"run-{number}"))
        seen = words[-window:], documents[-window:]
    size = sum(path.stat().st_size for path in runs) // PAIR.itemsize
    drawers = [folder / f"drawer-{number}" for number in range(2 * size // SHUFFLED_AT_ONCE + 1)]
    files = [path.open("wb") for path in drawers]
    for pairs in _merged(runs):
        triples = _both_orders(pairs, vocabulary)
        chosen = mix(triples["first"].astype(np.uint64) * np.uint64(vocabulary) + triples["second"].astype(np.uint64))
        for number, file in enumerate(files):
            file.write(triples[chosen % np.uint64(len(files)) == number].tobytes())
    for file in files:
        file.close()
    total = 0
    with (folder / "triples").open("wb") as whole:
        for path in drawers:
            triples = np.fromfile(path, TRIPLE)
            keys = triples["second"].astype(np.uint64) * np.uint64(vocabulary) + triples["first"].astype(np.uint64)
            whole.write(triples[np.argsort(mix(keys), kind="stable")].tobytes())
            total += len(triples)
    for path in (*runs, *drawers):
        path.unlink()
    return total


def _run(words: np.ndarray, documents: np.ndarray, seen: int, window: int, vocabulary: int, path: Path) -> Path:
    """The pairs of a stretch, sorted and added up, in a file; the first `seen` words were in the stretch before."""
    keys, counts = [], []
    for apart in range(1, min(window, len(words) - 1) + 1):
        start = max(seen - apart, 0)  # of the pairs, the second word is new
        near = documents[start + apart :] == documents[start:-apart]
        one, other = words[start:-apart][near], words[start + apart :][near]
        keys.append(np.minimum(one, other) * vocabulary + np.maximum(one, other))
        counts.append(np.full(len(one), 1 / apart))
    pairs = _added(np.concatenate(keys or [np.empty(0, np.int64)]), np.concatenate(counts or [np.empty(0)]))
    pairs.tofile(path)
    return path


def _added(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Different keys, ascending, with their counts added up."""
    different, places = np.unique(keys, return_inverse=True)
    pairs = np.empty(len(different), PAIR)
    pairs["pair"], pairs["count"] = different, np.bincount(places, counts, len(different))
    return pairs


def _merged(runs: Sequence[Path]) -> Iterator[np.ndarray]:
    """All pairs in order, each once, in pieces: from every run what is not above the last pair that some piece reaches."""
    size = max(1, MERGED_AT_ONCE // max(len(runs), 1))
    places, held = [0] * len(runs), [np.empty(0, PAIR) for _ in runs]
    while True:
        for index, path in enumerate(runs):
            if not len(held[index]):
                held[index] = np.fromfile(path, PAIR, size, offset=places[index] * PAIR.itemsize)
                places[index] += len(held[index])
        open_runs = [pairs for pairs in held if len(pairs)]
        if not open_runs:
            return
        limit = min(pairs["pair"][-1] for pairs in open_runs)
        ready = [np.searchsorted(pairs["pair"], limit, side="right") for pairs in held]
        together = np.concatenate([pairs[:stop] for pairs, stop in zip(held, ready, strict=True)])
        held = [pairs[stop:] for pairs, stop in zip(held, ready, strict=True)]
        yield _added(together["pair"], together["count"])


def _both_orders(pairs: np.ndarray, vocabulary: int) -> np.ndarray:
    """Triples (a, b, count) and (b, a, count); a word beside itself counts in both orders as well."""
    first, second = np.divmod(pairs["pair"], vocabulary)
    twin = first == second
    counts = np.where(twin, 2, 1) * pairs["count"]
    triples = np.empty(len(pairs) + int((~twin).sum()), TRIPLE)
    triples["first"] = np.concatenate((first, second[~twin]))
    triples["second"] = np.concatenate((second, first[~twin]))
    triples["count"] = np.concatenate((counts, counts[~twin]))
    return triples


def running_words(rows: Any, special_ids: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The words of rows without special tokens, which take no place, and the document of each; in bounded stretches."""
    special = np.zeros(max(special_ids) + 1, dtype=bool)
    special[list(special_ids)] = True
    for tokens, documents in _stretches(rows):
        kept = ~special.take(tokens, mode="clip") | (tokens >= len(special))
        yield tokens[kept].astype(np.int64), documents[kept]


def _stretches(rows: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and their documents: of running text as it stands in the file, else row by row, each row a document."""
    if hasattr(rows, "ids"):
        ends = rows.ends.read(0, len(rows.ends))
        for start in range(0, len(rows.ids), TOKENS_AT_ONCE):
            tokens = rows.ids.read(start, start + TOKENS_AT_ONCE)
            yield tokens, np.searchsorted(ends, np.arange(start, start + len(tokens)), side="right")
        return
    step = max(1, TOKENS_AT_ONCE // max(int(rows.lengths().max()), 1))
    for start in range(0, len(rows), step):
        texts = [example["tokens"] for example in rows.take(range(start, min(start + step, len(rows))))]
        yield np.concatenate(texts), np.repeat(np.arange(start, start + len(texts)), [len(text) for text in texts])


@dataclass
class Triples:
    """Co-occurrence counts as rows: an example has `size` of them as first, second (int32) and count (float32)."""

    path: Path
    total: int
    size: int

    def __len__(self) -> int:
        return -(-self.total // self.size)

    def take(self, indices: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """The examples of some rows."""
        read = (np.fromfile(self.path, TRIPLE, self.size, offset=index * self.size * TRIPLE.itemsize) for index in indices)
        return [{name: triples[name] for name in TRIPLE.names} for triples in read]

    def lengths(self) -> np.ndarray:
        """How many counts each row has."""
        return np.minimum(self.size, self.total - self.size * np.arange(len(self)))

    def longest(self, number: int) -> list[int]:
        """The first rows: only the last one is shorter."""
        return list(range(min(number, len(self))))
