"""Graphs of objectives: any batch, any length, any pooling, any kind of input."""

from __future__ import annotations

import pytest
import torch

from ptft.errors import UserError
from ptft.models.mlp import MLP
from ptft.models.resnet import ResNet
from ptft.objective import Objective
from ptft.portable import RandomTexts, RandomValues, difference, save_graph, save_int8, traced
from ptft.tasks.classify import Classify
from ptft.tasks.regress import Regress

TURNED = {"positions": "learned", "segments": 2, "norm": "post", "activation": "swiglu"}


class Sizes(Objective):
    """Answers with one number for each image that is not black: nobody knows how many beforehand."""

    def answer(self, inputs):
        values = self.model(**inputs)
        return values.new_zeros(int((values.sum(1) > 0).sum()))


@pytest.fixture
def classifier(tokenizer):
    return lambda model, pooling: Classify(model, 3, list("abc"), pooling, 0.1, 0.0, 0.0, 0.0, None, tokenizer).eval()


def gap(objective, random, tmp_path) -> float:
    return difference(save_graph(traced(objective, random), tmp_path / "graph.pt2", {}), objective.answer, random)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "last", "max", "mean", "concat"])
def test_every_pooling_and_layout_of_text_is_followed(pooling, classifier, make_transformer, tokenizer, tmp_path):
    model = make_transformer(**(TURNED if pooling in ("cls", "mean") else {}))
    assert gap(classifier(model, pooling), RandomTexts(model, tokenizer.vocab_size), tmp_path) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary", "sinusoidal_rotary"])
def test_causal_models_are_followed_beyond_the_length_at_which_the_kernel_changes(
    positions, classifier, make_gpt, tokenizer, tmp_path
):
    model = make_gpt(positions=positions, max_length=300)
    assert gap(classifier(model, "last"), RandomTexts(model, tokenizer.vocab_size), tmp_path) < 1e-5


def test_numbers_are_in_the_units_of_the_data(tmp_path):
    task = Regress(MLP([4], [8], "relu", "batch", 0.5), 1000.0, 50.0, "mean", 0.1).eval()
    random = RandomValues([4])
    assert gap(task, random, tmp_path) < 1e-4
    assert 500 < task.answer(random.draw(1)).item() < 1500


def test_a_graph_without_weights_to_shrink_is_refused(tmp_path):
    import onnx

    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), tmp_path / "g.onnx"
    )
    with pytest.raises(UserError, match="format=int8: nothing in this model can be quantised"):
        save_int8(tmp_path / "g.onnx", tmp_path / "q.onnx")


def test_random_texts_are_of_all_that_a_model_reads(make_transformer):
    random = RandomTexts(make_transformer(segments=2), 50)
    long, short = random
    assert long["tokens"].shape == (1, 32)
    assert short["tokens"].shape == short["mask"].shape == short["segments"].shape == (5, 7)
    assert long["mask"].all() and not short["mask"].all() and short["mask"].any(1).all()
    assert short["segments"].unique().tolist() == [0, 1]
    assert torch.equal(short["tokens"] == 0, ~short["mask"])


def test_what_is_said_of_padding_does_not_count():
    inputs = {"mask": torch.tensor([[True, False]])}
    answers = torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0.5, 0.0], [9.0, 9.0, 9.0]]])
    assert difference(lambda _: answers[0], lambda _: answers[1], [inputs]) == 0.5


def test_what_cannot_be_followed_is_refused_in_one_line(settings):
    model = ResNet([1, 8, 8], **settings("resnet_small") | {"width": 4, "layers": [1, 1, 1, 1]}).eval()
    with pytest.raises(UserError, match="ResNet with Sizes cannot be followed as a graph") as refusal:
        traced(Sizes(model), RandomValues([1, 8, 8]))
    assert len(str(refusal.value).splitlines()) == 1
