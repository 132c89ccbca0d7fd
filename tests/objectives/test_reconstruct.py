"""Reconstruction of images and tables."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score

from ptft.models.autoencoder import Autoencoder
from ptft.models.conv_autoencoder import ConvAutoencoder
from ptft.objective import heads
from ptft.objectives.reconstruct import Reconstruct

IMAGE = [1, 8, 8]


@pytest.fixture
def of_images(plain_view):
    torch.manual_seed(0)
    return Reconstruct(Autoencoder(IMAGE, [32, 8], "relu"), None, 0, plain_view()).eval()


def test_the_loss_is_the_mean_squared_error_of_each_image_summed_over_images(of_images, pictures, draw):
    batch = of_images.collate(pictures(6), draw(6))
    values = batch["inputs"]["values"]
    output = of_images(batch)
    expected = [torch.nn.functional.mse_loss(of_images.model.decode(of_images.model(x[None]))[0], x) for x in values]
    torch.testing.assert_close(output.loss, torch.stack(expected).sum())
    assert output.count == 6


def test_scores_are_in_pixels_from_black_to_white(of_images, pictures, draw):
    batch = of_images.collate(pictures(6), draw(6))
    with torch.no_grad():
        output = of_images(batch)
    total, count = output.means["mse"]
    pixels = batch["inputs"]["values"] * 0.25 + 0.4
    rebuilt = (output.prediction * 0.25 + 0.4).clamp(0, 1)
    assert total / count == pytest.approx((pixels - rebuilt).square().mean().item(), rel=1e-4)
    assert of_images.scores({"loss": 0.5, "mse": 0.01})["psnr"] == pytest.approx(20)


def test_r2_is_the_variance_rebuilt_over_the_whole_evaluation(of_images, pictures, draw):
    metric = of_images.metrics()["r2"]
    seen, made = [], []
    for start in (0, 20, 40):
        output = of_images(of_images.collate(pictures(48)[start : start + 20], draw(20 if start < 40 else 8)))
        metric.update(output.prediction, output.target)
        seen.append(output.target.flatten(1))
        made.append(output.prediction.flatten(1))
    seen, made = torch.cat(seen).detach().numpy(), torch.cat(made).detach().numpy()
    expected = r2_score(seen, made, multioutput="variance_weighted")
    assert metric.compute().item() == pytest.approx(expected, abs=1e-4)


def test_pictures_are_learnt_by_heart(pictures, plain_view, draw, fitted):
    torch.manual_seed(0)
    objective = Reconstruct(ConvAutoencoder(IMAGE, [16, 32], "relu"), None, 0, plain_view())
    batch = objective.collate(pictures(16), draw(16))
    before = objective.eval()(batch)
    after = fitted(objective, batch, 150)(batch)
    assert after.loss < 0.1 * before.loss


def test_a_linear_autoencoder_of_a_table_ends_at_the_principal_components(rows, draw):
    """Baldi & Hornik 1989: the best linear code spans the leading principal components."""
    torch.manual_seed(0)
    objective = Reconstruct(Autoencoder([4], [2], "relu"), None, 0)
    batch = objective.collate(rows(200), draw(200))
    optimizer = torch.optim.LBFGS(objective.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def evaluate():
        optimizer.zero_grad()
        loss = objective(batch).loss
        loss.backward()
        return loss

    optimizer.step(evaluate)
    output = objective(batch)
    values = np.stack([row["features"] for row in rows(200)])
    pca = PCA(2).fit(values)
    best = np.square(values - pca.inverse_transform(pca.transform(values))).mean()
    assert (output.loss / output.count).item() == pytest.approx(best, rel=1e-3)


def test_tables_have_no_pixels_and_no_pictures(rows, draw):
    objective = Reconstruct(Autoencoder([4], [2], "relu"), None, 0).eval()
    batch = objective.collate(rows(5), draw(5))
    output = objective(batch)
    assert output.means == {} and objective.scores({"loss": 1.0}) == {}
    assert objective.pictures(batch, output) == {}


def test_pictures_show_originals_above_reconstructions(of_images, pictures, draw):
    batch = of_images.collate(pictures(5), draw(5))
    (picture,) = of_images.pictures(batch, of_images(batch)).values()
    assert picture.dtype == torch.uint8 and picture.ndim == 3 and len(picture) == 3


def test_nothing_is_thrown_away_after_the_stage(of_images):
    assert heads(of_images) == {}


def test_a_model_that_rebuilds_nothing_but_the_mean_is_reported(of_images, pictures, draw):
    batch = of_images.collate(pictures(30), draw(30))
    values = batch["inputs"]["values"]
    metric = of_images.metrics()["r2"]
    metric.update(values.mean(0, keepdim=True).expand_as(values), values)
    (said,) = of_images.warnings({"r2": metric.compute().item()})
    assert said.startswith("not learning: r2 is")
    assert of_images.warnings({"r2": 0.5}) == []
