"""ELMo: what each direction sees, how layers are mixed, and the published size."""

import pytest
import torch

from ptft.models.elmo import BACKWARD, FORWARD, ELMo, Mix, standardised
from ptft.tuning import Frozen, depths

SMALL = {"dim": 16, "hidden": 12, "max_length": 32, "dropout": 0.0}
PUBLISHED = 93_600_864  # of the released weights, which have 262 character codes


@pytest.fixture
def make_elmo(settings, tokenizer):
    """A small model in eval mode, with settings changed by name."""

    def make(**changes) -> ELMo:
        torch.manual_seed(0)
        facts = {"vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer}
        return ELMo(**settings("elmo") | {**facts, **SMALL, **changes}).eval()

    return make


@pytest.fixture
def tokens():
    return torch.randint(320, (2, 12), generator=torch.Generator().manual_seed(0))


KINDS = [{"input": "characters"}, {"input": "tokens"}, {"input": "tokens", "hidden": 8}, {"clip": 3.0}, {"layers": 3}]


@pytest.mark.parametrize("kind", KINDS)
def test_one_direction_sees_no_future_and_the_other_no_past(kind, make_elmo, tokens):
    model = make_elmo(**kind)
    x = model.embedding(tokens).detach().requires_grad_()
    for direction, text in ((FORWARD, x), (BACKWARD, x.flip(1))):
        for layer in model.read(text, direction)[0]:
            layer = layer.flip(1) if direction == BACKWARD else layer
            (gradient,) = torch.autograd.grad(layer[0, 5].sum(), x, retain_graph=True)
            seen = gradient.abs().sum(-1) > 0
            assert not seen[1].any()
            assert seen[0].tolist() == [(place <= 5) if direction == FORWARD else (place >= 5) for place in range(12)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_half_of_the_features_is_from_the_left_and_the_second_from_the_right(kind, make_elmo, tokens):
    model = make_elmo(**kind)
    changed = tokens.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 300
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :6, :8], after[:, :6, :8]) and torch.equal(before[:, 7:, 8:], after[:, 7:, 8:])
    assert (before[:, 6:, :8] != after[:, 6:, :8]).any(-1).all()
    assert (before[:, :7, 8:] != after[:, :7, 8:]).any(-1).all()


@pytest.mark.parametrize("kind", [*KINDS, {"normalise": True}])
def test_padding_changes_no_real_token(kind, make_elmo, tokens):
    model = make_elmo(**kind)
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    found = model(tokens, mask=mask)
    torch.testing.assert_close(found[1, :7], model(tokens[1:, :7])[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[0], model(tokens[:1])[0], atol=1e-6, rtol=0)


def test_only_layers_above_the_first_add_what_comes_in(make_elmo, tokens):
    model = make_elmo()
    for layer in model.layers:
        for lstm in layer:
            for parameter in lstm.parameters():
                parameter.data.zero_()
    first, second = model.read(model.embedding(tokens), FORWARD)[0]
    assert not first.any() and not second.any()  # the token layer is skipped by nothing
    torch.manual_seed(1)
    for parameter in model.layers[0][FORWARD].parameters():
        torch.nn.init.normal_(parameter)
    first, second = model.read(model.embedding(tokens), FORWARD)[0]
    assert first.any() and torch.equal(first, second)


def test_features_start_as_the_mean_of_the_layers_with_the_token_layer_twice(make_elmo, tokens):
    model = make_elmo()
    x = model.embedding(tokens)
    ahead, back = model.read(x, FORWARD)[0], model.read(x.flip(1), BACKWARD)[0]
    layers = [torch.cat((x, x), dim=-1)]
    layers += [torch.cat((one, other.flip(1)), dim=-1) for one, other in zip(ahead, back, strict=True)]
    torch.testing.assert_close(model(tokens), torch.stack(layers).mean(0), atol=1e-6, rtol=0)


def test_a_mixture_is_gamma_times_the_weighted_layers():
    mix, layers = Mix(3, normalise=False), [torch.randn(2, 4, 5) for _ in range(3)]
    mix.weight.data, mix.gamma.data = torch.tensor([0.0, 1.0, 2.0]).log(), torch.tensor(3.0)
    torch.testing.assert_close(mix(layers, None), 1.0 * layers[1] + 2.0 * layers[2])


def test_normalised_layers_have_mean_0_and_variance_1_over_the_real_tokens_of_each_text():
    x, mask = 5 + 3 * torch.randn(2, 6, 4), torch.arange(6) < torch.tensor([[6], [2]])
    for row, kept in zip(standardised(x, mask), mask, strict=True):
        assert row[kept].mean() == pytest.approx(0, abs=1e-6)
        assert row[kept].var(unbiased=False) == pytest.approx(1, abs=1e-5)
        assert not row[~kept].any()


def test_a_state_goes_on_where_a_text_was_cut(make_elmo, tokens):
    model = make_elmo()
    x = model.embedding(tokens)
    whole, _ = model.read(x, FORWARD)
    _, state = model.read(x[:, :5], FORWARD)
    rest, _ = model.read(x[:, 5:], FORWARD, state)
    for one, other in zip(rest, whole, strict=True):
        torch.testing.assert_close(one, other[:, 5:], atol=1e-6, rtol=0)
    assert (model.read(x[:, 5:], FORWARD)[0][0] - whole[0][:, 5:]).abs().max() > 1e-3


def test_blocks_are_token_layer_lstms_and_mixture_and_hold_all_there_is(make_elmo):
    model = make_elmo()
    inside = [id(parameter) for block in model.blocks for parameter in block.parameters()]
    assert sorted(inside) == sorted(map(id, model.parameters()))
    assert len(model.blocks) == 4


def test_all_but_the_mixture_can_be_frozen(make_elmo):
    objective = torch.nn.Module()
    objective.model = make_elmo()
    Frozen(blocks=-1, names=[]).apply(objective)
    free = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert free == {"model.mix.weight", "model.mix.gamma"}
    assert depths(objective)["model.mix.weight"] == 3


def test_the_table_of_tokens_is_where_other_models_have_it(make_elmo):
    model = make_elmo(input="tokens")
    assert "embedding.token.weight" in model.state_dict()
    assert model.token_embedding is model.embedding.token
    assert make_elmo().token_embedding is None


def test_the_original_has_the_published_number_of_parameters(settings, tokenizer):
    with torch.device("meta"):
        model = ELMo(vocab_size=tokenizer.vocab_size, tokenizer=tokenizer, **settings("elmo_original"))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("mix")}
    second_biases = sum(size for name, size in sizes.items() if "bias_hh" in name)  # torch has two, and one is enough
    codes = model.embedding.character.num_embeddings - 262
    assert sum(sizes.values()) - second_biases - 16 * codes == PUBLISHED


def test_an_odd_dim_is_refused(make_elmo):
    with pytest.raises(ValueError, match="dim=15"):
        make_elmo(dim=15)
