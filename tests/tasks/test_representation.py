"""Probing a model's features, with the weights it was trained to or those it began with."""

import numpy as np
import pytest
import torch

from ptft.tasks.representation import Representation


class Rows(list):
    def take(self, places):
        return [self[place] for place in places]


class Texts:
    """Three kinds of text, told apart by the tokens in them."""

    def rows(self, split):
        random = np.random.default_rng(len(split))
        kinds = np.arange(45) % 3
        return Rows({"tokens": random.integers(6 + 90 * kind, 20 + 90 * kind, 8), "label": int(kind)} for kind in kinds)


@pytest.mark.parametrize("kind", ["transformer", "gpt"])
@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_the_features_of_a_fresh_model_of_text_tell_tokens_apart(kind, protocol, make_transformer, make_gpt, tokenizer):
    model = make_transformer() if kind == "transformer" else make_gpt()
    objective = Representation(model, Texts(), protocol, "trained", "mean", ["a", "b", "c"], tokenizer)
    found = objective.measure(Texts().rows("valid"))
    assert found.keys() == {objective.score}
    assert found[objective.score] > 0.9


def test_initial_weights_are_those_before_anything_was_loaded(make_transformer, tokenizer):
    model = make_transformer()
    before = model.token_embedding.weight.clone()
    initial, trained = (
        Representation(model, Texts(), "knn", weights, "mean", ["a", "b", "c"], tokenizer) for weights in ("initial", "trained")
    )
    with torch.no_grad():
        model.token_embedding.weight.zero_()
    assert torch.equal(initial.probed.token_embedding.weight, before)
    assert trained.probed is model


def test_the_map_is_a_picture(make_transformer, tokenizer):
    objective = Representation(make_transformer(), Texts(), "knn", "trained", "mean", ["a", "b", "c"], tokenizer)
    assert objective.map(Texts().rows("valid"), 20).dtype == torch.uint8
