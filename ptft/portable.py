"""A trained whole as one graph that runs without ptft: torch.export's and ONNX, whose weights may be of 8 bits."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ptft.errors import MachineError, UserError
from ptft.objective import Objective

Inputs = dict[str, Tensor]
Run = Callable[[Inputs], Tensor]
FOR_ONNX = "onnx", "onnxscript", "onnxruntime"
ANSWER = "answer"  # what the graph's output is called
TRACED = 3, 8  # batch and length of what is followed through the model; the graph takes any


class TextAnswer(nn.Module):
    """What an objective makes of texts: tokens and mask [B, T], where it tells two texts apart also segments [B, T]."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(self, tokens: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
        apart = {} if segments is None else {"segments": segments}
        return self.objective.answer({"tokens": tokens, "mask": mask, **apart})


class ValuesAnswer(nn.Module):
    """What an objective makes of images [B, C, H, W] or rows of a table [B, F]."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(self, values: Tensor) -> Tensor:
        return self.objective.answer({"values": values})


class RandomTexts:
    """Texts of random tokens and lengths for `model`; padding, and nothing else, is `pad_id`."""

    def __init__(self, model: nn.Module, vocab_size: int, pad_id: int = 0):
        self.vocab_size, self.longest, self.segments = vocab_size, model.max_length, getattr(model, "segments", 0)
        self.pad_id = pad_id
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, batch: int, length: int) -> Inputs:
        lengths = self._integers(length, batch, 1) + 1
        lengths[0] = length
        tokens, mask = self._integers(self.vocab_size - 1, batch, length), torch.arange(length) < lengths
        tokens += tokens >= self.pad_id
        found = {"tokens": tokens.masked_fill(~mask, self.pad_id), "mask": mask}
        return found | ({"segments": self._integers(self.segments, batch, length)} if self.segments > 1 else {})

    def _integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def __iter__(self) -> Iterator[Inputs]:
        """One long text, several short ones."""
        yield self.draw(1, self.longest)
        yield self.draw(5, min(7, self.longest))

    def shapes(self) -> dict[str, dict[int, Dim]]:
        """Which axes of the inputs may have any length."""
        axes = {0: Dim("batch"), 1: Dim("length", max=self.longest)}
        return dict.fromkeys(self.draw(1, 1), axes)


class RandomValues:
    """Values of one shape, drawn from N(0, 1)."""

    def __init__(self, shape: list[int]):
        self.shape = shape
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, batch: int, length: int = 1) -> Inputs:
        return {"values": torch.randn(batch, *self.shape, generator=self.generator)}

    def __iter__(self) -> Iterator[Inputs]:
        yield self.draw(1)
        yield self.draw(5)

    def shapes(self) -> dict[str, dict[int, Dim]]:
        return {"values": {0: Dim("batch")}}


@torch.no_grad()
def traced(objective: Objective, random: RandomTexts | RandomValues) -> ExportedProgram:
    """The graph of an objective's answer, for batches and texts of any length. Raises UserError where there is none."""
    answer = TextAnswer(objective) if isinstance(random, RandomTexts) else ValuesAnswer(objective)
    try:
        return torch.export.export(answer, tuple(random.draw(*TRACED).values()), dynamic_shapes=random.shapes())
    except UserError:
        raise
    except Exception as error:  # what cannot be followed is said in many ways, each with a page of advice
        names = f"{type(objective.model).__name__} with {type(objective).__name__}"
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{names} cannot be followed as a graph ({reason}); format=safetensors takes any model") from error


def save_graph(program: ExportedProgram, path: Path, assets: Mapping[str, bytes]) -> Run:
    """Write torch.export's archive; returns what runs the file. assets: files to keep in it."""
    torch.export.save(program, path, extra_files={name: content.decode() for name, content in assets.items()})
    graph = torch.export.load(path).module()
    return lambda inputs: graph(*inputs.values())


def need_onnx(wanted: str) -> None:
    """Refuse a format where the packages for it are missing. Raises MachineError."""
    if not all(map(find_spec, FOR_ONNX)):
        raise MachineError(f"format={wanted} needs {', '.join(FOR_ONNX)}: pip install {' '.join(FOR_ONNX)}")


def save_onnx(program: ExportedProgram, path: Path, shapes: Mapping[str, Mapping[int, Dim]]) -> Run:
    """Write ONNX; returns what runs the file."""
    named = {name: {axis: dim.__name__ for axis, dim in axes.items()} for name, axes in shapes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that two inputs share an axis is meant
        torch.onnx.export(program, dynamo=True, output_names=[ANSWER], dynamic_shapes=named, verbose=False).save(path)
    return _running(path)


def save_int8(onnx: Path, path: Path) -> Run:
    """Write an ONNX file once more with weights of 8 bits; returns what runs it. Raises UserError where nothing changed.

    What the weights are multiplied with is brought to 8 bits too, by the range it has there and then.
    """
    from onnx import load
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # its advice is for ranges that are measured beforehand
    try:
        # a scale for each output; unsigned: with signed weights processors of before 2019 add up in 16 bits that saturate
        quantize_dynamic(onnx, path, per_channel=True, weight_type=QuantType.QUInt8)
    finally:
        logging.disable(logging.NOTSET)
    if not any("Integer" in node.op_type or "Dequantize" in node.op_type for node in load(path).graph.node):
        raise UserError("format=int8: nothing in this model can be quantised; format=onnx takes any")
    return _running(path)


def _running(path: Path) -> Run:
    """What runs an ONNX file."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])


@torch.no_grad()
def difference(one: Run, other: Run, random: RandomTexts | RandomValues) -> float:
    """The largest difference between two answers to random inputs; what is said of padding does not count."""
    gaps = [((one(inputs) - other(inputs)).abs(), inputs.get("mask")) for inputs in random]
    return max((gap if mask is None or gap.ndim < 3 else gap[mask]).max().item() for gap, mask in gaps)
