"""Weights in files of other programs: the layouts they document, made here with torchvision and by hand."""

from __future__ import annotations

import zipfile
from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file

from ptft import resolve, weight_files
from ptft.checkpoint import read
from ptft.errors import CheckpointError, UserError
from ptft.pretrained import settings


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    return {key: value + 7 if key.endswith("tracked") else value for key, value in state.items()}


LAYOUTS = {
    "plain": lambda state, other: state,
    "ddp": lambda state, other: under("module.", state),
    "compile": lambda state, other: under("_orig_mod.", state),
    "ddp of compile": lambda state, other: {"model": under("_orig_mod.module.", state)},
    "lightning": lambda state, other: {"state_dict": under("model.", state), "epoch": 3, "pytorch-lightning_version": "2"},
    "timm": lambda state, other: {"arch": "resnet18", "state_dict": state, "state_dict_ema": other, "args": Namespace(lr=1)},
    "dino": lambda state, other: {
        "student": under("module.backbone.", other) | {"module.head.mlp.0.weight": torch.ones(2, 2)},
        "teacher": under("backbone.", state) | {"head.mlp.0.weight": torch.ones(2, 2)},
        "args": Namespace(arch="resnet18"),
    },
    "solo": lambda state, other: {"state_dict": under("backbone.", state) | under("momentum_backbone.", other)},
    "moco": lambda state, other: {
        "state_dict": under("module.encoder_q.", state) | under("module.encoder_k.", other) | {"module.queue": torch.ones(2, 2)}
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_residual_network_lands_bit_for_bit_from_every_documented_layout(layout, resnet, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](resnet, {key: value + 1 for key, value in resnet.items()}), path)
    found = weight_files.imported("resnet18", path)
    trunk = {key: value for key, value in resnet.items() if not key.startswith("fc.")}
    assert found.model.keys() == trunk.keys()
    assert all(torch.equal(found.model[key], value) for key, value in trunk.items())
    assert any("tensors were not taken" in note for note in found.notes)


def test_half_precision_safetensors_and_a_small_stem_are_read(resnet, tmp_path):
    small = resnet | {"conv1.weight": torch.randn(64, 1, 3, 3)}
    save_file(
        {key: value.half() if value.is_floating_point() else value for key, value in small.items()}, tmp_path / "w.safetensors"
    )
    found = weight_files.imported("resnet18", tmp_path / "w.safetensors")
    assert found.parts["model"]["stem"] == "small"
    assert found.inputs["channels"] == 1 and len(found.inputs["pixel_mean"]) == 1
    assert torch.equal(found.model["conv1.weight"], small["conv1.weight"].half().float())


def vision_transformer(dim, layers, hidden, patch, side):
    """A state by the names that timm, DINO, MAE and solo-learn share."""
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 1 + side * side, dim)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, patch, patch), "patch_embed.proj.bias": (dim,)}
    linear = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (hidden, dim), "mlp.fc2": (dim, hidden)}
    for layer in range(layers):
        shapes |= {f"blocks.{layer}.{name}.weight": shape for name, shape in linear.items()}
        shapes |= {f"blocks.{layer}.{name}.bias": shape[:1] for name, shape in linear.items()}
        shapes |= {f"blocks.{layer}.norm{n}.{part}": (dim,) for n in (1, 2) for part in ("weight", "bias")}
    shapes |= {"norm.weight": (dim,), "norm.bias": (dim,)}
    torch.manual_seed(1)
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}


