"""The types of what every command can be told, checked while the configuration is composed and before torch is imported.

Defaults live in configs/; a test holds the two together. Options of a group (a model, an objective, ...) need no entry here:
their keys are constructor arguments, which ptft/resolve.py checks against the constructor.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from ptft.duration import duration_fault, exactly
from ptft.errors import UserError
from ptft.protocols import PROTOCOLS

REQUIRED = "???"  # how OmegaConf writes a value that must be given
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# settings with few possible values, null among them where a default is null
CHOICES = {
    "split": ("train", "valid", "test"),
    "protocol": tuple(PROTOCOLS),
    "weights": ("trained", "initial"),
    "ckpt_load.weights": ("model", "ema", "teacher"),
    "precision": PRECISIONS,
    "pooling": ("mean", "max", "last", "before_end", "cls", "concat"),
    "format": ("safetensors", "hf", "peft", "torch_export", "onnx", "int8", "vectors"),
}
NONFINITE = ("stop", "skip", "rollback")
ON_SAVE_ERROR = ("stop", "warn")
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
# numbers with a smallest value; ABOVE_ZERO ones exclude it
AT_LEAST = {
    "steps": 1,
    "min_steps": 1,
    "batch_size": 1,
    "accumulate": 1,
    "eval_batches": 1,
    "keep_last": 1,
    "log_every": 1,
    "health_every": 1,
    "patience": 1,
    "ema_every": 1,
    "workers": 0,
    "samples": 0,
    "train_rows": 1,
    "max_tokens": 1,
    "temperature": 0,
    "top_k": 1,
    "num_beams": 1,
    "num_samples": 1,
    "rows": 1,
    "per_class": 1,
    "seed": 0,
}
ABOVE_ZERO = ("epochs", "clip", "save_minutes", "top_p", "lowest", "highest", "seconds")


def _range_faults(values: dict[str, Any]) -> list[str]:
    """Numbers below what makes sense."""
    given = {name: value for name, value in values.items() if isinstance(value, (int, float))}
    faults = [
        f"{name}: expected at least {AT_LEAST[name]}, found {value}"
        for name, value in given.items()
        if name in AT_LEAST and value < AT_LEAST[name]
    ]
    return faults + [
        f"{name}: expected more than 0, found {value}" for name, value in given.items() if name in ABOVE_ZERO and not value > 0
    ]


@dataclass
class Settings:
    """How to train: the settings of the loop, all faults reported at once (UserError, one line each)."""

    steps: int | None = None
    epochs: float | None = 1.0
    min_steps: int = 1
    batch_size: int = 32
    accumulate: int = 1
    precision: str = "auto"
    clip: float | None = 1.0
    clip_each: bool = False
    eval_every: Any = 0.1
    eval_batches: int | None = None
    save_every: Any = 0.1
    save_minutes: float | None = 15.0
    keep_last: int = 2
    on_save_error: str = "stop"
    log_every: int = 10
    health_every: int | None = 100
    patience: int | None = None
    ema: float | None = None
    ema_half_life: Any = None
    ema_every: int = 1
    compile: bool = False
    workers: int = 0
    nonfinite: str = "stop"
    best: str | None = None
    samples: int = 4
    train_rows: int | None = None

    def __post_init__(self) -> None:
        faults = [*_range_faults(vars(self)), *self._odd()]
        if faults:
            raise UserError("\n".join(f"trainer.{fault}" for fault in faults))

    def _odd(self) -> list[str]:
        """Values that are none of the possible ones."""
        faults = []
        for name, choices in (("precision", PRECISIONS), ("nonfinite", NONFINITE), ("on_save_error", ON_SAVE_ERROR)):
            if getattr(self, name) not in choices:
                faults.append(f"{name}: expected one of {', '.join(choices)}, found '{getattr(self, name)}'")
        if self.ema is not None and not 0 < self.ema < 1:
            faults.append(f"ema: expected a decay between 0 and 1, found {self.ema}")
        if self.ema is not None and self.ema_half_life is not None:
            faults.append(f"ema_half_life: says what trainer.ema={self.ema} says already; leave one of them out")
        if self.ema_every > 1 and self.ema is None and self.ema_half_life is None:
            faults.append("ema_every: there is no average to update; give trainer.ema=0.999 or trainer.ema_half_life=0.01")
        if self.clip_each and self.clip is None:
            faults.append("clip_each: there is nothing to clip to with trainer.clip=null; give a norm, such as trainer.clip=3")
        if self.patience and self.eval_every is None:
            faults.append("patience: nothing is evaluated before the end with trainer.eval_every=null; leave one of them out")
        if self.steps is None and self.epochs is None:
            faults.append("steps: give trainer.steps=NUMBER or trainer.epochs=NUMBER")
        for name in ("eval_every", "save_every", "ema_half_life"):
            faults += duration_fault(name, getattr(self, name))
        if self.ema_half_life is not None and not faults and exactly(self.ema_half_life, 100, 10) == 0:
            faults.append(f"ema_half_life: expected more than 0, or null for no average, found {self.ema_half_life}")
        return faults


@dataclass
class CheckpointLoad:
    """How weights of `ckpt` land in the model."""

    allow_partial: bool = False
    reinit_top: int = 0
    weights: str | None = None


@dataclass
class Shared:
    """What every command that runs a model can be told."""

    ckpt: str | None = REQUIRED
    seed: int = 0
    device: str = "auto"
    trusted_modules: list[str] = field(default_factory=list)
    dataset: Any = None
    tokenizer: Any = None
    transform: Any = None
    model: Any = None
    objective: Any = None


@dataclass
class Train(Shared):
    """The root of pretrain and finetune."""

    run: str | None = None
    resume: str | None = None
    resume_allow: list[str] = field(default_factory=list)
    part: str | None = None
    ckpt_load: CheckpointLoad = field(default_factory=CheckpointLoad)
    tuning: Any = None
    optimizer: Any = None
    schedule: Any = None
    trainer: Settings = field(default_factory=Settings)


@dataclass
class Evaluate(Shared):
    """The root of evaluate."""

    run: str | None = None
    split: str = "test"
    batch_size: int = 32
    precision: str = "fp32"
    protocol: str | None = None
    weights: str = "trained"
    pooling: str | None = None


@dataclass
class Predict(Shared):
    """The root of predict."""

    input: str = REQUIRED
    output: str = "-"
    batch_size: int = 32
    precision: str = "fp32"


@dataclass
class Generate(Shared):
    """The root of generate."""

    prompt: str | None = None
    input: str | None = None
    output: str = "-"
    batch_size: int = 32
    precision: str = "fp32"
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    num_samples: int = 1


@dataclass
class Export(Shared):
    """The root of export."""

    format: str = "safetensors"
    output: str = REQUIRED


@dataclass
class Data:
    """The root of data."""

    action: str = "preview"
    output: str = "preview.png"
    rows: int = 8
    seed: int = 0
    trusted_modules: list[str] = field(default_factory=list)
    dataset: Any = None
    tokenizer: Any = None
    transform: Any = None
    model: Any = None
    objective: Any = None
    optimizer: Any = None
    schedule: Any = None
    trainer: Any = None


@dataclass
class Finding:
    """How `find` tries rates and batches."""

    steps: int = 100
    lowest: float = 1e-6
    highest: float = 1.0
    to: str | None = None
    memory: str | None = None
    seconds: float = 60.0


@dataclass
class Find:
    """The root of find; the settings of the training command that it names are composed apart."""

    find: Finding = field(default_factory=Finding)


@dataclass
class Show:
    """The root of show."""

    what: str = REQUIRED


@dataclass
class Diff:
    """The root of diff."""

    first: str = REQUIRED
    second: str = REQUIRED


@dataclass
class List:
    """The root of list."""

    group: str | None = None


ROOTS = {
    "pretrain": Train,
    "finetune": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "generate": Generate,
    "export": Export,
    "data": Data,
    "find": Find,
    "show": Show,
    "diff": Diff,
    "list": List,
}


def register(*commands: str, typed: bool = True) -> None:
    """Make the types of these commands known to Hydra, or of all: `schema/COMMAND` for each root.

    typed: if not, their settings take any value.
    """
    for command in commands or ROOTS:
        node = ROOTS[command] if typed else untyped(command)
        store(command, node, group="schema", package="_global_")


def untyped(command: str) -> Any:
    """The settings of a command without their types."""
    from omegaconf import OmegaConf

    return OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(ROOTS[command])))


def store(name: str, node: Any, group: str, package: str | None = None) -> None:
    """Put a node into Hydra's ConfigStore, in place of an earlier one of that name."""
    from hydra.core.config_store import ConfigStore

    again = {"replace": True} if hydra_is_modern() else {}  # 1.4 warns of a second node unless told; 1.3 just takes it
    ConfigStore.instance().store(name=name, node=node, group=group, package=package, **again)


