"""The alarm goes off when a network collapses, and only then."""

import pytest

from ptft.records import metrics


@pytest.mark.slow
def test_without_its_stop_gradient_simsiam_collapses_and_that_is_said_although_the_loss_is_lower(cli, tmp_path):
    small = ("objective=simsiam", "model.width=8", "objective.probe_rows=500", "optimizer.weight_decay=0.01")
    steps = ("trainer.steps=200", "trainer.batch_size=64", "trainer.eval_every=null", "trainer.samples=0", "device=cpu")
    found = {}
    for stop in ("true", "false"):
        run = tmp_path / stop
        answer = cli("pretrain", *small, *steps, f"objective.stop_gradient={stop}", f"run={run}")
        assert answer.code == 0, answer.err
        looks = [row for row in metrics(run) if row["split"] == "health"]
        assert [row["step"] for row in looks] == [100, 200]
        assert (looks[-1]["feature_std"] < 0.5) == (stop == "false")
        said = "note: step" in answer.out and "the embeddings are collapsing" in answer.out
        assert said == (stop == "false")
        found[stop] = [row for row in metrics(run) if row["split"] == "valid"][-1]
        assert ("collapsing" in (run / "README.md").read_text()) == (stop == "false")
    assert found["false"]["loss"] < found["true"]["loss"]
    assert found["false"]["feature_std"] < 0.5 < 0.8 < found["true"]["feature_std"]
    assert found["false"]["knn_accuracy"] < found["true"]["knn_accuracy"]
