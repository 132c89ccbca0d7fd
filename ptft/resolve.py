"""From a YAML node to an object: only classes that belong where they are asked for, only arguments their constructor takes.

A node is `_target_: ptft.models.gpt.GPT` beside constructor arguments. What may be named is fixed here, so that a
configuration from a stranger's checkpoint cannot run anything else; only the user can add packages, on the command line, in
a YAML file of their own (`trusted_modules=[mine]`), or by installing one that offers itself (entry point `ptft.modules`).
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.metadata
import inspect
import sys
from collections.abc import Iterable, Mapping
from traceback import extract_tb
from typing import Any

from ptft.annotations import fault, fit
from ptft.errors import OptionError, UserError, did_you_mean

Node = Mapping[str, Any]

# where the classes of each kind of option live, and the class they must derive from
HOMES = {
    "dataset": ("ptft.data",),
    "tokenizer": ("ptft.data",),
    "transform": ("ptft.data",),
    "model": ("ptft.models",),
    "objective": ("ptft.objectives", "ptft.tasks"),
    "tuning": ("ptft.tuning",),
    "optimizer": ("ptft.optimizers", "torch.optim"),
    "schedule": ("ptft.schedules",),
}
BASES = {
    "dataset": "ptft.data.dataset.Dataset",
    "model": "torch.nn.Module",
    "objective": "ptft.objective.Objective",
    "tuning": "ptft.tuning.Tuning",
    "optimizer": "torch.optim.Optimizer",
    "schedule": "ptft.schedules.Schedule",
}
TORCH_OPTIMIZERS = {"Adafactor", "Adagrad", "Adam", "AdamW", "Muon", "NAdam", "RAdam", "RMSprop", "SGD"}
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# what build knows only once data, model or run exist, and passes by name to constructors that ask for it
FACTS = {
    "model",
    "tokenizer",
    "transform",
    "dataset",
    "inputs",
    "input_shape",
    "channels",
    "image_size",
    "pixel_mean",
    "pixel_std",
    "vocab_size",
    "num_classes",
    "labels",
    "target_mean",
    "target_std",
    "params",
    "steps",
    "steps_per_epoch",
    "progress",
    "seed",
    "open_run",
}


def resolve(kind: str, node: Node, facts: Mapping[str, Any], trusted: Iterable[str] = ()) -> Any:
    """Build the object a node describes; `facts` go to the parameters the node does not set.

    A ValueError of the constructor becomes an OptionError.
    """
    target = find(kind, node, trusted)
    faults, arguments = _bind(kind, node, target, facts)
    if faults:
        raise UserError("\n".join(faults))
    try:
        return target(**arguments)
    except UserError:
        raise
    except ValueError as error:
        raise OptionError(kind, target.__name__, str(error)) from error


def check(kind: str, node: Node, facts: Iterable[str] = FACTS, trusted: Iterable[str] = ()) -> list[str]:
    """All that is wrong with a node, one line each, before anything is built. facts: names that will be known by then."""
    try:
        target = find(kind, node, trusted)
    except UserError as error:
        return str(error).splitlines()
    return _bind(kind, node, target, dict.fromkeys(facts))[0]


def find(kind: str, node: Node, trusted: Iterable[str] = ()) -> type:
    """The class a node names, if it is one this kind of option may be; raises UserError."""
    name = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(name, str):
        raise UserError(f"{kind} names no class; its YAML file needs a line such as _target_: {HOMES[kind][0]}.x.X")
    module_name, _, class_name = name.rpartition(".")
    if not _allowed(kind, module_name, class_name, trusted):
        raise UserError(
            f"{kind}._target_={name} is not allowed: it must lie in {' or '.join(HOMES[kind])}, "
            f"or in a package named in trusted_modules=[...]"
        )
    found = getattr(_load(kind, name, module_name), class_name, None)
    if not _is_the_class(kind, found, class_name, trusted):
        raise UserError(f"{kind}._target_={name} is not a class of that name{_that_derives(kind)}")
    return found


def _allowed(kind: str, module: str, name: str, trusted: Iterable[str]) -> bool:
    """Whether a name may be looked up at all: importing a module already runs it."""
    if module == "torch.optim" or module.startswith("torch.optim."):
        return kind == "optimizer" and name in TORCH_OPTIMIZERS
    return any(module == home or module.startswith(f"{home}.") for home in (*HOMES[kind], *trusted, *_installed()))


@functools.cache
def _installed() -> tuple[str, ...]:
    """The packages that offer themselves: `[project.entry-points."ptft.modules"]`, any name = "package"."""
    return tuple(point.value for point in importlib.metadata.entry_points(group="ptft.modules"))


def _load(kind: str, name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module.startswith(error.name):
            raise UserError(f"{kind}._target_={name}: there is no module '{error.name}'") from error
        *_, last = (frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<"))
        raise UserError(f"{kind}._target_={name}: {last.filename}:{last.lineno}: {error}") from error
    except SyntaxError as error:
        raise UserError(f"{kind}._target_={name}: {error.filename}:{error.lineno}: {error.msg}") from error


def _is_the_class(kind: str, found: Any, name: str, trusted: Iterable[str]) -> bool:
    """Whether what was found is a class, defined where it may be (not an alias of something else) and of the right base."""
    if not isinstance(found, type) or found.__qualname__ != name:
        return False
    return _allowed(kind, found.__module__, name, trusted) and issubclass(found, _base(kind))


def _base(kind: str) -> type:
    module, _, name = BASES.get(kind, "builtins.object").rpartition(".")
    return getattr(importlib.import_module(module), name)


def _that_derives(kind: str) -> str:
    return f" that derives from {BASES[kind]}" if kind in BASES else ""


def _bind(kind: str, node: Node, target: type, facts: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Set a node against a constructor: the faults found, and the arguments to call it with."""
    parameters = _parameters(target)
    given = {name: value for name, value in node.items() if name != "_target_"}
    faults, arguments = [], {}
    for name, value in given.items():
        if name not in parameters:
            faults.append(f"{kind} has no setting '{name}'{did_you_mean(name, parameters.keys() - FACTS)}")
            continue
        value = fit(value, parameters[name].annotation)
        wrong = fault(value, parameters[name].annotation)
        if wrong:
            faults.append(f"{kind}.{name}: {wrong}")
        arguments[name] = value
    for name, parameter in parameters.items():
        if name in facts and name not in arguments:
            arguments[name] = facts[name]
        elif name not in arguments and parameter.default is parameter.empty:
            faults.append(_missing(kind, name, target))
    return faults, arguments


def _missing(kind: str, name: str, target: type) -> str:
    if name in FACTS:
        return f"{kind} {target.__name__} needs {name}, which this data and model do not give"
    return f"{kind}.{name} must be given: {kind}.{name}=VALUE"


@functools.cache
def _parameters(target: type) -> dict[str, inspect.Parameter]:
    """A constructor's parameters by name, their annotations as types."""
    try:
        found = inspect.signature(target, locals=_Names(target), eval_str=True)
    except AttributeError:  # module.Name of a module that only type checkers import
        found = inspect.signature(target)
    return {name: parameter for name, parameter in found.parameters.items() if parameter.kind not in VARIADIC}


class _Names(dict):
    """The names that annotations of a class may use; one that only type checkers import stands for anything."""

    def __init__(self, target: type):
        super().__init__({**vars(builtins), **vars(sys.modules[target.__init__.__module__])})

    def __missing__(self, name: str) -> Any:
        return Any
