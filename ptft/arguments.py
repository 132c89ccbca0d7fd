"""The words after `ptft COMMAND`, made ready for Hydra: slips refused by name, odd values quoted, what is implied added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptft.choices import HEAD_SHAPE, config_dir, groups
from ptft.elsewhere import split
from ptft.errors import UserError, nearest
from ptft.locate import locate, read_yaml, saved_config

SHORT = {
    "-h": "--help",
    "-m": "--multirun",
    "-r": "--run",
    "-c": "--cfg",
    "-p": "--package",
    "-i": "--info",
    "-cn": "--config-name",
    "-cd": "--config-dir",
}
# the flags that Hydra answers (its --experimental-rerun reads pickles and is not among them), and what they may be
PLAIN_FLAGS = ("--help", "--hydra-help", "--resolve", "--run", "--multirun")
VALUE_FLAGS = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": (),
    "--config-name": (),
    "--config-dir": (),
}
# `ptft show RUN` is short for `ptft show what=RUN`
POSITIONAL = {"show": ("what",), "diff": ("first", "second"), "list": ("group",), "data": ("action",)}
# settings that hold free text or a path: a comma in them is a comma
COLUMN = re.compile(r"dataset\.(text|text_pair|label|source)$")
FREE_TEXT = re.compile(rf"(prompt|ckpt|run|what|first|second|input|output|dataset\.\w*path)$|{COLUMN.pattern}")
ADAMS = {"adam", "adamw"}  # whose rates finetune.yaml knows
FEW, WITH_DECODERS = {"lora", "frozen"}, {"segment", "detect", "generate"}  # few weights train; tasks where not so few do
# the rates of published weights, of fresh ones and one's own of images, and of the few that train beside, or before, one's own
OF_PUBLISHED, OF_FRESH, OF_FEW = "5e-5", "1e-3", "5e-3"
OVERRIDE_KEY = re.compile(r"[+~]{0,2}[\w./@-]+$")


@dataclass
class Arguments:
    """flags: long names with their values. overrides: key=value words. typed: all of it as it was, to show and repeat."""

    flags: dict[str, str | None] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)

    @property
    def multirun(self) -> bool:
        """Whether the command line asks for a sweep."""
        return "--multirun" in self.flags

    @property
    def folders(self) -> list[Path]:
        """Where options are looked for: in what ships, and in --config-dir."""
        own = self.flags.get("--config-dir")
        return [config_dir(), *([Path(own)] if own else [])]

    def flag_words(self, *but: str) -> list[str]:
        """The flags as words of a command line."""
        kept = {name: value for name, value in self.flags.items() if name not in but}
        return [name if value is None else f"{name}={value}" for name, value in kept.items()]

    def values(self, key: str) -> list[str | None]:
        """What `key` was set to: nothing where it was not given, one text (None for null), or those of a sweep."""
        words = [word for word in self.overrides if word.partition("=")[0].lstrip("+") == key]
        if not words:
            return []
        override = parsed(words[-1])
        if override.is_sweep_override() and hasattr(override.value(), "filter"):  # glob(gpt*) of a group
            return override.value().filter(sorted(groups(self.folders).get(key, {})))
        values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
        return [None if value is None else str(getattr(value, "text", value)) for value in values]

    def only(self, key: str) -> str | None:
        """What `key` was set to, where that is one text."""
        found = self.values(key)
        return found[0] if len(found) == 1 else None


def parse(command: str, words: list[str]) -> Arguments:
    """Sort words into flags and overrides. Raises UserError."""
    arguments = Arguments(typed=list(words))
    rest = iter(words)
    for word in rest:
        if word.startswith("-"):
            name, value = _flag(word, rest)
            arguments.flags[name] = value
        else:
            arguments.overrides.append(_override(command, word, arguments.overrides))
    if "--package" in arguments.flags and "--cfg" not in arguments.flags:
        raise UserError("--package goes with --cfg=job")
    if "--multirun" in arguments.flags and "--cfg" in arguments.flags:
        raise UserError("--multirun and --cfg do not go together: leave out -m to see the configuration")
    arguments.overrides = [quoted(word, arguments.multirun) for word in arguments.overrides]
    return arguments


def _flag(word: str, rest: Iterator[str]) -> tuple[str, str | None]:
    """A flag and its value, which may be the next word."""
    short, equals, value = word.partition("=")
    name = SHORT.get(short, short)
    if name in PLAIN_FLAGS and equals:
        raise UserError(f"{word}: {name} takes no value")
    if name in PLAIN_FLAGS:
        return name, None
    if name not in VALUE_FLAGS:
        raise UserError(_no_flag(short, value))
    value = value if equals else next(rest, "")
    choices = VALUE_FLAGS[name]
    if not value or (choices and value not in choices):
        raise UserError(f"{name} needs a value: {name}={'|'.join(choices) or 'VALUE'}")
    return name, value


def _no_flag(name: str, value: str) -> str:
    bare = name.lstrip("-")
    close = nearest(bare, [flag.lstrip("-") for flag in (*PLAIN_FLAGS, *VALUE_FLAGS)])
    meant = f"did you mean '--{close}'?" if close else f"settings have no dashes: {bare}={value or 'VALUE'}"
    return f"there is no flag '{name}'; {meant}"


def _override(command: str, word: str, before: list[str]) -> str:
    """A word that sets something, in full."""
    if "=" not in word and not word.startswith("~"):
        if len(before) < len(POSITIONAL.get(command, ())):
            return f"{POSITIONAL[command][len(before)]}={word}"
        raise UserError(f"'{word}' sets nothing; {_way_to_say(word)}")
    key, equals, value = word.partition("=")
    if command == "show" and not before and key != "what":  # a choice, as model=gpt, but run=RUN is RUN
        return f"what={value if key == 'run' else word}"
    if key.startswith("~") and "." in key:
        raise UserError(f"{word}: a setting cannot be left out, only a group; give it a value instead")
    if not OVERRIDE_KEY.match(key):
        raise UserError(f"'{word}' sets nothing; settings are written key=value, without spaces around the =")
    # a task fills the slot that is called objective everywhere else
    if command in ("finetune", "data") and key.startswith("task."):
        key = f"objective.{key.removeprefix('task.')}"
    if command == "finetune" and key == "objective" and value in groups([config_dir()])["task"]:
        key = "task"
    return key + equals + value


def _way_to_say(word: str) -> str:
    """What to write in place of a word without a value."""
    if word == "help":
        return "did you mean --help?"
    if word in groups([config_dir()]):
        return f"{word}=NAME chooses one of those that ptft list {word} shows"
    return "settings are written key=value, without spaces around the ="


def quoted(word: str, multirun: bool) -> str:
    """An override that Hydra reads as the user meant it. Raises UserError where it holds several values outside a sweep."""
    from hydra.errors import HydraException

    key, equals, value = word.partition("=")
    if not equals:
        return word
    literal = f"{key}={quote(value)}"
    try:
        override = parsed(word)
    except HydraException:
        names = re.fullmatch(r"""\[([^]'"[{}]+)]""", value)  # columns may be called anything
        if names and not FREE_TEXT.match(key):
            return f"{key}=[{','.join(quote(name.strip()) for name in names[1].split(','))}]"
        return _each_quoted(key, value) if multirun and "," in value else literal
    if isinstance(override.value(), (int, float, type(None))) and key in groups([config_dir()]):
        if override.value() is None:
            raise UserError(f"{word}: a group takes the name of one of its options ({key}=NAME); to leave it out write ~{key}")
        return literal  # no option is called so, which Hydra says
    if multirun or hasattr(override.value(), "text"):
        return word
    if override.is_sweep_override() and not FREE_TEXT.match(key):
        of_group = key in groups([config_dir()])
        way = f"name one, as in {key}={value.partition(',')[0]}" if of_group else f"write {key}=[{value}] for a list"
        raise UserError(f"{word} holds several values: {way}, or add -m to run once per value")
    named_so = COLUMN.match(key) and isinstance(override.value(), bool)  # a column may be called true
    return literal if override.is_sweep_override() or key == "prompt" or named_so else word


def _each_quoted(key: str, value: str) -> str:
    """The values of a sweep as literals. Raises UserError where a comma may be a part of one."""
    if re.search(r"""[]'"[(){}]""", value):
        raise UserError(f"{key}={value} is not a list of values; write one that holds odd characters in quotes: {key}='a=b',c")
    return f"{key}={','.join(map(quote, value.split(',')))}"


def parsed(word: str) -> Any:
    """An override as Hydra's own parser reads it; raises HydraException."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(word)


def quote(value: str) -> str:
    """A literal of Hydra's grammar: within quotes, a backslash counts only before a quote."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def implied(command: str, arguments: Arguments) -> list[str]:
    """Overrides that follow from others.

    A checkpoint brings its model and tokenizer, a start from scratch its own, or that of the teacher it learns from; a table
    or text that is named has no transform, whatever the objective brings for images; the data that ships is trained on briefly;
    fresh weights are fine-tuned faster than trained ones, published ones slower, and published language models go on being
    pretrained as slowly; a head that goes on keeps its shape; epochs that were asked for are no more and no less.
    """
    ckpt = arguments.values("ckpt")
    chosen = {word.partition("=")[0].lstrip("+~") for word in arguments.overrides}
    found = []
    if command == "pretrain" and ckpt not in ([], [None]):
        found = [f"{part}=from_ckpt" for part in ("model", "tokenizer") if part not in chosen]
    own = "--config-name" in arguments.flags  # a configuration of the user's own settles all
    if command == "finetune" and ckpt == [None] and not own and not chosen & {"tokenizer", "experiment"}:
        found = [] if any(_brings("tokenizer", group, arguments) for group in ("dataset", "task")) else _tokenizer(arguments)
    brought = "transform" not in chosen and _brings("transform", "objective", arguments)
    if command in ("pretrain", "finetune") and not own and brought and _untransformed(arguments):
        found.append("~transform")
    if command == "finetune" and not own and not chosen & {"optimizer.lr", "optimizer.base_lr", "experiment"}:
        found += _rate(ckpt, arguments)
    if command == "pretrain" and not own and not chosen & {"optimizer", "optimizer.lr", "optimizer.base_lr", "experiment"}:
        published = ckpt and all(start and (split(start) or [None])[0] == "hf" for start in ckpt)
        found += ["optimizer=adamw", f"optimizer.lr={OF_PUBLISHED}"] if published else []
    if command == "finetune" and not own and not chosen & {"part", "experiment", *(f"objective.{name}" for name in HEAD_SHAPE)}:
        found += _head(arguments)
    if "trainer.epochs" in chosen and "trainer.min_steps" not in chosen:
        found.append("trainer.min_steps=1")
    elsewhere = chosen & {"dataset", "experiment", "trainer"} or own
    if command == "pretrain" and not elsewhere and not _brings("dataset", "objective", arguments):
        found.append("trainer=tour")
    return found


def _rate(ckpt: list[str | None], arguments: Arguments) -> list[str]:
    """The override of the rate, where finetune.yaml's is not for the optimizer, the model or the origin of the weights."""
    files = groups(arguments.folders).get("optimizer", {})
    rates = {_own_rate(files[name]) for name in arguments.values("optimizer") if name in files and name not in ADAMS}
    if rates:
        return [f"optimizer.lr={rate}" for rate in rates if rate and len(rates) == 1]
    if ckpt and all(start is None for start in ckpt):
        return ["optimizer.lr=3e-2" if arguments.values("model") == ["linear"] else f"optimizer.lr={OF_FRESH}"]
    tunings, published = set(arguments.values("tuning")) or {None}, {bool(start and split(start)) for start in ckpt}
    whole = {name not in FEW or bool(arguments.values("tuning.blocks")) for name in tunings}
    if published == {True} and whole == {True}:
        return [f"optimizer.lr={OF_PUBLISHED}"]
    few_first = whole == {False} or tunings == {"gradual"}
    if published == {False} and few_first and not WITH_DECODERS & set(arguments.values("task")):
        return [f"optimizer.lr={OF_FEW}"]
    if published == {False} and arguments.values("dataset") and not _untransformed(arguments):
        return [f"optimizer.lr={OF_FRESH}"]
    return []


def _head(arguments: Arguments) -> list[str]:
    """The overrides that give the head the shape of the checkpoint's, where that is of the same task."""
    ckpt, task = arguments.only("ckpt"), arguments.only("task") or "classify"
    file = groups(arguments.folders).get("task", {}).get(task)
    if ckpt is None or file is None:
        return []
    try:
        node, saved = read_yaml(file), saved_config(locate(ckpt)).get("objective") or {}
    except UserError:  # who needs the checkpoint says so
        return []
    alike = node.get("_target_") == saved.get("_target_")
    known = [name for name in HEAD_SHAPE if alike and name in node and name in saved]
    return [f"objective.{name}={saved[name] or 'null'}" for name in known if saved[name] != node[name]]


def _own_rate(path: Path) -> str | None:
    """The rate that an optimizer's YAML file sets."""
    found = re.search(r"^lr: *([\d.e+-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found and found[1]


def _tokenizer(arguments: Arguments) -> list[str]:
    """The overrides for the tokenizer of a model that starts from scratch."""
    teacher = arguments.values("objective.teacher")
    if len(teacher) == 1 and teacher[0] is not None:
        assets = locate(teacher[0]) / "assets"
        if (assets / "tokenizer.json").is_file():
            return ["tokenizer=published", f"tokenizer.path={quote(str(assets))}"]
    return ["tokenizer=bpe"]


def _brings(part: str, group: str, arguments: Arguments) -> bool:
    """Whether the chosen option of a group settles another part itself, as datasets of images do with tokenizer: null."""
    given = arguments.values(group)
    files = groups(arguments.folders).get(group, {}) if given else {}
    names = [name for name in given if name in files]
    return any(f"override /{part}@" in files[name].read_text(encoding="utf-8") for name in names)


def _untransformed(arguments: Arguments) -> bool:
    """Whether the chosen dataset has no use for a transform: it says so, as tables do, or takes a tokenizer, as texts do."""
    files = groups(arguments.folders).get("dataset", {})
    texts = [files[name].read_text(encoding="utf-8") for name in arguments.values("dataset") if name in files]
    says = re.compile(r"override /transform@\S+ null$", re.MULTILINE)
    return bool(texts) and all(says.search(text) or "override /tokenizer@" not in text for text in texts)
