"""Tunings on a small residual network of their own: what moves, how fast, and what is left of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from ptft.errors import CheckpointError, UserError
from ptft.models.transformer import Transformer
from ptft.objective import Objective, Output
from ptft.optimizers import Muon
from ptft.training import Training
from ptft.tuning import Frozen, Full, Gradual, LoRA, Tuning, depths, top_names


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.linear, self.dropout = nn.BatchNorm1d(dim), nn.Linear(dim, dim), nn.Dropout(0.1)

    def forward(self, x):
        return x + self.dropout(functional.gelu(self.linear(self.norm(x))))


class Model(nn.Module):
    traits = frozenset({"text"})

    def __init__(self, layers=3, dim=8, vocabulary=11):
        super().__init__()
        self.dim = dim
        self.token_embedding = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList(Block(dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    @property
    def blocks(self):
        return [self.token_embedding, *self.layers]

    def forward(self, tokens):
        x = self.token_embedding(tokens).mean(1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Classify(Objective):
    def __init__(self, model, tied=False):
        super().__init__(model)
        self.head = nn.Linear(model.dim, 3)
        self.decoder = nn.Linear(model.dim, 11, bias=False)
        if tied:
            self.decoder.weight = model.token_embedding.weight

    def forward(self, batch):
        features = self.model(**batch["inputs"])
        loss = functional.cross_entropy(self.head(features), batch["label"], reduction="sum")
        loss = loss + functional.cross_entropy(self.decoder(features), batch["inputs"]["tokens"][:, 0], reduction="sum")
        return Output(loss, torch.tensor(len(features)))


def objective(layers=3, tied=False, seed=0):
    torch.manual_seed(seed)
    return Classify(Model(layers), tied)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "inputs": {"tokens": torch.randint(11, (16, 5), generator=generator)},
        "label": torch.randint(3, (16,), generator=generator),
    }


def train(tuning, trained, steps=5, progress=lambda step: 0.0, lr=0.01, weight_decay=0.1):
    """A bare loop; returns the optimizer."""
    groups = tuning.groups(trained, lr, weight_decay)
    optimizer = torch.optim.AdamW(groups, fused=True)
    tuning.train_mode(trained)
    for step in range(steps):
        tuning.advance(progress(step))
        output = trained(batch(step))
        (output.loss / output.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


def snapshot(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def moved(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def names_in(groups):
    return [name for group in groups for name in group["names"]]


# full


def test_full_trains_every_parameter_at_one_rate_and_decays_matrices_only():
    trained = objective()
    groups = Full(layer_decay=None).groups(trained, 0.1, 0.5)
    assert sorted(names_in(groups)) == sorted(name for name, _ in trained.named_parameters())
    assert {group["lr"] for group in groups} == {0.1} == {group["base_lr"] for group in groups}
    for group in groups:
        assert {parameter.ndim >= 2 for parameter in group["params"]} == {group["weight_decay"] == 0.5}


def test_steady_parameters_are_groups_of_their_own():
    trained = objective()
    trained.steady = ("model.norm",)
    groups = Full(layer_decay=None).groups(trained, 0.1, 0.5)
    steady = [name for group in groups if group["steady"] for name in group["names"]]
    assert sorted(steady) == ["model.norm.bias", "model.norm.weight"]
    assert all("steady" in group["label"] for group in groups if group["steady"])


def test_steady_parameters_keep_their_rate_while_that_of_others_follows_the_schedule():
    trained, tuning = objective(), Full(layer_decay=None)
    trained.steady = ("model.norm",)
    moving = Training(trained, torch.optim.SGD(tuning.groups(trained, 0.1, 0.0)), tuning)
    moving.set_rates(0.25, 0.5)
    rates = {name: group["lr"] for group in moving.optimizer.param_groups for name in group["names"]}
    assert rates == {name: 0.1 if name.startswith("model.norm") else 0.025 for name in rates}


def test_hidden_matrices_are_those_of_the_layers_alone():
    groups = Full(layer_decay=None).groups(objective(), 0.1, 0.5)
    hidden = [name for group in groups if group["hidden"] for name in group["names"]]
    assert hidden == [f"model.layers.{n}.linear.weight" for n in range(3)]


def test_layer_decay_has_the_published_factors_for_twelve_layers():
    rows = Full(layer_decay=0.65).table(objective(layers=12))
    rates = {row["part"]: row["rate"] for row in rows}
    assert rates["embeddings"] == pytest.approx(0.0037, abs=5e-5)
    assert rates["layer 12"] == 0.65
    assert rates["heads"] == 1.0
    assert rates["layer 1"] == pytest.approx(0.65**12)


def test_layer_decay_reaches_the_groups_and_a_final_norm_counts_with_the_last_layer():
    trained = objective()
    rates = {}
    for group in Full(layer_decay=0.5).groups(trained, 0.8, 0.0):
        rates.update(dict.fromkeys(group["names"], group["base_lr"]))
    assert rates["model.token_embedding.weight"] == pytest.approx(0.05)
    assert rates["model.layers.2.linear.weight"] == rates["model.norm.weight"] == pytest.approx(0.4)
    assert rates["head.weight"] == 0.8


def test_tied_weights_are_trained_once_as_embeddings():
    trained = objective(tied=True)
    groups = Full(layer_decay=0.5).groups(trained, 0.8, 0.0)
    parameters = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(parameters) == len(set(parameters))
    assert depths(trained)["model.token_embedding.weight"] == 0
    assert "decoder.weight" not in names_in(groups)


def test_the_table_counts_every_parameter_once():
    trained = objective(tied=True)
    rows = Full(layer_decay=None).table(trained)
    assert [row["part"] for row in rows] == ["embeddings", "layer 1", "layer 2", "layer 3", "heads"]
    assert sum(row["parameters"] for row in rows) == sum(parameter.numel() for parameter in trained.parameters())


# frozen


@pytest.mark.parametrize(
    ("blocks", "names", "still"),
    [
        ("all", [], {"token_embedding", "layers.0", "layers.1", "layers.2", "norm"}),
        (1, [], {"token_embedding", "layers.0"}),
        (3, [], {"token_embedding", "layers.0", "layers.1", "layers.2", "norm"}),
        (-1, [], {"token_embedding", "layers.0", "layers.1"}),
        (-3, [], {"token_embedding"}),
        (0, ["layers.1.*", "norm.weight"], {"layers.1", "norm.weight"}),
        (1, ["layers.2.linear.*"], {"token_embedding", "layers.0", "layers.2.linear"}),
    ],
)
def test_frozen_weights_and_statistics_do_not_move_and_all_others_do(blocks, names, still):
    trained = objective()
    tuning = Frozen(blocks, names)
    tuning.apply(trained)
    before = snapshot(trained)
    optimizer = train(tuning, trained)
    expected = {name for name in before if not any(name.startswith(f"model.{part}") for part in still)}
    assert moved(before, snapshot(trained)) == expected
    in_optimizer = set(names_in(optimizer.param_groups))
    assert in_optimizer == expected & {name for name, _ in trained.named_parameters()}


def test_frozen_parts_stay_in_evaluation_mode_and_others_train():
    trained = objective()
    tuning = Frozen(1, [])
    tuning.apply(trained)
    trained.eval()
    tuning.train_mode(trained)
    first, second = trained.model.layers[:2]
    assert not first.training and not first.dropout.training
    assert second.training and second.dropout.training and trained.head.training


def test_a_frozen_model_is_a_constant_function_while_its_head_trains():
    trained = objective()
    tuning = Frozen("all", [])
    tuning.apply(trained)
    tuning.train_mode(trained)
    features = trained.model(**batch()["inputs"])
    assert not features.requires_grad
    assert torch.equal(features, trained.model(**batch()["inputs"]))


def test_freezing_what_does_not_exist_is_refused_by_name():
    with pytest.raises(UserError, match=r"tuning\.blocks=9: the model has 3 layers"):
        Frozen(9, []).apply(objective())
    with pytest.raises(UserError, match=r"tuning\.names=layers\.0\.liner\.weight.*did you mean 'layers"):
        Frozen(0, ["layers.0.liner.weight"]).apply(objective())
    with pytest.raises(ValueError, match="^blocks=some"):
        Frozen("some", [])


def test_nothing_left_to_train_is_refused():
    headless = Objective(Model())
    tuning = Frozen("all", [])
    tuning.apply(headless)
    with pytest.raises(UserError, match="tuning=frozen: nothing is left to train"):
        tuning.groups(headless, 0.1, 0.0)


# gradual


def gradual(trained, every="1 epoch"):
    tuning = Gradual(steps=50, steps_per_epoch=10, every=every, ratio=2.6)
    tuning.apply(trained)
    return tuning


def test_gradual_opens_one_more_level_from_the_top_each_epoch():
    trained = objective()
    tuning = gradual(trained)
    depth = depths(trained)
    for step in range(50):
        tuning.advance(step / 50)
        open_levels = {depth[name] for name, parameter in trained.named_parameters() if parameter.requires_grad}
        assert open_levels == set(range(4 - min(step // 10, 4), 5))


def test_gradual_tells_which_levels_a_run_is_too_short_for():
    tuning = gradual(objective(), every=12)
    assert tuning.notes(50) == []
    assert tuning.notes(37) == [
        "tuning=gradual: 4 of 5 levels join in 37 steps, embeddings never train; "
        "train longer, or give tuning.every=0.2 (of the run)"
    ]
    assert "3 of 5 levels join in 36 steps, layer 1, embeddings never train" in tuning.notes(36)[0]
    trained = objective()
    tuning = gradual(trained, every=0.2)
    assert tuning.notes(50) == []


def test_gradual_rates_shrink_by_the_ratio_from_level_to_level():
    trained = objective()
    rates = sorted({group["base_lr"] for group in gradual(trained).groups(trained, 0.01, 0.0)}, reverse=True)
    assert rates == pytest.approx([0.01, 0.003846, 0.001479, 0.000569, 0.000219], abs=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_gradual_neither_moves_nor_decays_what_is_still_frozen(kind):
    trained = objective()
    tuning = gradual(trained)
    before = snapshot(trained)
    optimizer = kind(tuning.groups(trained, 0.01, 0.5))
    tuning.train_mode(trained)
    for step in range(15):
        tuning.advance(step / 50)
        trained(batch(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    still = ("model.token_embedding", "model.layers.0", "model.layers.1")
    assert moved(before, snapshot(trained)) == {name for name in before if not name.startswith(still)}


def test_gradual_unfreezes_into_training_mode_and_moves_everything_in_the_end():
    trained = objective()
    before = snapshot(trained)
    tuning = gradual(trained)
    tuning.train_mode(trained)
    assert not trained.model.layers[0].training
    train(tuning, trained, steps=50, progress=lambda step: step / 50)
    assert trained.model.layers[0].training
    assert moved(before, snapshot(trained)) == set(before)


def test_gradual_is_a_function_of_progress_alone():
    straight, jumping = objective(), objective()
    walked, jumped = gradual(straight), gradual(jumping)
    for step in range(26):
        walked.advance(step / 50)
    for progress in (0.9, 0.5):
        jumped.advance(progress)
    assert [p.requires_grad for p in straight.parameters()] == [p.requires_grad for p in jumping.parameters()]


def test_gradual_leaves_frozen_heads_alone():
    trained = objective()
    trained.decoder.requires_grad_(False)
    tuning = gradual(trained)
    tuning.advance(1.0)
    assert not trained.decoder.weight.requires_grad
    assert "decoder.weight" not in names_in(tuning.groups(trained, 0.1, 0.0))


@pytest.mark.parametrize(("settings", "name"), [({"every": 0}, "every=0"), ({"ratio": 0.5}, "ratio=0.5")])
def test_a_bad_gradual_setting_is_refused_by_name(settings, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        Gradual(**{"steps": 10, "steps_per_epoch": 5, "every": 1, "ratio": 2.6, **settings})


def test_the_decay_of_matrices_can_go_along_half_a_cosine_and_vectors_never_decay():
    trained = objective()
    groups = Full(None).groups(trained, 0.1, weight_decay=0.04, weight_decay_end=0.4)
    training = Training(trained, torch.optim.AdamW(groups), Full(None))
    for progress, decay in ((0.0, 0.04), (0.5, 0.22), (1.0, 0.4)):
        training.set_rates(0.5, progress)
        found = {group["label"].split()[-1]: group["weight_decay"] for group in training.optimizer.param_groups}
        assert found == {"matrices": pytest.approx(decay), "vectors": 0.0}
        assert {group["lr"] for group in training.optimizer.param_groups} == {0.05}


def test_biases_and_norms_can_have_a_rate_of_their_own_which_layer_decay_and_schedule_multiply_too():
    trained = objective()
    groups = Full(layer_decay=0.5).groups(trained, 0.8, 0.0, vector_lr=0.08)
    training = Training(trained, torch.optim.SGD(groups), Full(None))
    for factor in (1.0, 0.25, 0.0):
        training.set_rates(factor, 0.0)
        rates = {name: group["lr"] for group in training.optimizer.param_groups for name in group["names"]}
        assert rates["head.weight"] == pytest.approx(0.8 * factor)
        assert rates["head.bias"] == pytest.approx(0.08 * factor)
        assert rates["model.layers.2.linear.weight"] == pytest.approx(0.4 * factor)
        assert rates["model.layers.2.norm.weight"] == rates["model.norm.bias"] == pytest.approx(0.04 * factor)


# lora


def adapted(trained, targets=("*",), rank=2, seed=0):
    tuning = LoRA(seed=seed, rank=rank, alpha=4.0, targets=list(targets))
    tuning.apply(trained)
    return tuning


def features(model):
    model.eval()
    with torch.no_grad():
        return model(**batch(7)["inputs"])


def test_lora_starts_as_exactly_the_model_it_adapts():
    trained = objective()
    plain = features(trained.model)
    adapted(trained)
    assert torch.equal(features(trained.model), plain)


def test_lora_trains_its_factors_and_the_heads_alone():
    trained = objective()
    tuning = adapted(trained)
    before = snapshot(trained)
    train(tuning, trained)
    changed = moved(before, snapshot(trained))
    factors = {f"model.layers.{n}.linear.parametrizations.weight.0.{part}" for n in range(3) for part in ("up", "down")}
    assert changed == factors | {"head.weight", "head.bias", "decoder.weight"}


def test_merged_lora_weights_give_the_same_features_in_a_plain_model_and_leave_the_trained_one_alone():
    trained = objective()
    tuning = adapted(trained)
    train(tuning, trained, steps=20, lr=0.05)
    before = snapshot(trained)
    plain = Model()
    start = features(plain)
    plain.load_state_dict(tuning.plain_state(trained), strict=True)
    torch.testing.assert_close(features(plain), features(trained.model), atol=1e-5, rtol=0)
    assert not torch.allclose(features(plain), start, atol=1e-2)
    assert not moved(before, snapshot(trained))
    train(tuning, trained, steps=1)


def test_the_merged_update_has_the_rank_it_was_given():
    trained = objective()
    base = trained.model.layers[1].linear.weight.detach().clone()
    tuning = adapted(trained, rank=2)
    train(tuning, trained, steps=20, lr=0.05)
    update = tuning.plain_state(trained)["layers.1.linear.weight"] - base
    values = torch.linalg.svdvals(update)
    assert values[1] > 1e-3 and values[2] < 1e-5


def test_lora_resumes_to_the_bit_from_plain_and_raw_state():
    whole = objective()
    tuning = adapted(whole)
    optimizer = train(tuning, whole, steps=4)
    plain = {name: value.clone() for name, value in tuning.plain_state(whole).items()}
    raw = {name: value.clone() for name, value in tuning.raw_state(whole).items()}

    resumed = objective(seed=99)
    resumed.model.load_state_dict(plain, strict=True)
    again = adapted(resumed, seed=5)
    again.load_raw(resumed, raw)
    resumed.head.load_state_dict(whole.head.state_dict())
    resumed.decoder.load_state_dict(whole.decoder.state_dict())
    assert not moved(snapshot(whole), snapshot(resumed))
    restored = torch.optim.AdamW(again.groups(resumed, 0.01, 0.1), fused=True)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for trained, mover, mode in ((whole, optimizer, tuning), (resumed, restored, again)):
        mode.train_mode(trained)
        torch.manual_seed(3)
        trained(batch(8)).loss.backward()
        mover.step()
    assert not moved(snapshot(whole), snapshot(resumed))


def test_raw_state_of_another_lora_is_refused():
    trained, other = objective(), objective()
    raw = adapted(trained, rank=2).raw_state(trained)
    with pytest.raises(CheckpointError, match="does not fit"):
        adapted(other, rank=1).load_raw(other, raw)
    with pytest.raises(CheckpointError, match="does not fit"):
        Tuning().load_raw(other, raw)


def test_lora_targets_are_name_patterns_and_unknown_ones_are_refused():
    trained = objective()
    tuning = adapted(trained, targets=["layers.0.*", "*.1.linear"])
    assert {name.split(".parametrizations")[0] for name in tuning.raw_state(trained)} == {
        "layers.0.linear",
        "layers.1.linear",
    }
    with pytest.raises(UserError, match=r"tuning\.targets=\[layers\.0\.liner\].*did you mean 'layers\.0\.linear'"):
        adapted(objective(), targets=["layers.0.liner"])


def test_lora_starts_from_the_seed_and_the_layers_name():
    first, second, other = objective(), objective(), objective()
    torch.manual_seed(1)
    states = [
        tuning.raw_state(trained)
        for trained, tuning in ((first, adapted(first)), (second, adapted(second)), (other, adapted(other, seed=1)))
    ]
    name = "layers.0.linear.parametrizations.weight.0.down"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])
    assert not torch.equal(states[0][name], states[0][name.replace(".0.linear", ".1.linear")])


@pytest.mark.parametrize("tuning", [LoRA(0, 2, 4.0, ["*"]), Frozen("all", [])], ids=["lora", "frozen"])
def test_what_a_model_keeps_for_each_task_trains_whatever_is_frozen(tuning):
    trained = objective()
    trained.model.always_trained = ("norm.",)
    tuning.apply(trained)
    free = {name for name in tuning.trained(trained) if name.startswith("model.") and "parametrizations" not in name}
    assert free == {"model.norm.weight", "model.norm.bias"}


def test_what_a_model_keeps_for_each_task_is_no_layer_to_start_fresh():
    class Mixing(Model):
        always_trained = ("norm.",)

        @property
        def blocks(self):
            return [*super().blocks, self.norm]

    fresh = top_names(Mixing(), 1)
    assert {name.partition(".")[0] for name in fresh} == {"layers", "norm"}
    assert {name.split(".")[1] for name in fresh if name.startswith("layers")} == {"2"}
    with pytest.raises(UserError, match="the model has 3 layers"):
        top_names(Mixing(), 4)


def test_lora_adapts_convolutions():
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.layer = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)

        @property
        def blocks(self):
            return [self.stem, self.layer]

        def forward(self, images):
            return self.layer(functional.gelu(self.stem(images)))

    torch.manual_seed(0)
    trained, images = Objective(Images()), torch.randn(2, 1, 8, 8)
    tuning = adapted(trained)
    optimizer = torch.optim.SGD(tuning.groups(trained, 0.1, 0.0))
    trained.model(images).square().mean().backward()
    optimizer.step()
    plain = Images()
    plain.load_state_dict(tuning.plain_state(trained), strict=True)
    torch.testing.assert_close(plain(images), trained.model(images), atol=1e-5, rtol=0)


# any tuning


@pytest.mark.parametrize(
    "tuning",
    [Full(None), Frozen(1, []), Gradual(50, 10, 1, 2.6), LoRA(0, 2, 4.0, ["*"])],
    ids=lambda tuning: type(tuning).__name__,
)
def test_every_tuning_lowers_the_loss_with_muon_and_leaves_plain_weights(tuning):
    trained = objective()
    tuning.apply(trained)
    settings = {"momentum": 0.95, "nesterov": True, "newton_schulz_steps": 5, "betas": (0.9, 0.99), "eps": 1e-8}
    optimizer = Muon(tuning.groups(trained, 0.01, 0.1), lr=0.01, weight_decay=0.1, **settings)
    losses = []
    tuning.train_mode(trained)
    for step in range(30):
        tuning.advance(step / 50)
        loss = trained(batch()).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert tuning.plain_state(trained).keys() == Model().state_dict().keys()


# the real transformer


def transformer(norm="pre"):
    torch.manual_seed(0)
    return Transformer(
        vocab_size=11,
        dim=8,
        layers=2,
        heads=2,
        hidden=16,
        max_length=8,
        positions="learned",
        segments=2,
        norm=norm,
        activation="gelu",
        dropout=0.1,
        bias=True,
        eps=1e-5,
        init_std=0.02,
        local_heads=0,
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_lora_on_a_transformer_changes_its_features_and_merges_into_a_plain_one(norm):
    trained = Objective(transformer(norm))
    start = features(trained.model)
    tuning = adapted(trained)
    assert torch.equal(features(trained.model), start)
    assert len(tuning.raw_state(trained)) == 2 * 4 * 3
    optimizer = torch.optim.AdamW(tuning.groups(trained, 0.05, 0.0))
    for step in range(5):
        trained.model(**batch(step)["inputs"])[..., 0].sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    plain = transformer(norm)
    plain.load_state_dict(tuning.plain_state(trained), strict=True)
    torch.testing.assert_close(features(plain), features(trained.model), atol=1e-5, rtol=0)
    assert not torch.allclose(features(plain), start, atol=1e-2)


def test_the_levels_of_a_transformer_are_its_embeddings_and_layers():
    trained = Objective(transformer())
    levels = {name.removeprefix("model."): depth for name, depth in depths(trained).items()}
    assert {levels[f"embedding.{part}.weight"] for part in ("token", "position", "segment")} == {0}
    assert levels["stack.layers.0.attention.qkv.weight"] == 1
    assert levels["stack.layers.1.feed_forward.outer.bias"] == levels["stack.norm.weight"] == 2
    groups = Full(layer_decay=None).groups(trained, 0.1, 0.0)
    hidden = [name for group in groups if group["hidden"] for name in group["names"]]
    assert len(hidden) == 8 and not any("embedding" in name for name in hidden)


# reinit_top


def test_top_names_are_the_last_layers_and_what_lies_above_them():
    model = Model()
    top = {name for name in model.state_dict() if name.startswith(("layers.2.", "norm."))}
    assert top_names(model, 1) == top
    assert "layers.2.norm.running_mean" in top
    assert top_names(model, 0) == set()
    assert top_names(model, 3) == set(model.state_dict()) - {"token_embedding.weight"}


def test_more_top_layers_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"ckpt_load\.reinit_top=4: the model has 3 layers"):
        top_names(Model(), 4)
