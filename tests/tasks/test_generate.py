"""Prompts and completions, sources and targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptft.models.seq2seq import Seq2Seq
from ptft.models.transformer_seq2seq import TransformerSeq2Seq
from ptft.nn.generation import write
from ptft.randomness import Draw
from ptft.tasks.generate import Generate, Translate

DECODING = {"max_tokens": 20, "temperature": 0.0, "num_beams": 1, "length_penalty": 0.6}
SCORING = {"scored_rows": 2, "bleu_tokenize": "13a"}


@pytest.fixture
def make_generate(make_gpt, tokenizer):
    """The task around a small causal model, with settings of the model changed by name."""
    return lambda **changes: Generate(make_gpt(**changes), tokenizer, True, **DECODING, **SCORING).eval()


@pytest.fixture
def make_translate(settings, tokenizer):
    """The task around a small encoder-decoder model."""

    def make(kind=TransformerSeq2Seq, changes: dict | None = None, **model):
        torch.manual_seed(0)
        small = {"dim": 32, "layers": 2, "max_length": 32, "dropout": 0.0}
        name = "seq2seq" if kind is Seq2Seq else "transformer_seq2seq"
        built = kind(vocab_size=tokenizer.vocab_size, **settings(name) | small | model)
        return Generate(built, tokenizer, **{"tie": True, **DECODING, **SCORING, **(changes or {})}).eval()

    return make


def pair(prompt, completion=None, *references: str, text: str = "") -> dict:
    example = {"tokens": np.array(prompt), "references": list(references), "text": text}
    return example if completion is None else example | {"completion": np.array(completion)}


def learnt_by_heart(objective, pairs: list[dict], draw: Draw, rate: float = 3e-3, steps: int = 120):
    """Train on the pairs alone; what is then written for them."""
    optimizer = torch.optim.Adam(objective.parameters(), rate)
    batch = objective.collate(pairs, Draw(0, draw.epoch, draw.row, training=True))
    objective.train()
    for _ in range(steps):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    objective.eval()
    asked = objective.collate([pair(example["tokens"], text=example["text"]) for example in pairs], draw)
    output = objective(asked)
    assert output.count == 0
    return [row["text"] for row in objective.predict(output, asked)]


def ten_pairs(tokenizer) -> list[dict]:
    random = np.random.default_rng(0)
    texts = [" ".join(random.permutation(["to", "be", "or", "not", "that", "is", "the", "question"])[:4]) for _ in range(10)]
    written = (random.integers(6, 300, 1 + place % 5) for place in range(10))
    return [pair(tokens, one, text=text) for text, tokens, one in zip(texts, tokenizer.encode(texts), written, strict=True)]


def test_loss_is_on_the_completion_and_its_end_only(make_generate, draw, tokenizer):
    objective = make_generate()
    sep, eos = tokenizer.sep_id, tokenizer.eos_id
    batch = objective.collate([pair([10, 11, 12], [20, 21]), pair([13], [22])], draw(2))
    assert batch["inputs"]["tokens"].tolist() == [[10, 11, 12, sep, 20, 21, 0, 0], [13, sep, 22, 0, 0, 0, 0, 0]]
    assert batch["targets"].tolist() == [20, 21, eos, 22, eos]
    logits = F.linear(objective.model(**batch["inputs"]), objective.output_weight)
    chosen = torch.cat((logits[0, 3:6], logits[1, 1:3]))
    output = objective(batch)
    torch.testing.assert_close(output.loss, F.cross_entropy(chosen, batch["targets"], reduction="sum"))
    assert output.count == 5


@pytest.mark.parametrize(("prompt", "completion"), [(60, 5), (5, 60), (60, 60)])
def test_long_pairs_are_cut_where_it_hurts_least(prompt, completion, make_generate, draw, tokenizer):
    objective = make_generate(max_length=32)
    begin, end = np.arange(100, 100 + prompt), np.arange(200, 200 + completion)
    batch = objective.collate([pair(begin, end)], draw(1))
    tokens = batch["inputs"]["tokens"][0].tolist()
    length = tokens.index(tokenizer.sep_id)
    assert tokens[:length] == list(range(100, 100 + length)) and length >= min(prompt, 15)
    assert len(tokens) <= 32
    assert batch["targets"][0] == 200
    whole = len(batch["targets"]) == completion + 1
    assert (batch["targets"][-1] == tokenizer.eos_id) == whole == (completion == 5)


@pytest.mark.slow
def test_ten_pairs_learnt_by_heart_are_written_and_end(make_generate, draw, tokenizer):
    pairs = ten_pairs(tokenizer)
    written = learnt_by_heart(make_generate(dim=64), pairs, draw(10))
    assert written == [tokenizer.decode(example["completion"]) for example in pairs]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), [(TransformerSeq2Seq, 5e-3), (Seq2Seq, 1e-2)])
def test_ten_translations_learnt_by_heart_are_written_and_end(kind, rate, make_translate, draw, tokenizer):
    pairs, objective = ten_pairs(tokenizer), make_translate(kind, dim=64)
    expected = [tokenizer.decode(example["completion"]) for example in pairs]
    assert learnt_by_heart(objective, pairs, draw(10), rate, steps=60) == expected
    objective.decoding = replace(objective.decoding, num_beams=4)
    asked = objective.collate(pairs, draw(10))
    assert objective.write(asked["texts"], asked["rows"]) == expected


def test_a_translation_is_learned_after_the_true_tokens_before_it(make_translate, draw, tokenizer):
    objective = make_translate()
    cls, sep, eos = tokenizer.cls_id, tokenizer.sep_id, tokenizer.eos_id
    batch = objective.collate([pair([10, 11, 12], [20, 21]), pair([13], [22])], draw(2))
    assert batch["inputs"]["tokens"].tolist() == [[cls, 10, 11, 12, sep, 0, 0, 0], [cls, 13, sep, 0, 0, 0, 0, 0]]
    assert batch["inputs"]["mask"].tolist() == [[True] * 5 + [False] * 3, [True] * 3 + [False] * 5]
    assert batch["inputs"]["target"].tolist() == [[cls, 20, 21, 0, 0, 0, 0, 0], [cls, 22, 0, 0, 0, 0, 0, 0]]
    assert batch["targets"].tolist() == [20, 21, eos, 22, eos]
    logits = F.linear(objective.model(**batch["inputs"]), objective.output_weight)
    chosen = torch.cat((logits[0, :3], logits[1, :2]))
    output = objective(batch)
    torch.testing.assert_close(output.loss, F.cross_entropy(chosen, batch["targets"], reduction="sum"))
    assert output.count == 5


def test_sources_and_targets_beyond_the_models_length_are_cut_at_their_ends(make_translate, draw, tokenizer):
    objective = make_translate(max_length=8)
    batch = objective.collate([pair(np.arange(10, 30), np.arange(40, 60))], draw(1))
    assert batch["inputs"]["tokens"].tolist() == [[tokenizer.cls_id, *range(10, 16), tokenizer.sep_id]]
    assert batch["targets"].tolist() == list(range(40, 48))


@pytest.mark.parametrize("num_beams", [1, 2])
def test_no_more_is_written_than_the_model_has_places_for(num_beams, make_translate):
    objective = make_translate(max_length=8, changes={"max_tokens": 20, "num_beams": num_beams})
    assert all(len(text) <= 8 for text in write(objective, [[5, 6], [7]], objective.decoding))


def test_written_texts_are_scored_for_the_first_rows_and_at_the_end_for_all(make_translate, draw):
    objective = make_translate()
    pairs = [pair([10 + row], [20], f"reference {row}", text="to be") for row in range(4)]
    batch = objective.collate(pairs, draw(4))
    output = objective(batch)
    assert output.target == [["reference 0"], ["reference 1"]] and len(output.prediction) == 2
    objective.thorough = True
    assert [one for (one,) in objective(batch).target] == [f"reference {row}" for row in range(4)]
    assert objective.train()(batch).prediction is None


def test_scores_of_texts_are_left_out_where_no_row_is_to_be_scored(make_translate):
    objective = make_translate(changes={"scored_rows": 0})
    assert objective.metrics() == {}
    assert set(make_translate().metrics()) == {"bleu", "chrf", "rouge1", "rouge2", "rougeL"}


@pytest.mark.parametrize(("words", "told"), [("13a", True), ("zh", False)])
def test_bleu_of_texts_without_blanks_is_told_of_unless_its_words_are_found(words, told, make_translate, draw):
    objective = make_translate(changes={"bleu_tokenize": words})
    for reference, expected in (("我喜欢你的猫, OK", told), ("I like cats", False)):
        objective(objective.collate([pair([10], [20], reference)], draw(1)))
        found = objective.warnings({"loss": 1.0, "bleu": 2.0})
        assert bool(found) == expected
    assert objective.warnings({"loss": 1.0}) == []


def test_what_is_scored_is_written_as_if_its_reference_were_not_known(make_generate, draw, tokenizer):
    objective = make_generate(max_length=32)
    text = " ".join(["to be or not to be"] * 9)
    (tokens,) = tokenizer.encode([text])
    scored = objective.collate([pair(tokens[:12], np.arange(200, 215), "to be", text=text)], draw(1))
    asked = objective.collate([pair(tokens, text=text)], draw(1))
    assert objective(scored).prediction == [row["text"] for row in objective.predict(objective(asked), asked)]
    assert objective.prompt(text) == [*tokens[:15].tolist(), tokenizer.sep_id], "half is left to write in"
    objective.decoding = replace(objective.decoding, max_tokens=5)
    assert objective.prompt(text) == [*tokens[:25].tolist(), tokenizer.sep_id]


def test_translations_are_chosen_by_a_score_of_texts_if_there_is_one(make_gpt, tokenizer):
    scored, not_scored = (
        Translate(make_gpt(), tokenizer, True, **DECODING, scored_rows=rows, bleu_tokenize="13a") for rows in (2, 0)
    )
    assert scored.score == "chrf" and "chrf" in scored.metrics()
    assert not_scored.score == "loss" and not not_scored.metrics()


def test_a_tied_head_of_another_width_is_refused_by_name(make_translate):
    with pytest.raises(ValueError, match="tie=true: the token embedding is 8 wide and the features are 32"):
        make_translate(Seq2Seq, dim_embedding=8)
    assert make_translate(Seq2Seq, {"tie": False}, dim_embedding=8).head.weight.shape[1] == 32


def test_samples_show_prompt_and_completion(make_generate, draw, tokenizer):
    objective = make_generate()
    batch = objective.collate([pair(tokenizer.encode(["to be"])[0], [20], text="to be")], draw(1))
    (line,) = objective.samples(batch, objective(batch))
    assert line.startswith("to be --> ")


def test_scores_are_perplexity_and_accuracy(make_generate, draw):
    objective = make_generate()
    output = objective(objective.collate([pair([10], [20, 21])], draw(1)))
    assert output.means["accuracy"][1] == 3
    assert objective.scores({"loss": 0.0}) == {"perplexity": 1.0}
