"""Models of images and tables: shapes, blocks, and ways back."""

import math

import pytest
import torch
from sklearn.neural_network import MLPRegressor

from ptft.models.autoencoder import Autoencoder
from ptft.models.conv_autoencoder import ConvAutoencoder
from ptft.models.linear import Linear
from ptft.models.mlp import MLP
from ptft.models.vae import VAE
from ptft.models.vqvae import VQVAE
from ptft.tuning import depths

IMAGES = [[1, 28, 28], [3, 8, 8], [1, 5, 9], [3, 33, 18]]
TABLE = [11]
DENSE = {
    "linear": lambda shape: Linear(shape),
    "mlp": lambda shape: MLP(shape, [6, 5], "relu", None, 0.0),
    "autoencoder": lambda shape: Autoencoder(shape, [9, 5], "relu"),
    "vae": lambda shape: VAE(shape, "dense", [9, 7], 5, "relu"),
}
CONVOLUTIONAL = {
    "conv_autoencoder": lambda shape: ConvAutoencoder(shape, [4, 6], "relu"),
    "conv_vae": lambda shape: VAE(shape, "convolutional", [4, 6], 5, "relu"),
    "vqvae": lambda shape: VQVAE(shape, 5, 16, 8, 4, 2),
}
CASES = [(name, shape) for name in DENSE for shape in (*IMAGES, TABLE)]
CASES += [(name, shape) for name in CONVOLUTIONAL for shape in IMAGES]


def make(name: str, shape: list[int]) -> torch.nn.Module:
    torch.manual_seed(0)
    return (DENSE | CONVOLUTIONAL)[name](shape).eval()


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_features_have_the_promised_width_and_decode_to_the_shape_that_came_in(name, shape):
    model, values = make(name, shape), torch.randn(3, *shape)
    features = model(values)
    assert features.shape[:2] == (3, model.dim)
    assert ("image" if len(shape) == 3 else "table") in model.traits
    if "decodes" in model.traits:
        assert model.decode(features).shape == values.shape


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_other_examples_in_the_batch_change_nothing(name, shape):
    model, values = make(name, shape), torch.randn(4, *shape)
    torch.testing.assert_close(model(values)[:1], model(values[:1]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*DENSE, *CONVOLUTIONAL])
def test_blocks_run_in_order_and_hold_no_decoder(name):
    model = make(name, [1, 8, 8])
    inside = [id(parameter) for block in model.blocks for parameter in block.parameters()]
    assert len(inside) == len(set(inside))
    outside = {key for key, parameter in model.named_parameters() if id(parameter) not in inside}
    assert all(key.startswith(("decoder.", "quantizer.")) for key in outside)
    order = [key for key, parameter in model.named_parameters() if id(parameter) in inside]
    assert [id(dict(model.named_parameters())[key]) for key in order] == inside


def test_what_is_in_no_block_counts_with_the_top():
    model = make("autoencoder", [1, 8, 8])
    holder = torch.nn.Module()
    holder.model = model
    found = depths(holder)
    assert {found[name] for name in found if "decoder" in name} == {len(model.blocks) - 1}


def test_the_default_autoencoder_is_784_128_64_32_and_back(settings):
    model = Autoencoder([1, 28, 28], **settings("autoencoder"))
    sizes = [parameter.shape for name, parameter in model.named_parameters() if name.endswith("weight")]
    assert sizes == [(128, 784), (64, 128), (32, 64), (64, 32), (128, 64), (784, 128)]


def test_linear_features_are_the_values():
    values = torch.randn(2, 3, 4, 5)
    model = Linear([3, 4, 5])
    assert model.dim == math.prod([3, 4, 5])
    assert torch.equal(model(values), values.flatten(1))
    assert not list(model.parameters())


def test_a_perceptron_computes_what_scikit_learn_computes():
    other = MLPRegressor(hidden_layer_sizes=(6, 5), activation="relu", random_state=0, max_iter=1)
    values = torch.randn(8, 11)
    with pytest.warns(Warning):
        other.fit(values.numpy(), torch.randn(8).numpy())
    model = make("mlp", TABLE)
    for layer, weight, bias in zip(model.layers, other.coefs_, other.intercepts_, strict=False):
        layer[0].weight.data, layer[0].bias.data = torch.tensor(weight.T), torch.tensor(bias)
    ours = model(values) @ torch.tensor(other.coefs_[-1]) + torch.tensor(other.intercepts_[-1])
    torch.testing.assert_close(ours.squeeze(1).detach(), torch.tensor(other.predict(values.numpy())), atol=1e-5, rtol=1e-4)


def test_a_perceptron_may_have_norms_and_dropout():
    model = MLP(TABLE, [6, 5], "gelu", "batch", 0.5).train()
    values = torch.randn(40, 11)
    assert not torch.equal(model(values), model(values))
    assert torch.equal(model.eval()(values), model(values))


def test_maps_come_from_high_to_low_resolution_and_the_last_are_the_features():
    model, values = make("conv_autoencoder", [1, 21, 16]), torch.randn(2, 1, 21, 16)
    maps = model.maps(values)
    assert [found.shape[1:] for found in maps] == [(4, 11, 8), (6, 6, 4)]
    assert model.map_dims == [4, 6] and model.map_strides == [2, 4]
    assert torch.equal(maps[-1], model(values))


def test_latents_are_mean_and_logarithm_of_variance():
    model, values = make("vae", TABLE), torch.randn(3, 11)
    mean, log_variance = model.encode(values)
    assert torch.equal(mean, model(values))
    assert log_variance.shape == mean.shape
    model.latents.log_variance.bias.data.fill_(1e6)
    assert model.encode(values)[1].exp().isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: MLP(TABLE, [], "relu", None, 0.0), r"widths=\[\]"),
        (lambda: Autoencoder(TABLE, [4, 0], "relu"), r"widths=\[4, 0\]"),
        (lambda: VAE(TABLE, "convolutional", [4], 2, "relu"), "encoder=dense"),
        (lambda: VQVAE([1, 8, 8], 4, 1, 8, 4, 1), "codes=1"),
    ],
)
def test_what_makes_no_model_is_refused_in_words(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
