"""Layout of texts and pairs, padding, positions in packed blocks."""

import numpy as np
import pytest
import torch

from ptft.nn.inputs import input_reader
from ptft.nn.text import Layout, in_pieces, restarting_positions, text_inputs, truncate_pair


def one_by_one(first: int, second: int, room: int) -> tuple[int, int]:
    """BERT's own way: drop a token of the longer text until both fit."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_pairs_are_cut_as_bert_cuts_them():
    for first in range(12):
        for second in range(12):
            for room in range(2, 14):
                assert truncate_pair(first, second, room) == one_by_one(first, second, room)


def test_a_mask_is_made_only_where_there_is_padding():
    assert "mask" not in text_inputs([np.array([7, 8]), np.array([9, 10])], 0)
    inputs = text_inputs([np.array([7, 8, 9]), np.array([9])], 0)
    assert inputs["tokens"].tolist() == [[7, 8, 9], [9, 0, 0]]
    assert inputs["mask"].tolist() == [[True, True, True], [True, False, False]]


def test_positions_restart_with_each_document():
    documents = np.array([[4, 4, 4, 5, 6, 6], [7, 7, 7, 7, 7, 7]])
    assert restarting_positions(documents).tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5]]


def test_bidirectional_models_read_cls_and_separators(make_transformer, tokenizer):
    layout = Layout.of(make_transformer(segments=2), tokenizer)
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    inputs = layout.inputs([{"tokens": np.array([10, 11]), "pair": np.array([12])}, {"tokens": np.array([13])}])
    assert inputs["tokens"].tolist() == [[cls, 10, 11, sep, 12, sep, 0, 0], [cls, 13, sep, 0, 0, 0, 0, 0]]
    assert inputs["segments"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1]]


def test_causal_models_read_the_end_of_the_text_last(make_gpt, tokenizer):
    layout = Layout.of(make_gpt(), tokenizer)
    inputs = layout.inputs([{"tokens": np.array([10, 11])}])
    assert inputs["tokens"].tolist() == [[10, 11, tokenizer.eos_id, 0, 0, 0, 0, 0]]
    assert "segments" not in inputs


def test_batches_of_any_lengths_come_in_few_widths_none_wider_than_the_model_reads(make_transformer, tokenizer):
    read = input_reader(make_transformer(max_length=20), tokenizer)
    for length in range(1, 30):
        inputs = read([{"tokens": np.full(length, 9)}, {"tokens": np.array([9])}], None)
        assert inputs["tokens"].shape[1] == (8 if length <= 6 else 16 if length <= 14 else 20)
        assert inputs["mask"].sum(1).tolist() == [min(length + 2, 20), 3]


def test_features_do_not_depend_on_the_width_of_the_batch(make_transformer, tokenizer):
    model = make_transformer(max_length=20).eval()
    inputs = input_reader(model, tokenizer)([{"tokens": np.arange(10, 17)}], None)
    alone = model(inputs["tokens"][inputs["mask"]][None])
    torch.testing.assert_close(model(**inputs)[inputs["mask"]][None], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("second", [None, np.arange(100, 150)])
def test_long_texts_fill_the_model_and_keep_their_separators(second, make_transformer, tokenizer):
    layout = Layout.of(make_transformer(max_length=20), tokenizer)
    row, begin = layout.arrange(np.arange(200, 240), second)
    assert len(row) == 20
    assert row[0] == tokenizer.cls_id and row[-1] == tokenizer.sep_id and row[begin - 1] == tokenizer.sep_id


def test_rows_in_pieces_keep_their_order_and_are_filled_up_at_the_end():
    values = torch.arange(14).view(2, 7)
    assert torch.equal(in_pieces(values, 1, -1), values)
    assert in_pieces(values, 2, -1).tolist() == [[0, 1, 2, 3], [4, 5, 6, -1], [7, 8, 9, 10], [11, 12, 13, -1]]
    assert in_pieces(values, 4, -1).flatten().tolist() == [*range(7), -1, *range(7, 14), -1]