def hydra_is_modern() -> bool:
    """Whether this is Hydra 1.4 or later, whose interface differs in a few places."""
    import hydra

    return "execution_whitelist" in inspect.signature(hydra.main).parameters


def version_base() -> dict[str, str]:
    """The version whose defaults Hydra 1.3 should follow; 1.4 does not ask."""
    return {} if hydra_is_modern() else {"version_base": "1.3"}


def bare() -> list[str]:
    """Overrides without which Hydra would compose parts of its own that one run does not use: launchers, logging, help."""
    from hydra.conf import HydraConf

    own = [entry for entry in HydraConf().defaults if isinstance(entry, dict)]
    return [f"~hydra/{group}" for entry in own for group, option in entry.items() if option is not None]


def check_root(config: dict[str, Any]) -> None:
    """Refuse top-level values that no command can use (UserError, all faults at once)."""
    faults = []
    if not DEVICE.fullmatch(config.get("device", "auto")):
        faults.append(f"device: expected auto, cpu, cuda, cuda:0 or mps, found '{config['device']}'")
    if config.get("resume") not in (None, "auto"):
        faults.append(f"resume: expected auto or null, found '{config['resume']}'")
    elif config.get("resume") and not config.get("run"):
        faults.append("resume=auto needs the run to continue: run=FOLDER")
    dataset = config.get("dataset") or {}
    paths = {name: config.get(name) for name in ("input", "output")}
    paths |= {f"dataset.{name}": value for name, value in dataset.items() if name.endswith("path")}
    faults += [f"{name} is empty; give the name of a file or folder" for name, value in paths.items() if value == ""]
    ckpt_load = {f"ckpt_load.{name}": value for name, value in (config.get("ckpt_load") or {}).items()}
    for name, choices in CHOICES.items():
        found = {**config, **ckpt_load}.get(name)
        if found is not None and found not in choices:
            faults.append(f"{name}: expected {', '.join(choices[:-1])} or {choices[-1]}, found '{found}'")
    if config.get("weights") == "initial" and not config.get("protocol"):
        faults.append("weights=initial is for probes of features: protocol=knn or protocol=linear")
    if (config.get("top_p") or 0) > 1:
        faults.append(f"top_p: expected at most 1, found {config['top_p']}")
    faults += _range_faults({name: value for name, value in config.items() if not isinstance(value, dict)})
    faults += [f"dataset.{fault}" for fault in _range_faults({"per_class": dataset.get("per_class")})]
    faults += [f"find.{fault}" for fault in _range_faults(config.get("find", {}))]
    try:
        Settings(**config.get("trainer") or {})
    except UserError as error:
        faults += str(error).splitlines()
    if faults:
        raise UserError("\n".join(faults))
