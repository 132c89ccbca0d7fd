"""Similarity of pairs of texts."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from ptft.tasks.similarity import Similarity


@pytest.fixture
def make_similarity(make_transformer, tokenizer):
    return lambda mean=0.0, std=1.0, pooling="mean": Similarity(make_transformer(), tokenizer, mean, std, pooling).eval()


def pairs(*labels: float) -> list[dict]:
    random = np.random.default_rng(0)
    sizes = [(4 + 3 * place, 9 - place) for place in range(len(labels))]
    texts = [[random.integers(6, 300, size) for size in both] for both in sizes]
    return [{"tokens": a, "pair": b, "label": label} for (a, b), label in zip(texts, labels, strict=True)]


def test_a_pair_has_the_cosine_of_the_embeddings_of_its_texts_alone(make_similarity, draw):
    objective = make_similarity()
    examples = pairs(1.0, 2.0, 3.0)
    found = objective(objective.collate(examples, draw(3))).prediction
    for example, cosine in zip(examples, found, strict=True):
        sides = [objective.collate([example], draw(1))[name] for name in ("inputs", "others")]
        first, second = (objective.model(side["tokens"][side["mask"]][None]).mean(1)[0] for side in sides)
        torch.testing.assert_close(cosine, first @ second / first.norm() / second.norm(), rtol=1e-4, atol=1e-5)


def test_equal_texts_are_as_alike_as_can_be(make_similarity, draw):
    (example,) = pairs(1.0)
    batch = make_similarity().collate([{**example, "pair": example["tokens"]}], draw(1))
    assert make_similarity()(batch).prediction.item() == pytest.approx(1.0, abs=1e-5)


def test_scores_are_rank_and_linear_correlation(make_similarity):
    random = np.random.default_rng(1)
    cosines, labels = random.uniform(-1, 1, 50), random.integers(0, 6, 50).astype(float)  # labels have ties
    metrics = make_similarity().metrics()
    for part in np.split(np.arange(50), [7, 30]):
        for metric in metrics.values():
            metric.update(torch.tensor(cosines[part]).float(), torch.tensor(labels[part]).float())
    assert metrics["spearman"].compute().item() == pytest.approx(spearmanr(cosines, labels).statistic, abs=1e-5)
    assert metrics["pearson"].compute().item() == pytest.approx(pearsonr(cosines, labels).statistic, abs=1e-5)


@pytest.mark.slow
def test_likeness_is_learnt_on_the_scale_of_the_labels(make_similarity, draw):
    labels = [5.0, 1.0, 4.0, 0.0]
    objective = make_similarity(float(np.mean(labels)), float(np.std(labels)))
    batch = objective.collate(pairs(*labels), draw(4))
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in range(80):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert [row["value"] for row in objective.predict(objective(batch), batch)] == pytest.approx(labels, abs=0.5)


@pytest.fixture
def alike(tmp_path):
    """A table of pairs: equal beginnings are alike."""
    path = tmp_path / "pairs.csv"
    rows = [f"the cat sat {n},the {'cat' if n % 2 else 'sun'} sat {n},{4.5 if n % 2 else 0.5}" for n in range(60)]
    path.write_text("one,two,score\n" + "\n".join(rows) + "\n")
    columns = "dataset.text=one", "dataset.text_pair=two", "dataset.label=score"
    return ("dataset=labelled_text", f"dataset.path={path}", *columns)


@pytest.mark.slow
def test_from_the_command_line_pairs_are_learned_scored_and_predicted(cli, alike, tmp_path):
    run = tmp_path / "run"
    small = "model=transformer_tiny", "model.dim=16", "model.heads=2", "tokenizer=byte", "trainer.steps=2", "device=cpu"
    answer = cli("finetune", "ckpt=null", "task=similarity", *small, *alike, f"run={run}")
    assert answer.code == 0, answer.err
    assert {"spearman", "pearson"} <= json.loads((run / "scores.json").read_text())["test"].keys()
    new = tmp_path / "new.csv"
    new.write_text("one,two\nthe cat,the sun\n")
    (row,) = map(json.loads, cli("predict", f"ckpt={run}", f"input={new}").out.splitlines())
    assert -1 <= row["cosine"] <= 1


def test_without_a_second_text_there_is_nothing_to_compare(cli, alike):
    words = [word for word in alike if "pair" not in word.partition("=")[0]]
    answer = cli("finetune", "ckpt=null", "task=similarity", "model=transformer_tiny", "tokenizer=byte", *words)
    assert answer.code == 2
    assert "dataset.text_pair must be given" in answer.complaint
