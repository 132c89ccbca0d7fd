"""What can be chosen: the YAML files of configs/, read without any library until a file's settings are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Settings = dict[str, object]
# what else commands and groups are called
ALIASES = {"ls": "list"}
CALLED = {"data": "dataset", "scheduler": "schedule", "augmentation": "transform", "recipe": "experiment"}


def config_dir() -> Path:
    """The folder of YAML files: inside the package where it was installed, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for place in (here / "configs", here.parent / "configs"):
        if (place / "pretrain.yaml").is_file():
            return place
    raise FileNotFoundError("ptft was installed without its configs folder")


def description(path: Path) -> str:
    """The first comment of a YAML file: what it is, in one line; a package directive does not count."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            return ""
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text
    return ""


HEAD_SHAPE = ("pooling", "hidden")  # settings of an objective that say what its head's weights are of
# what `ptft find` finds, and its settings that each is found with
FOUND = {"lr": ("steps", "lowest", "highest", "to"), "batch": ("memory", "seconds")}
ABOUT_TRAINING = ("check", "find")  # commands that take the settings of a training command, which they name
ONE_OUTPUT = ("predict", "generate", "export")  # commands that write one file or folder, output
NO_SWEEP = ("find", "data", "show", "diff", "list")  # commands that answer once


def commands() -> dict[str, str]:
    """Every command with its one-line description, the first stage first."""
    order = ["pretrain", "finetune", "evaluate", "predict", "generate", "export", "data"]
    order += ["check", "find", "show", "diff", "list"]
    found = {path.stem: description(path) for path in sorted(config_dir().glob("*.yaml")) if path.stem != "base"}
    return {name: found[name] for name in sorted(found, key=lambda name: [*order, name].index(name))}


def groups(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Every group of options: group -> option -> its YAML file; of two files of one name the first folder's counts."""
    found: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/**/*.yaml")):
            group = path.parent.relative_to(folder).as_posix()
            found.setdefault(group, {}).setdefault(path.stem, path)
    return dict(sorted(found.items()))


def group_of(word: str, known: Iterable[str]) -> str:
    """The group that a word means: by its own name, in the plural, or by a common one; the word itself where it is none."""
    found = [name for name in (word, word.removesuffix("s")) if name in known]
    return found[0] if found else CALLED.get(word.removesuffix("s"), word)


def comments(path: Path) -> dict[str, str]:
    """What a YAML file, or one it builds upon, says of its settings: dotted key -> the comment at the end of its line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    bases = [line.strip().removeprefix("- ") for line in lines if line.startswith("  - ") and ":" not in line]
    files = [path.parent / f"{base}.yaml" for base in bases]
    found: dict[str, str] = {key: text for file in files if file.is_file() for key, text in comments(file).items()}
    parents: list[tuple[int, str]] = []
    for line in lines:
        key, colon, rest = line.partition(":")
        name = key.strip()
        if not colon or not name.isidentifier():
            continue
        indent = len(key) - len(key.lstrip())
        parents = [parent for parent in parents if parent[0] < indent]
        parents.append((indent, name))
        if " # " in rest:
            found[".".join(part for _, part in parents)] = rest.rpartition(" # ")[2].strip()
    return found


def as_typed(value: object) -> str:
    """A value as it is written behind `name=`."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_typed, value))}]"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def known_settings(group_names: Iterable[str], target: str) -> set[str]:
    """The settings that the shipped YAML files give to the class `target`; empty where none of them names it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is there
    found: set[str] = set()
    for group in group_names:
        for path in (config_dir() / group).glob("*.yaml"):
            settings = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
            if isinstance(settings, dict) and settings.get("_target_") == target:
                found |= settings.keys() - {"defaults"}
    return found
