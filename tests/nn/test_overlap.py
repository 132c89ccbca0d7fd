"""BLEU and chrF against sacrebleu, ROUGE against rouge-score."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ptft.nn.overlap import overlap, words

ENGLISH = (
    ["The cat sat on the mat.", "A dog, surely?", "Nothing in common", "the the the", ""],
    [["The cat is on the mat."], ["Surely a dog, isn't it?"], ["quite other words"], ["the cat on the mat"], ["something"]],
)
CHINESE = (["我们明天去北京。", "他喜欢猫 and dogs。"], [["我们明天要去北京。"], ["他喜欢猫和狗。"]])
SEVERAL = (["a small cat sat here", "it rains"], [["a small cat sat there", "the cat sat here"], ["rain falls"]])


def scores(texts, references, tokenize: str = "13a", batch: int = 2) -> dict[str, float]:
    metrics = overlap(tokenize)
    for start in range(0, len(texts), batch):
        for metric in metrics.values():
            metric.update(texts[start : start + batch], references[start : start + batch])
    return {name: metric.compute().item() for name, metric in metrics.items()}


@pytest.mark.parametrize(("pairs", "tokenize"), [(ENGLISH, "13a"), (ENGLISH, "intl"), (CHINESE, "zh"), (CHINESE, "char")])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_bleu_and_chrf_of_a_corpus_are_sacrebleus_however_it_is_divided(pairs, tokenize, batch):
    texts, references = pairs
    found = scores(*pairs, tokenize, batch)
    stream = [one for (one,) in references]
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [stream], tokenize=tokenize).score, abs=1e-9)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [stream]).score, abs=1e-9)
    assert 0 < found["bleu"] < 100


def test_a_text_may_have_several_references():
    texts, references = SEVERAL
    found = scores(*SEVERAL)
    streams = [["a small cat sat there", "rain falls"], ["the cat sat here", None]]
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, streams).score)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        best = [scorer.score_multi(several, text)[name].fmeasure for text, several in zip(*SEVERAL, strict=True)]
        assert found[name] == pytest.approx(sum(best) / 2)
    assert len(references[0]) == 2


def test_rouge_is_that_of_rouge_score():
    found = scores(*ENGLISH)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [scorer.score(one, text)[name].fmeasure for text, (one,) in zip(*ENGLISH, strict=True)]
        assert found[name] == pytest.approx(sum(each) / len(each))


def test_rouge_knows_words_of_other_scripts_and_leaves_latin_ones_as_rouge_score_does():
    assert words("我们 play Tennis_2, été!") == ["我", "们", "play", "tennis", "2", "t"]
    assert words("Привет, мир") == ["привет", "мир"]
    assert scores(*CHINESE)["rouge1"] > 0.7


def test_nothing_written_scores_not_a_number_and_what_is_right_scores_full():
    assert all(math.isnan(metric.compute()) for metric in overlap("13a").values())
    right = ["the cat sat on the mat", "it rains today again"]
    found = scores(right, [[text] for text in right])
    assert found == pytest.approx({"bleu": 100, "chrf": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1})
