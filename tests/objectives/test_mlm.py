"""Masking against its definition, the loss against another library's BERT."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from ptft.data.vocabulary import WordPiece
from ptft.nn.masking import filled
from ptft.objective import heads
from ptft.objectives.mlm import MLM

BERT = {"positions": "learned", "segments": 2, "norm": "post", "eps": 1e-12}
SETTINGS = {"mask_prob": 0.15, "mask_share": 0.8, "random_share": 0.1, "whole_word": False}


@pytest.fixture
def make_mlm(make_transformer, tokenizer):
    return lambda model=None, **changes: MLM(
        model or make_transformer(max_length=128), tokenizer, **(SETTINGS | changes)
    ).eval()


@pytest.fixture
def texts(tokenizer):
    """Rows of ordinary tokens of many lengths, with an end token inside, as packed blocks have."""

    def make(count: int, longest: int = 126) -> list[dict]:
        random = np.random.default_rng(0)
        rows = [random.integers(6, tokenizer.vocab_size, random.integers(1, longest + 1)) for _ in range(count)]
        for row in rows:
            row[len(row) // 2 :: 50] = tokenizer.eos_id
        return [{"tokens": row} for row in rows]

    return make


def originals(batch: dict) -> torch.Tensor:
    """The tokens before they were corrupted."""
    tokens = batch["inputs"]["tokens"].clone()
    tokens.view(-1)[batch["index"]] = batch["targets"]
    return tokens


def hidden(batch: dict) -> torch.Tensor:
    where = torch.zeros(batch["inputs"]["tokens"].numel(), dtype=torch.bool)
    where[batch["index"]] = True
    return where.view_as(batch["inputs"]["tokens"])


def test_the_share_of_hidden_tokens_is_exact_in_every_text(make_mlm, texts, draw):
    examples = texts(300)
    batch = make_mlm().collate(examples, draw(300))
    for row, example in zip(hidden(batch), examples, strict=True):
        ordinary = int((example["tokens"] >= 6).sum())
        assert row.sum() == (max(1, round(0.15 * ordinary)) if ordinary else 0)


def test_of_the_hidden_tokens_eight_in_ten_are_masked_one_random_one_kept(make_mlm, texts, draw, tokenizer):
    batch = make_mlm().collate(texts(1000), draw(1000))
    seen, true = batch["inputs"]["tokens"].view(-1)[batch["index"]], batch["targets"]
    count, vocabulary = len(true), tokenizer.vocab_size - 6
    kept = 0.1 + 0.1 / vocabulary  # a random token may be the true one
    for found, share in ((seen == tokenizer.mask_id, 0.8), (seen == true, kept)):
        assert abs(found.float().mean() - share) < 3 * (share * (1 - share) / count) ** 0.5
    strangers = seen[(seen != true) & (seen != tokenizer.mask_id)]
    assert strangers.min() >= 6
    assert len(strangers.unique()) > 0.9 * vocabulary


def test_specials_and_padding_are_never_hidden_and_all_else_is_untouched(make_mlm, texts, draw, tokenizer):
    examples = texts(200)
    batch = make_mlm().collate(examples, draw(200))
    where, tokens = hidden(batch), batch["inputs"]["tokens"]
    assert batch["targets"].min() >= 6
    before = originals(batch)
    assert torch.equal(tokens[~where], before[~where])
    for row, mask, example in zip(before, batch["inputs"]["mask"], examples, strict=True):
        assert row[mask].tolist() == [tokenizer.cls_id, *example["tokens"], tokenizer.sep_id]
        assert (row[~mask] == tokenizer.pad_id).all()


def test_masks_depend_on_seed_epoch_and_row_and_on_nothing_else(make_mlm, texts, draw):
    collate, examples = make_mlm().collate, texts(16)
    whole = collate(examples, draw(16))
    again = collate(examples, draw(16))
    assert torch.equal(whole["inputs"]["tokens"], again["inputs"]["tokens"])
    alone = collate(examples[:1], draw(1))["inputs"]["tokens"][0]
    assert torch.equal(whole["inputs"]["tokens"][0, : len(alone)], alone)
    for other in (draw(16, epoch=1), draw(16, seed=1)):
        assert not torch.equal(collate(examples, other)["inputs"]["tokens"], whole["inputs"]["tokens"])


def test_whole_words_are_hidden_with_all_their_pieces(make_mlm, draw, tokenizer):
    text = tokenizer.encode(["To be, or not to be, that is the outrageous unquestionable fortune"])[0]
    batch = make_mlm(whole_word=True, mask_prob=0.4).collate([{"tokens": text}] * 200, draw(200))
    words = tokenizer.starts_word[text].cumsum()
    wanted = round(0.4 * len(text))
    for row in hidden(batch)[:, 1:-1].numpy():
        assert 1 <= row.sum() <= wanted
        for word in set(words):
            assert row[words == word].all() or not row[words == word].any()
    assert hidden(batch).sum() > 0.9 * wanted * 200


def test_one_word_longer_than_the_share_is_hidden_all_the_same(make_mlm, draw, tokenizer):
    piece = tokenizer.encode(["question"])[0][-1:]
    assert not tokenizer.starts_word[piece[0]]
    text = np.concatenate((tokenizer.encode([" q"])[0], np.repeat(piece, 9)))
    batch = make_mlm(whole_word=True).collate([{"tokens": text}], draw(1))
    assert len(batch["targets"]) == len(text)


def test_loss_and_gradient_equal_those_of_bert_given_its_weights(make_mlm, make_transformer, texts, draw, bert_weights):
    model = make_transformer(**BERT, max_length=128)
    torch.manual_seed(1)
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    theirs = BertForMaskedLM(BertConfig(vocab_size=model.token_embedding.num_embeddings, max_position_embeddings=128, **config))
    theirs.eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = make_mlm(model)
    transform = theirs.cls.predictions.transform
    model.load_state_dict(bert_weights(theirs.bert))
    ours.dense.load_state_dict(transform.dense.state_dict())
    ours.norm.load_state_dict(transform.LayerNorm.state_dict())
    ours.bias.data.copy_(theirs.cls.predictions.bias)
    batch = ours.collate(texts(8), draw(8))
    labels = torch.where(hidden(batch), originals(batch), -100)
    inputs = batch["inputs"]
    expected = theirs(inputs["tokens"], attention_mask=inputs["mask"], labels=labels).loss
    output = ours(batch)
    found = output.loss / output.count
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found.backward()
    expected.backward()
    embedding = theirs.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(model.token_embedding.weight.grad, embedding.grad, atol=1e-5, rtol=0)


def test_sums_and_counts_of_ragged_micro_batches_add_up_to_the_big_batch(make_mlm, texts, draw):
    objective, examples = make_mlm(), texts(12)
    batch = objective.collate(examples, draw(12))
    whole = objective(batch)
    rows = draw(12)
    losses, count = 0.0, 0
    for part in (slice(0, 3), slice(3, 12)):
        piece = objective.collate(examples[part], type(rows)(0, rows.epoch[part], rows.row[part]))
        output = objective(piece)
        losses, count = losses + output.loss, count + output.count
    assert count == whole.count
    torch.testing.assert_close(losses, whole.loss, rtol=1e-5, atol=0)


def test_the_head_shares_its_matrix_and_is_all_that_is_thrown_away(make_mlm):
    assert set(heads(make_mlm())) == {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias"}


def test_a_text_is_learnt_by_heart_under_ever_new_masks(make_mlm, make_transformer, tokenizer, draw):
    objective = make_mlm(make_transformer(positions="learned"))
    examples = [{"tokens": tokenizer.encode(["to be, or not to be, that is the question"])[0]}] * 16
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for step in range(50):
        output = objective(objective.collate(examples, draw(16, epoch=step)))
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    output = objective(objective.collate(examples, draw(16, epoch=1000)))
    right, count = output.means["accuracy"]
    assert right / count > 0.95


def test_scores_are_computed_in_evaluation_only(make_mlm, texts, draw):
    objective = make_mlm()
    batch = objective.collate(texts(4), draw(4))
    assert objective(batch).means["accuracy"][1] == len(batch["targets"])
    assert not objective.train()(batch).means
    assert objective.scores({"loss": float(np.log(50))})["perplexity"] == pytest.approx(50)


def test_samples_show_hidden_words_filled_in(tokenizer):
    tokens = tokenizer.encode(["To be, or not to be"])[0].tolist()
    last = len(tokens) - 1
    assert filled(tokenizer, tokens, {last: (tokens[last], tokens[last])}) == "To be, or not to [be]"
    assert filled(tokenizer, tokens, {last: (tokens[0], tokens[last])}) == "To be, or not to [To/be]"
    everything = {place: (token, token) for place, token in enumerate(tokens)}
    assert filled(tokenizer, tokens, everything).replace("[", "").replace("]", "") == "To be, or not to be"


def test_samples_show_hidden_blanks(tokenizer):
    tokens = tokenizer.encode(["be\nor"])[0].tolist()
    place = [tokenizer.decode([token]) for token in tokens].index("\n")
    assert filled(tokenizer, tokens, {place: (tokens[place], tokens[place])}) == "be[\\n]or"


def test_samples_of_wordpieces_keep_the_spaces_between_words():
    tokenizer = WordPiece(vocab_size=60, min_frequency=1, lowercase=True).train(["to be or not to be"] * 3)
    tokens = tokenizer.encode(["to be or not to be"])[0].tolist()
    assert filled(tokenizer, tokens, {1: (tokens[1], tokens[1])}) == "to [be] or not to be"


def test_samples_come_from_the_batch(make_mlm, texts, draw):
    objective = make_mlm()
    batch = objective.collate(texts(6), draw(6))
    lines = objective.samples(batch, objective(batch))
    assert len(lines) == 4 and all("[" in line for line in lines)


@pytest.mark.parametrize("wrong", [{"mask_prob": 0.0}, {"mask_prob": 1.5}, {"mask_share": 0.95}, {"random_share": -0.1}])
def test_shares_out_of_range_are_refused_by_name(make_mlm, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        make_mlm(**wrong)


def test_a_text_that_leaves_no_room_for_its_frame_is_refused(make_mlm, draw):
    with pytest.raises(ValueError, match="127 tokens .* do not fit model.max_length=128"):
        make_mlm().collate([{"tokens": np.arange(6, 133)}], draw(1))


@pytest.mark.parametrize("width", [8, 64])
def test_a_token_embedding_narrower_or_wider_than_the_features_is_met_at_its_own_width(width, make_mlm, texts, draw):
    class Bag(torch.nn.Module):
        traits, dim, max_length = frozenset({"text", "bidirectional"}), 16, 128

        def __init__(self, vocab_size):
            super().__init__()
            self.token_embedding, self.wider = torch.nn.Embedding(vocab_size, width), torch.nn.Linear(width, self.dim)

        def forward(self, tokens, mask):
            return self.wider(self.token_embedding(tokens))

    mlm = make_mlm()
    mlm = make_mlm(Bag(mlm.tokenizer.vocab_size))
    output = mlm(mlm.collate(texts(4), draw(4)))
    output.loss.backward()
    assert mlm.dense.weight.shape == (width, 16) and mlm.norm.weight.shape == (width,)
    assert mlm.model.token_embedding.weight.grad.isfinite().all()
