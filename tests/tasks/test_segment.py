"""Segmentation."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco
from sklearn.metrics import confusion_matrix

from ptft.nn.decoder import IGNORED
from ptft.objective import heads
from ptft.tasks.segment import Segment

LABELS = ["sky", "sea", "sand"]


@pytest.fixture
def make_segment(make_resnet, views):
    def make(head="unet", size=16, transform="none"):
        return Segment(make_resnet(), views(transform, size=size), 3, LABELS, head, 8, 0.0).eval()

    return make


@pytest.fixture
def striped(images):
    """Images whose rows are bright where their class is high."""

    def make(*sizes):
        examples = images(list(sizes))
        for example in examples:
            height, width = example["image"].shape[1:]
            rows = torch.arange(height) * 3 // height
            example["mask"] = rows.view(-1, 1).expand(height, width).to(torch.uint8).clone()
            example["image"] = (example["mask"] * 90 + 20).expand(3, height, width).clone()
        return examples

    return make


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fcn", "unet"])
def test_masks_are_learnt_by_heart(head, make_segment, striped, draw):
    objective = make_segment(head)
    batch = objective.collate(striped((16, 16), (16, 16)), draw(2))
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(40):
        output = objective(batch)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    metrics = objective.metrics()
    for metric in metrics.values():
        metric.update(output.prediction, output.target)
    assert metrics["miou"].compute() > (0.99 if head == "unet" else 0.6)  # fcn sees every eighth pixel only
    assert objective.score in metrics


def test_the_loss_is_cross_entropy_over_all_pixels_but_ignored_ones(make_segment, striped, draw):
    objective, examples = make_segment(), striped((16, 16), (16, 16))
    examples[0]["mask"][:5] = IGNORED
    batch = objective.collate(examples, draw(2))
    output = objective(batch)
    chances = objective.answer(batch["inputs"]).log_softmax(1).permute(0, 2, 3, 1)
    kept = batch["target"] != IGNORED
    expected = -chances[kept].gather(1, batch["target"][kept].unsqueeze(1)).sum()
    torch.testing.assert_close(output.loss, expected)
    assert output.count == 2 * 256 - 5 * 16


def test_what_is_ignored_enters_neither_loss_nor_gradient(make_segment, striped, draw):
    objective, examples = make_segment(), striped((16, 16))
    examples[0]["mask"][:5] = IGNORED
    batch = objective.collate(examples, draw(1))
    weight = objective.head.scores[1].weight
    gradient = torch.autograd.grad(objective(batch).loss, weight)[0]
    scores = objective.answer(batch["inputs"])
    kept = F.cross_entropy(scores[:, :, 5:], batch["target"][:, 5:], reduction="sum")
    torch.testing.assert_close(gradient, torch.autograd.grad(kept, weight)[0])


def test_what_is_said_of_ignored_pixels_enters_no_score(make_segment, striped, draw):
    objective, examples = make_segment(), striped((16, 16))
    examples[0]["mask"][:5] = IGNORED
    output = objective(objective.collate(examples, draw(1)))
    found = []
    for wrong in range(3):
        said = output.prediction[0].clone()
        said[:5] = wrong
        metrics = objective.metrics()
        for metric in metrics.values():
            metric.update([said], output.target)
        found.append({name: metric.compute().numpy() for name, metric in metrics.items()})
    for name, value in found[0].items():
        np.testing.assert_equal(value, found[1][name])
        np.testing.assert_equal(value, found[2][name])
    right = output.prediction[0][5:] == output.target[0][5:]
    assert found[0]["pixel_accuracy"] == right.float().mean()
    assert found[0]["confusion_matrix"].sum() == 11 * 16


def test_a_batch_of_ignored_pixels_only_counts_nothing(make_segment, striped, draw):
    objective, examples = make_segment(), striped((16, 16))
    examples[0]["mask"][:] = IGNORED
    output = objective(objective.collate(examples, draw(1)))
    assert output.count == 0 and output.loss == 0


def test_image_and_mask_are_cut_and_mirrored_alike(make_segment, striped, learning):
    objective = make_segment(transform="dense")
    examples = striped(*[(20, 30)] * 8)
    for example in examples:  # columns as well as rows, so that a mirrored mask shows
        example["mask"] = (torch.arange(20).view(-1, 1) // 10 + torch.arange(30) // 15).to(torch.uint8)
        example["image"] = (example["mask"] * 100).expand(3, 20, 30).clone()
    batch = objective.collate(examples, learning(8))
    seen = objective.transform.restore(batch["inputs"]["values"]).mean(1) * 255 / 100
    assert ((seen - batch["target"]).abs() < 0.6).float().mean() > 0.98
    assert len({mask.numpy().tobytes() for mask in batch["target"]}) > 1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools, when it decodes
def test_predictions_are_run_lengths_at_the_size_of_each_image(make_segment, striped, draw):
    objective = make_segment()
    batch = objective.collate([{"image": example["image"]} for example in striped((20, 30), (16, 10))], draw(2))
    output = objective(batch)
    assert output.count == 0 and output.loss == 0
    for found, size in zip(objective.predict(output, batch), [(20, 30), (16, 10)], strict=True):
        masks = {name: coco.decode(code) for name, code in found["masks"].items()}
        assert all(mask.shape == size for mask in masks.values())
        assert (sum(masks.values()) == 1).all()
        assert list(found["shares"]) == LABELS
        for name, share in found["shares"].items():
            assert share == pytest.approx(masks[name].mean() if name in masks else 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools, when it decodes
def test_scores_are_those_of_the_predicted_masks_beside_the_given_ones_at_the_size_of_each_image(make_segment, striped, draw):
    objective, sizes = make_segment(), [(40, 26), (16, 16), (9, 50), (21, 30), (40, 26)]
    examples = striped(*sizes)
    for example in examples:
        example["mask"][:, :3] = IGNORED
    metrics, pairs = objective.metrics(), []
    for start in (0, 2, 4):
        batch = objective.collate(examples[start : start + 2], draw(len(examples[start : start + 2])))
        output = objective(batch)
        for metric in metrics.values():
            metric.update(output.prediction, output.target)
        plain = [{"image": example["image"]} for example in examples[start : start + 2]]
        batch = objective.collate(plain, draw(len(plain)))
        for found, example in zip(objective.predict(objective(batch), batch), examples[start:], strict=False):
            said = sum(LABELS.index(name) * coco.decode(code).astype(int) for name, code in found["masks"].items())
            pairs.append((example["mask"].numpy(), said))
    truth, said = (np.concatenate([each[side][each[0] != IGNORED] for each in pairs]) for side in (0, 1))
    counts = confusion_matrix(truth, said, labels=range(3))
    assert counts.sum() == sum(height * (width - 3) for height, width in sizes)
    np.testing.assert_array_equal(metrics["confusion_matrix"].compute(), counts)
    overlap = counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())
    np.testing.assert_allclose(metrics["iou"].compute(), overlap, rtol=1e-6)
    assert metrics["miou"].compute() == pytest.approx(np.nanmean(overlap))
    assert metrics["pixel_accuracy"].compute() == pytest.approx(counts.diagonal().sum() / counts.sum())


def test_pictures_show_images_of_several_sizes_as_the_model_sees_them(make_segment, striped, draw):
    objective, examples = make_segment(), striped((40, 26), (16, 50))
    batch = objective.collate(examples, draw(2))
    (mixed,) = objective.pictures(batch, objective(batch)).values()
    batch = objective.collate(striped((16, 16), (16, 16)), draw(2))
    (equal,) = objective.pictures(batch, objective(batch)).values()
    assert mixed.shape == equal.shape


def test_pictures_show_image_truth_and_prediction(make_segment, striped, draw):
    objective, examples = make_segment(), striped((16, 16), (16, 16))
    batch = objective.collate(examples, draw(2))
    (picture,) = objective.pictures(batch, objective(batch)).values()
    assert picture.dtype == torch.uint8 and picture.ndim == 3 and len(picture) == 3


@pytest.mark.parametrize("head", ["fcn", "unet"])
def test_the_layout_that_convolutions_are_fast_in_changes_nothing_else(head, make_segment, striped, draw):
    objective = make_segment(head)
    inputs = objective.collate(striped((16, 16), (16, 16)), draw(2))["inputs"]
    values, layouts = inputs["values"].contiguous(), []
    plain = F.interpolate(objective.head(objective.model.maps(values), values), size=(16, 16), mode="bilinear")
    objective.head.scores.register_forward_pre_hook(lambda _, given: layouts.append(given[0]))
    torch.testing.assert_close(objective.answer(inputs), plain, atol=1e-5, rtol=1e-5)
    assert layouts[0].is_contiguous(memory_format=torch.channels_last) and not layouts[0].is_contiguous()


def test_only_the_head_is_thrown_away(make_segment):
    assert all(name.startswith("head.") for name in heads(make_segment()))


def test_scores_do_not_depend_on_the_batch(make_segment, striped, draw):
    objective, examples = make_segment(), striped(*[(16, 16)] * 5)
    together, apart = objective.metrics(), objective.metrics()
    for size, metrics in ((5, together), (2, apart)):
        for start in range(0, 5, size):
            output = objective(objective.collate(examples[start : start + size], draw(min(size, 5 - start))))
            for metric in metrics.values():
                metric.update(output.prediction, output.target)
    for name in together:
        np.testing.assert_allclose(together[name].compute(), apart[name].compute(), rtol=1e-6)


def test_a_worker_process_makes_the_same_batch(make_segment, striped, learning):
    objective, batch_of = make_segment("unet", transform="dense"), striped((20, 30), (16, 16))
    here, there = (
        collate(batch_of, learning(2)) for collate in (objective.collate, pickle.loads(pickle.dumps(objective.collate)))
    )
    assert torch.equal(here["inputs"]["values"], there["inputs"]["values"])
    assert all(torch.equal(here[name], there[name]) for name in here if isinstance(here[name], torch.Tensor))


def test_a_transform_that_would_leave_masks_behind_is_refused(make_resnet, views):
    with pytest.raises(ValueError, match="transform.randaugment turns and shears"):
        Segment(make_resnet(), views(size=16, randaugment=9.0), 3, LABELS, "fcn", 8, 0.0)
