"""Blocks of running text that begin with documents."""

import pickle

import numpy as np
import pytest

from ptft.data.rows import Blocks
from ptft.nn.aligned import Aligned, blocks

EOS, LENGTH = 5, 16


def one_by_one(sizes: list[int], length: int) -> list[list[int]]:
    """The sizes of the parts of documents in each block, by filling blocks with one document after the other."""
    filled: list[list[int]] = [[]]
    for size in sizes:
        if filled[-1] and sum(filled[-1]) + size > length:
            filled.append([])
        while size > length:
            filled[-1].append(length)
            filled.append([])
            size -= length
        filled[-1].append(size)
    return filled


@pytest.fixture
def running(tmp_path):
    """Rows of running text with documents of these sizes, their [EOS] included."""

    def build(sizes: list[int]) -> Blocks:
        random = np.random.default_rng(0)
        tokens = [np.append(random.integers(6, 100, size - 1), EOS) for size in sizes]
        np.concatenate(tokens).astype("uint16").tofile(tmp_path / "x.ids")
        np.cumsum(sizes, dtype=np.int64).tofile(tmp_path / "x.ends")
        return Blocks(tmp_path / "x.ids", tmp_path / "x.ends", "uint16", LENGTH, EOS)

    return build


SIZES = [3, 12, 1, 16, 2, 40, 5, 3, 17, 15, 1, 33, 7]


@pytest.mark.parametrize("sizes", [SIZES, SIZES[::-1], [1], [16] * 3, [100], [1] * 40, [17, 17]], ids=str)
def test_blocks_are_those_of_filling_them_with_one_document_after_the_other(sizes):
    bounds = blocks(np.cumsum(sizes), sum(sizes), LENGTH)
    assert np.diff(bounds).tolist() == [sum(parts) for parts in one_by_one(sizes, LENGTH) if parts]


def test_every_block_begins_with_a_document_that_fits_one(running):
    sizes = [size for size in SIZES if size <= LENGTH]
    rows = Aligned(running(sizes))
    begins = {0, *np.cumsum(sizes).tolist()}
    assert {int(bound) for bound in rows.bounds[:-1]} <= begins
    assert all(example["tokens"][-1] == EOS for example in rows.take(range(len(rows))))


def test_every_token_is_in_one_block_with_its_document_and_what_follows(running):
    plain = running(SIZES)
    rows = pickle.loads(pickle.dumps(Aligned(plain)))
    examples, whole = rows.take(range(len(rows))), plain.take(range(len(plain)))
    for name in ("tokens", "documents"):
        found, expected = (np.concatenate([example[name] for example in side]) for side in (examples, whole))
        assert np.array_equal(found, expected)
    assert [example["next"] for example in examples] == [*(int(example["tokens"][0]) for example in examples[1:]), -1]
    assert [example["row"] for example in examples] == list(range(len(rows)))
    assert rows.lengths().tolist() == [len(example["tokens"]) for example in examples]
    assert max(rows.lengths()) <= LENGTH and rows.lengths()[rows.longest(2)].tolist() == [16, 16]


def test_what_is_empty_and_where_blocks_begin_is_counted(running):
    told = "3 blocks begin with a document, 1 within one that is longer; 25.0% of their places are empty, no token is left out"
    assert str(Aligned(running([10, 10, 20, 8]))) == told