def features(state, images, heads, patch):
    """What a vision transformer computes (2010.11929, equations 1 to 4), written down once more."""
    dim = state["cls_token"].shape[-1]
    x = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch).flatten(2).mT
    x = torch.cat((state["cls_token"].expand(len(x), -1, -1), x), 1) + state["pos_embed"]
    layers = sum(name.endswith("attn.qkv.weight") for name in state)
    for layer in range(layers):
        part = {name.removeprefix(f"blocks.{layer}."): value for name, value in state.items() if f"blocks.{layer}." in name}
        y = F.layer_norm(x, (dim,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        q, k, v = F.linear(y, part["attn.qkv.weight"], part["attn.qkv.bias"]).unflatten(-1, (3, heads, -1)).unbind(2)
        share = torch.softmax(torch.einsum("bthd,bshd->bhts", q, k) / (dim / heads) ** 0.5, -1)
        y = torch.einsum("bhts,bshd->bthd", share, v).flatten(2)
        x = x + part.get("ls1.gamma", 1) * F.linear(y, part["attn.proj.weight"], part["attn.proj.bias"])
        y = F.layer_norm(x, (dim,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        y = F.gelu(F.linear(y, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
        x = x + part.get("ls2.gamma", 1) * F.linear(y, part["mlp.fc2.weight"], part["mlp.fc2.bias"])
    return F.layer_norm(x, (dim,), state["norm.weight"], state["norm.bias"], 1e-6)


@pytest.mark.parametrize("layout", ["timm", "mae", "dino", "solo"])
def test_a_vision_transformer_computes_what_its_file_says(layout, tmp_path):
    node = settings("vit")
    state = vision_transformer(node["dim"], node["layers"], node["hidden"], 8, 3)
    beside = {"decoder_embed.weight": torch.ones(2, 2), "mask_token": torch.ones(1, 1, 2)}
    wrapped = {"timm": state | {"head.weight": torch.ones(2, 2)}, "mae": {"model": state | beside}}
    wrapped |= {"dino": {"teacher": under("backbone.", state)}, "solo": {"state_dict": under("backbone.", state)}}
    torch.save(wrapped[layout], tmp_path / "vit.pth")
    found = weight_files.imported("vit", tmp_path / "vit.pth")
    assert found.inputs["image_size"] == [24, 24] and found.parts["model"]["patch"] == 8
    model = resolve.resolve("model", found.parts["model"], {"input_shape": [3, 24, 24]})
    model.load_state_dict(found.model)
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(model.eval()(images), features(state, images, node["heads"], 8), atol=1e-4, rtol=1e-4)


def test_scales_at_the_end_of_each_half_of_a_layer_are_a_part_of_the_maps_before_them(tmp_path):
    node = settings("vit")
    state = vision_transformer(node["dim"], node["layers"], node["hidden"], 14, 3)
    scales = {f"blocks.{n}.ls{half}.gamma": torch.rand(node["dim"]) for n in range(node["layers"]) for half in (1, 2)}
    torch.save({"teacher": under("backbone.", state | scales | {"mask_token": torch.ones(1, 3)})}, tmp_path / "vit.pth")
    found = weight_files.imported("vit", tmp_path / "vit.pth")
    model = resolve.resolve("model", found.parts["model"], {"input_shape": [3, 42, 42]})
    model.load_state_dict(found.model)
    images = torch.randn(2, 3, 42, 42)
    torch.testing.assert_close(model.eval()(images), features(state | scales, images, node["heads"], 14), atol=1e-4, rtol=1e-4)
    assert not any("gamma" in note for note in found.notes)


@pytest.mark.parametrize(
    ("extra", "shape"),
    [
        ("register_tokens", (1, 4, 8)),
        ("reg_token", (1, 4, 8)),
        ("dist_token", (1, 1, 8)),
        ("blocks.0.attn.q_norm.weight", (8,)),
    ],
)
def test_a_vision_transformer_with_parts_that_ours_does_not_have_is_refused_by_their_names(extra, shape, tmp_path):
    node = settings("vit")
    state = vision_transformer(node["dim"], node["layers"], node["hidden"], 8, 3) | {extra: torch.ones(shape)}
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=f"model=vit has no {extra}, and computes something else without"):
        weight_files.imported("vit", tmp_path / "vit.pth")


def test_the_grid_that_positions_are_taken_for_is_told_and_one_that_is_not_square_is_refused(tmp_path):
    node = settings("vit")
    state = vision_transformer(node["dim"], node["layers"], node["hidden"], 8, 4)
    torch.save(state, tmp_path / "square.pth")
    notes = weight_files.imported("vit", tmp_path / "square.pth").notes
    assert any("its 16 positions are taken for 4 rows of 4 patches" in note for note in notes)
    torch.save(state | {"pos_embed": torch.ones(1, 1 + 14 * 20, node["dim"])}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="pos_embed has 281 rows, expected a class token and a square grid"):
        weight_files.imported("vit", tmp_path / "wide.pth")


def test_an_unknown_prefix_is_refused_with_names_from_both_sides_and_taken_where_it_is_given(resnet, tmp_path):
    path = tmp_path / "odd.pth"
    torch.save(under("trunk.online.", resnet), path)
    with pytest.raises(CheckpointError) as refused:
        weight_files.checkpoint(f"resnet18:{path}")
    said = str(refused.value)
    assert "bn1.bias, bn1.running_mean, bn1.running_var" in said and "trunk.online.bn1.bias" in said
    assert f"ckpt=weights:resnet18:{path}:trunk.online. finds 120" in said
    saved = read(weight_files.checkpoint(f"resnet18:{path}:trunk.online."), "model")
    assert torch.equal(saved["layer4.1.conv2.weight"], resnet["layer4.1.conv2.weight"])


def test_a_prefix_goes_from_the_beginning_only(resnet, tmp_path):
    torch.save(resnet | {"layer1.module.conv1.weight": torch.ones(1)}, tmp_path / "w.pth")
    found = weight_files.imported("resnet18", tmp_path / "w.pth")
    assert any("layer1.module.conv1.weight" in note for note in found.notes)


@pytest.mark.parametrize(
    ("model", "said"), [("resnet34", "80 of the 216 tensors of model=resnet34"), ("resnet50", "tensors of model=resnet50")]
)
def test_the_file_of_another_model_is_refused(model, said, resnet, tmp_path):
    torch.save(resnet, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=said):
        weight_files.imported(model, tmp_path / "w.pth")


def test_a_width_that_is_not_the_models_is_named(resnet, tmp_path):
    torch.save(resnet, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="conv1.weight is 64x3x7x7, and in model=resnet_small 16x3x7x7"):
        weight_files.imported("resnet_small", tmp_path / "w.pth")


class Runs:
    """What would leave a mark where it is unpickled."""

    def __reduce__(self):
        return (open, ("marker", "w"))


@pytest.mark.parametrize("kind", ["code", "bomb", "text", "empty", "nothing"])
def test_a_file_that_would_run_code_or_is_none_of_weights_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    if kind == "code":
        torch.save({"model": Runs()}, path)
    elif kind == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("w/data.pkl", bytes(1 << 24))
    elif kind == "nothing":
        torch.save([1, 2], path)
    else:
        path.write_text("<html>" * (kind == "text"))
    with pytest.raises(CheckpointError, match="w.pth"):
        weight_files.imported("resnet18", path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet81:w.pth", "did you mean 'resnet18'"),
        ("resnet18:none.pth", "no file 'none.pth'"),
        ("w.pth", "weights:MODEL:FILE"),
    ],
)
def test_a_slip_is_answered_in_one_line(name, said):
    with pytest.raises(UserError, match=said) as refused:
        weight_files.checkpoint(name)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_run_starts_from_such_a_file(resnet, cli, tmp_path):
    torch.save({"state_dict": under("module.", resnet)}, tmp_path / "w.pth")
    words = ("dataset=digits", "transform.size=32", "preset=smoke", "trainer.steps=2", "dataset.per_class=4", "device=cpu")
    ckpt = f"ckpt=weights:resnet18:{tmp_path / 'w.pth'}"
    answer = cli("finetune", ckpt, "task=classify", *words, f"run={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "from weights:resnet18" in answer.out and "(100.0% of" in answer.out
