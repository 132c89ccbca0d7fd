"""Published weights by name: torchvision's own download code, with files the tests make."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from ptft import pretrained
from ptft.checkpoint import read
from ptft.errors import CheckpointError, MachineError, UserError
from ptft.locate import locate
from ptft.manifest import read_manifest
from ptft.models.densenet import DenseNet
from ptft.models.googlenet import GoogLeNet
from ptft.models.resnet import ResNet
from ptft.state import load_model

OLD_NAMES = {f".{kind}{number}.": f".{kind}.{number}." for kind in ("norm", "conv") for number in (1, 2)}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Publish a state as the weights of a model, on a server in a folder: publish(name, state) -> the server's file.

    As on the real one, the file's name ends in the first digits of its hash.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "server").mkdir()

    def make(name: str, state: dict) -> Path:
        written = io.BytesIO()
        torch.save(state, written)
        digest = hashlib.sha256(written.getvalue()).hexdigest()
        file = tmp_path / "server" / f"{name}-{digest[:8]}.pth"
        file.write_bytes(written.getvalue())
        monkeypatch.setattr(torchvision.models.get_model_weights(name).DEFAULT.value, "url", file.as_uri())
        return file

    return make


@pytest.fixture
def resnet(settings):
    with torch.device("meta"):
        model = ResNet([3, 32, 32], **settings("resnet18"))
    return model.to_empty(device="cpu")


def random_state(name: str, **plain) -> dict:
    """The state of torchvision's own network, drawn at random."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **plain)
    state = network.to_empty(device="cpu").state_dict()
    return {key: torch.rand_like(value) if value.is_floating_point() else value.zero_() for key, value in state.items()}


def cached(file: Path) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / file.name


def test_published_weights_are_downloaded_once_and_land_in_the_model(publish, resnet):
    state = random_state("resnet18")
    file = publish("resnet18", state)
    report = load_model(resnet, pretrained.load("resnet18", resnet))
    assert report.share == 1
    for name, value in resnet.state_dict().items():
        assert torch.equal(value, state[name])
    file.unlink()  # from here on only the cache has it
    assert cached(file).exists()
    assert torch.equal(pretrained.load("resnet18", resnet)["conv1.weight"], state["conv1.weight"])


def test_files_from_before_norms_counted_their_batches_load_too(publish, resnet):
    state = {name: value for name, value in random_state("resnet18").items() if not name.endswith("num_batches_tracked")}
    publish("resnet18", state)
    assert load_model(resnet, pretrained.load("resnet18", resnet)).share == 1
    assert resnet.bn1.num_batches_tracked == 0


