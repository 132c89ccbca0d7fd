"""Detection."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ptft.data.detection import Boxes
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
            example["truth"] = {"boxes": table[:, :4].double().numpy(), "labels": example["classes"]}
        return examples

    return make


FOUR = [(2, 2, 14, 14, 0), (16, 4, 30, 28, 1)], [(4, 16, 20, 30, 1)], [], [(1, 1, 9, 12, 0), (12, 14, 31, 31, 0)]


@pytest.mark.slow
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


def test_images_without_any_box_train_and_score_nothing(make_detect, blocks, learning, draw):
    objective = make_detect()
    output = objective.train()(objective.collate(blocks([], []), learning(2)))
    assert output.loss.isfinite() and output.count == 2
    output = objective.eval()(objective.collate(blocks([], []), draw(2)))
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
    padded = objective.head.padded(batch["inputs"]["values"])
    (seen,) = objective.head.boxes(objective.head(objective.model.maps(padded)), padded, (32, 32))
    torch.testing.assert_close(torch.tensor(found["boxes"]), seen["boxes"] * torch.tensor([3.0, 0.75, 3.0, 0.75]))
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


def test_true_boxes_are_drawn_where_they_are_in_an_image_of_another_size(make_detect, blocks, draw):
    objective = make_detect(threshold=0.0)
    batch = objective.collate(blocks([(0, 0, 40, 12, 0)], size=(24, 96)), draw(1))
    shown = []
    objective.drawn = lambda image, boxes, size: shown.append((boxes, size)) or image
    objective.pictures(batch, objective(batch))
    assert shown[0][0]["boxes"].tolist() == [[0, 0, 40, 12]] and shown[0][1] == (24, 96)
    image = Detect.drawn(objective, torch.zeros(3, 320, 320), *shown[0])
    changed = (image > 0).any(0).nonzero()
    assert changed.amax(0).tolist() == pytest.approx([160, 320 * 40 / 96], abs=4)


def annotated(folder, images=7):
    """COCO's file with things of all areas, some beyond the border, and a crowd in every other of images of many sizes."""
    random = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "cell"}, {"id": 3, "name": "dust"}]}
    for number in range(images):
        size = random.integers(150, 300, 2)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png"})
        for index in range(8):
            sides = random.uniform(10, 60, 2) if index else random.uniform(100, 140, 2)
            crowd = index == 0 and number % 2
            corner = random.uniform(-5, 1, 2) + random.random(2) * (size[::-1] - sides)
            box = {"bbox": [*corner.tolist(), *sides.tolist()], "area": float(sides.prod() * 0.6), "iscrowd": int(crowd)}
            content["annotations"].append(
                box | {"id": 1 + number * 8 + index, "image_id": number, "category_id": 3 + index % 2 * 4}
            )
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def guesses(example, size, random):
    """Boxes near the true ones, some in the crowds and some anywhere, in the pixels that a model sees."""
    truth, rows = example["truth"], []
    for (left, top, right, bottom), label, crowd in zip(truth["boxes"], truth["labels"], truth["iscrowd"], strict=True):
        if crowd:
            rows += [(left + step, top + step, left + step + 30, top + step + 25, label) for step in (0, 20, 40)]
        rows.append((*(np.array([left, top, right, bottom]) + random.normal(0, 3, 4)), label))
    boxes = torch.tensor(np.array(rows), dtype=torch.float32)
    height, width = example["own_size"]
    scores = torch.tensor(random.random(len(rows)), dtype=torch.float32)
    scale = torch.tensor([size[1] / width, size[0] / height] * 2)
    return {"boxes": boxes[:, :4] * scale, "labels": boxes[:, 4].long(), "scores": scores}


def test_scores_are_those_of_pycocotools_for_predictions_and_the_file_as_it_is(make_detect, draw, tmp_path, capsys):
    path, random = annotated(tmp_path), np.random.default_rng(1)
    data = Boxes(str(path), None, None, 0.0, 0.0, 0, "fail", decode_size=200, channels=None)
    data.prepare(target="boxes")
    rows, objective = data.rows("train"), make_detect(labels=data.facts["labels"])
    metrics, told = objective.metrics(), []
    for start in range(0, len(rows), 3):
        examples = [rows[row] for row in range(start, min(start + 3, len(rows)))]
        batch, found = objective.collate(examples, draw(len(examples))), [guesses(each, (32, 32), random) for each in examples]
        objective.head.boxes = lambda said, padded, size, found=found: found
        output = objective(batch)
        for metric in metrics.values():
            metric.update(output.prediction, output.target)
        for example, image in zip(examples, objective.predict(output, batch), strict=True):
            for (left, top, right, bottom), name, score in zip(image["boxes"], image["labels"], image["scores"], strict=True):
                box = {"bbox": [left, top, right - left, bottom - top], "score": score}
                place = {"image_id": int(Path(example["file"]).stem), "category_id": {"cell": 7, "dust": 3}[name]}
                told.append(box | place)
    truth = COCO(str(path))
    evaluation = COCOeval(truth, truth.loadRes(told), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_1", "mar_10", "mar_100")
    expected = dict(zip(names, evaluation.stats, strict=False))
    assert {name: metrics[name].compute().item() for name in names} == pytest.approx(expected, abs=1e-6)
    assert all(0 < value < 1 for value in expected.values())
