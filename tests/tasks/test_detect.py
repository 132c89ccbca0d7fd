"""Detection."""

import math
import pickle

import pytest
import torch

from ptft.objective import heads
from ptft.tasks.detect import Detect

LABELS = ["disc", "block"]


@pytest.fixture
def make_detect(make_resnet, views):
    def make(size=32, transform="none", threshold=0.05, labels=LABELS):
        model, seen = make_resnet(size, size), views(transform, size=size)
        return Detect(model, seen, len(labels), labels, 32, 1, None, threshold, 0.6, 50).eval()

    return make


@pytest.fixture
def blocks(images):
    """Dark images with bright boxes; class 1 is blue."""

    def make(*placed, size=(32, 32)):
        examples = images([size] * len(placed))
        for example, rows in zip(examples, placed, strict=True):
            example["image"].fill_(20)
            for left, top, right, bottom, label in rows:
                example["image"][:, top:bottom, left:right] = torch.tensor([250, 250, 250 * label]).view(3, 1, 1).byte()
            table = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
            example |= {"boxes": table[:, :4].numpy(), "classes": table[:, 4].long().numpy()}
        return examples

    return make


FOUR = [(2, 2, 14, 14, 0), (16, 4, 30, 28, 1)], [(4, 16, 20, 30, 1)], [], [(1, 1, 9, 12, 0), (12, 14, 31, 31, 0)]


def test_boxes_are_learnt_by_heart(make_detect, blocks, learning, draw):
    objective, examples = make_detect(), blocks(*FOUR[:2])
    batch = objective.collate(examples, learning(2))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    objective.train()
    for _ in range(40):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    objective.eval()
    output = objective(objective.collate(examples, draw(2)))
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert metrics["map_50"].compute() > 0.9
    assert metrics["map_50"].compute() >= metrics["map_75"].compute()
    assert objective.score in metrics


def test_the_loss_counts_once_for_each_image_and_its_parts_are_reported(make_detect, blocks, draw):
    objective = make_detect()
    output = objective(objective.collate(blocks(*FOUR), draw(4)))
    assert output.count == 4
    parts = [total / count for total, count in output.means.values()]
    torch.testing.assert_close(output.loss / 4, sum(parts))
    assert set(output.means) == {"loss_classification", "loss_bbox_regression", "loss_bbox_ctrness"}


def test_images_without_any_box_train_and_score_nothing(make_detect, blocks, learning):
    objective = make_detect()
    output = objective.train()(objective.collate(blocks([], []), learning(2)))
    assert output.loss.isfinite() and output.count == 2
    output = objective.eval()(objective.collate(blocks([], []), learning(2)))
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert math.isnan(metrics["map"].compute())


def test_boxes_follow_the_crop_and_those_left_outside_are_gone(make_detect, blocks, learning):
    objective = make_detect(transform="dense", size=64)
    examples = blocks(*[[(0, 0, 4, 4, 0), (20, 16, 44, 40, 1)]] * 16, size=(64, 64))
    batch = objective.collate(examples, learning(16))
    seen = objective.transform.restore(batch["inputs"]["values"])
    assert (batch["classes"] == 0).sum() < 16
    for (left, top, right, bottom), label, image in zip(batch["boxes"], batch["classes"], batch["image"], strict=True):
        if label == 1:
            inside = seen[image][:, int(top) + 2 : int(bottom) - 2, int(left) + 2 : int(right) - 2]
            assert inside.min() > 0.9
            assert (seen[image].amin(0) > 0.9).sum() == pytest.approx(float((right - left) * (bottom - top)), rel=0.15)


def test_predictions_are_in_the_pixels_of_each_image(make_detect, blocks, draw):
    objective = make_detect(threshold=0.0)
    wide = blocks([(0, 0, 10, 10, 0)], size=(24, 96))
    batch = objective.collate([{"image": example["image"]} for example in wide], draw(1))
    output = objective(batch)
    assert output.loss == 0 and output.count == 0
    (found,) = objective.predict(output, batch)
    assert set(found["labels"]) <= set(LABELS)
    assert len(found["boxes"]) == len(found["scores"]) == len(found["labels"]) > 0
    scale = torch.tensor([3.0, 0.75, 3.0, 0.75])
    torch.testing.assert_close(torch.tensor(found["boxes"]), output.prediction[0]["boxes"] * scale)
    assert max(box[2] for box in found["boxes"]) <= 96 and max(box[3] for box in found["boxes"]) <= 24


def test_other_images_in_the_batch_change_no_box(make_detect, blocks, draw):
    objective, examples = make_detect(threshold=0.0), blocks(*FOUR)
    together = objective(objective.collate(examples, draw(4))).prediction
    for example, expected in zip(examples, together, strict=True):
        (alone,) = objective(objective.collate([example], draw(1))).prediction
        torch.testing.assert_close(alone["scores"], expected["scores"], atol=1e-5, rtol=0)


def test_pictures_show_true_and_found_boxes(make_detect, blocks, draw):
    objective = make_detect()
    batch = objective.collate(blocks(*FOUR), draw(4))
    (picture,) = objective.pictures(batch, objective(batch)).values()
    assert picture.dtype == torch.uint8 and len(picture) == 3


def test_only_the_head_is_thrown_away(make_detect):
    assert all(name.startswith("head.") for name in heads(make_detect()))


def test_a_width_the_head_cannot_normalise_is_refused(make_resnet, views):
    with pytest.raises(ValueError, match="width=48: expected a multiple of 32"):
        Detect(make_resnet(), views(size=32), 2, LABELS, 48, 1, None, 0.05, 0.6, 50)


def test_a_worker_process_makes_the_same_batch(make_detect, blocks, learning):
    objective, batch_of = make_detect(transform="dense"), blocks(*FOUR[:2])
    here, there = (
        collate(batch_of, learning(2)) for collate in (objective.collate, pickle.loads(pickle.dumps(objective.collate)))
    )
    assert torch.equal(here["inputs"]["values"], there["inputs"]["values"])
    assert all(torch.equal(here[name], there[name]) for name in here if isinstance(here[name], torch.Tensor))


def test_a_transform_that_would_leave_boxes_behind_is_refused(make_resnet, views):
    with pytest.raises(ValueError, match="transform.randaugment turns and shears"):
        Detect(make_resnet(), views(size=32, randaugment=9.0), 2, LABELS, 32, 1, None, 0.05, 0.6, 50)