@pytest.mark.slow
def test_densenets_old_names_and_googlenets_further_heads_are_understood(publish, settings):
    with torch.device("meta"):
        dense = DenseNet([3, 32, 32], **settings("densenet121"))
        google = GoogLeNet([3, 32, 32], **settings("googlenet"))
    state = random_state("densenet121")
    for new, old in OLD_NAMES.items():
        state = {name.replace(new, old) if "denselayer" in name else name: value for name, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    publish("densenet121", state)
    publish("googlenet", random_state("googlenet", init_weights=False))
    for name, model in (("densenet121", dense), ("googlenet", google)):
        assert load_model(model.to_empty(device="cpu"), pretrained.load(name, model)).share == 1


@pytest.mark.parametrize(
    ("name", "suggestion"), [("resnet19", "resnet18"), ("vgg16bn", "vgg16_bn"), ("inception", "inception_v3")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name, suggestion, resnet):
    for ask in (lambda: pretrained.load(name, resnet), lambda: pretrained.inputs(name)):
        with pytest.raises(UserError, match=f"ckpt=torchvision:{name}: .*'{suggestion}'") as refusal:
            ask()
        assert refusal.value.exit_code == 2


def test_no_network_is_said_in_one_line_with_the_place_where_the_file_may_be_put(publish, resnet):
    file = publish("resnet18", {})
    file.unlink()
    with pytest.raises(MachineError) as refusal:
        pretrained.load("resnet18", resnet)
    (line,) = str(refusal.value).splitlines()
    assert str(cached(file)) in line
    assert file.as_uri() in line


def test_a_download_with_another_hash_is_refused_and_not_kept(publish, resnet):
    file = publish("resnet18", {})
    file.write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="invalid hash value"):
        pretrained.load("resnet18", resnet)
    assert not cached(file).exists()


def test_a_damaged_file_in_the_cache_is_refused_by_name(publish, resnet):
    file = publish("resnet18", random_state("resnet18"))
    pretrained.load("resnet18", resnet)
    cached(file).write_bytes(cached(file).read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=f"{file.name} is damaged"):
        pretrained.load("resnet18", resnet)


@pytest.mark.slow
def test_a_file_of_ones_own_in_its_place_is_taken_and_told_from_the_published_one(publish, resnet):
    file = publish("resnet18", random_state("resnet18"))
    published = pretrained.checkpoint("resnet18")
    mine = random_state("resnet18") | {"conv1.weight": torch.full((64, 3, 7, 7), 0.5)}
    torch.save(mine, cached(file))
    found = pretrained.checkpoint("resnet18")
    assert found != published
    assert (load_file(found / "model.safetensors")["conv1.weight"] == 0.5).all()
    assert [file.name in note for note in read_manifest(found)["identity"]["notes"]] == [True]


def test_a_file_that_would_run_code_is_refused(publish, resnet):
    publish("resnet18", {"conv1.weight": print})
    with pytest.raises(CheckpointError, match="ckpt=torchvision:resnet18"):
        pretrained.load("resnet18", resnet)


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [("resnet18", 224, [0.485, 0.456, 0.406]), ("inception_v3", 299, [0.5] * 3), ("googlenet", 224, [0.5] * 3)],
)
def test_inputs_are_those_the_weights_were_trained_on(name, size, mean):
    found = pretrained.inputs(name)
    assert found["channels"] == 3
    assert found["image_size"] == [size, size]
    assert found["pixel_mean"] == mean


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_the_statistics_of_networks_that_rescale_their_input_are_those_it_amounts_to(name):
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, init_weights=False)
    network.transform_input = True
    pixels = torch.rand(2, 3, 4, 4)
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
    found = pretrained.inputs(name)
    ours = (pixels - torch.tensor(found["pixel_mean"]).view(3, 1, 1)) / torch.tensor(found["pixel_std"]).view(3, 1, 1)
    torch.testing.assert_close(ours, network._transform_input((pixels - mean) / std))


def test_every_name_has_weights():
    names = pretrained.names()
    assert {"resnet18", "resnet50", "vgg16", "vgg11_bn", "googlenet", "inception_v3", "densenet121"} <= set(names)
    assert not [name for name in names if "fcn" in name or "rcnn" in name]
    for name in names:
        assert pretrained.inputs(name)["pixel_std"]


@pytest.mark.slow
def test_published_weights_are_fine_tuned_by_name(publish, cli, tmp_path):
    publish("resnet18", torchvision.models.resnet18(weights=None).state_dict())
    run = tmp_path / "run"
    words = ("dataset=digits", "transform.size=32", "preset=smoke", "trainer.steps=2", "dataset.per_class=4", "device=cpu")
    answer = cli("finetune", "ckpt=torchvision:resnet18", "task=classify", *words, "tuning=frozen", f"run={run}")
    assert answer.code == 0, answer.err
    assert "from torchvision:resnet18" in answer.out and "(100.0% of" in answer.out
    tuned, published = read(locate(str(run)), "model"), read(pretrained.checkpoint("resnet18"), "model")
    assert all(torch.equal(tuned[name], value) for name, value in published.items())


def test_a_name_that_is_not_published_is_answered_in_one_line(cli):
    assert "torchvision:resnet81" in cli("finetune", "ckpt=torchvision:resnet81", "dataset=digits").complaint
