"""`ptft evaluate protocol=...`: what the features of any model are worth."""

from __future__ import annotations

import numpy as np
import pytest

from ptft.records import read_json

MODEL = ("model.width=4", "model.layers=[1,1,1,1]")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Bright spots over noise; their place says the class."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 60, (80, 12, 12), dtype=np.uint8)
    labels = np.arange(80) % 4
    for image, label in zip(pixels, labels, strict=True):
        image[2 + 5 * (label // 2) :, 2 + 5 * (label % 2) :][:4, :4] += 150
    path = tmp_path_factory.mktemp("images") / "spots.npz"
    np.savez(path, images=pixels, labels=labels)
    return "dataset=image_arrays", f"dataset.path={path}", "dataset.valid_fraction=0.25", "dataset.test_fraction=0.25"


@pytest.fixture(scope="module")
def joint_run(cli, images, tmp_path_factory):
    """A model trained on views for a moment, with a probe beside it."""
    folder = tmp_path_factory.mktemp("joint") / "run"
    answer = cli("pretrain", "objective=simsiam", *images, *MODEL, f"run={folder}", "preset=smoke", "trainer.eval_batches=null")
    assert answer.code == 0, answer.err
    return folder


@pytest.fixture
def probed(cli, tmp_path):
    """The scores that a probe leaves: probed(run, protocol, "split=valid", "weights=initial", ...)."""

    def run(ckpt, protocol, *words):
        answer = cli("evaluate", f"ckpt={ckpt}", f"protocol={protocol}", f"run={tmp_path / 'out'}", *words)
        assert answer.code == 0, answer.err
        (split,) = [word.removeprefix("split=") for word in words if word.startswith("split=")] or ["test"]
        return read_json(tmp_path / "out" / "scores.json")[split]

    return run


@pytest.mark.slow
def test_the_probe_beside_training_and_the_one_afterwards_say_the_same(joint_run, probed):
    online = {split: scores["knn_accuracy"] for split, scores in read_json(joint_run / "scores.json").items()}
    offline = {split: probed(joint_run, "knn", f"split={split}")["knn_accuracy"] for split in ("valid", "test")}
    assert online == pytest.approx(offline, abs=1e-6)


@pytest.mark.slow
def test_protocols_stand_side_by_side_in_the_scores_and_features_in_a_map(joint_run, probed, tmp_path):
    probed(joint_run, "knn")
    found = probed(joint_run, "linear")
    assert found.keys() == {"knn_accuracy", "linear_accuracy"}
    assert 0.25 < found["linear_accuracy"] <= 1
    assert (tmp_path / "out" / "pictures" / "map-test-trained.png").stat().st_size > 1000


@pytest.mark.slow
def test_what_was_trained_does_not_touch_the_initial_weights(joint_run, probed, train, images, tmp_path):
    still = ("optimizer.lr=0.0", "trainer.steps=1", "preset=smoke")
    same = train(tmp_path / "still", "pretrain", "objective=simsiam", *images, *MODEL, *still)
    initial = probed(joint_run, "linear", "weights=initial", "seed=17")
    assert probed(same, "linear", "weights=initial") == initial


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_models_of_text_are_probed_too(protocol, mlm_run, data, probed):
    found = probed(mlm_run, protocol, *data.classes, "split=valid")
    assert 0 <= found[f"{protocol}_accuracy"] <= 1


def test_data_without_labels_and_splits_that_are_not_there_are_refused(mlm_run, joint_run, cli):
    answer = cli("evaluate", f"ckpt={mlm_run}", "protocol=knn", "split=valid")
    assert answer.code == 2 and "class" in answer.complaint
    answer = cli("evaluate", f"ckpt={joint_run}", "protocol=knn", "dataset.test_fraction=0.0")
    assert answer.code == 3 and "no such split" in answer.complaint
