"""Where a checkpoint lies and which configuration made it; nothing it says is trusted, and torch is not needed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ptft import elsewhere
from ptft.errors import CheckpointError, UserError, nearest
from ptft.lock import hold
from ptft.manifest import MANIFEST, NAME, read_manifest

ATTEMPTS = 5
CONFIG_BYTES = 1_000_000
CONFIG_NODES = 10_000
CONFIG_DEPTH = 30
POINTERS = ("best", "last")
FOREIGN = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")  # files of weights that are no checkpoints of ours
REQUIRED = "???"  # how OmegaConf writes a value that must be given


def locate(text: str | Path) -> Path:
    """The checkpoint folder that `ckpt=text` means.

    text: a run folder (its best checkpoint, else its last), RUN/best, RUN/last, a checkpoint folder itself, or weights from
    elsewhere (SCHEME:NAME). It stays as long as this process, though its run may go on. Raises UserError where nothing is
    there, CheckpointError where what is there is no checkpoint.
    """
    if not str(text).strip():
        raise UserError("ckpt is empty; give a run folder or a checkpoint folder")
    if imported := elsewhere.checkpoint(text):
        return imported
    for _ in range(ATTEMPTS):
        try:
            path = _located(text)
        except CheckpointError:  # maybe of one that its run has just retired
            continue
        if hold(path / MANIFEST):
            return path
    return _located(text)


def _located(text: str | Path) -> Path:
    path = Path(text).expanduser()
    if path.is_symlink():  # one that the user names; within a run and its checkpoints none is followed
        path = path.resolve()
    if (path / "manifest.json").is_file():
        return path
    if (path / "checkpoints").is_dir():
        return _best_or_last(path / "checkpoints")
    if path.name in POINTERS and not path.is_dir():
        for checkpoints in (path.parent / "checkpoints", path.parent):
            if checkpoints.is_dir() and (checkpoints.name == "checkpoints"):
                return _named(checkpoints, path.name)
    if path.exists():
        kind = "is a file" if path.is_file() else "holds no checkpoint"
        hint = f"; an image model of another program: ckpt=weights:MODEL:{text}" if path.suffix in FOREIGN else ""
        raise CheckpointError(f"ckpt={text} {kind}; ckpt takes a run folder or one of its checkpoints/step-... folders{hint}")
    raise UserError(f"ckpt={text} does not exist{_near(path)}")


def _best_or_last(checkpoints: Path) -> Path:
    return _follow(checkpoints, "best") or _follow(checkpoints, "last") or _newest(checkpoints)


def _named(checkpoints: Path, pointer: str) -> Path:
    """RUN/last is the newest checkpoint whatever the pointer says; RUN/best cannot be guessed."""
    found = _follow(checkpoints, pointer)
    if not found and pointer == "best":
        raise CheckpointError(f"{checkpoints.parent} has no best checkpoint (yet); use {checkpoints.parent}/last")
    return found or _newest(checkpoints)


def _follow(checkpoints: Path, pointer: str) -> Path | None:
    """The checkpoint a pointer file names, complete or not; None where there is none, or that folder is gone."""
    path = checkpoints / pointer
    if not path.exists() and not path.is_symlink():
        return None
    name = read_plainly(path, 200).decode("utf-8", errors="replace").strip()
    if "/" in name or "\\" in name or "\0" in name or name == "..":
        raise CheckpointError(f"{path} names '{name[:80]!s}', which is not a folder beside it")
    return checkpoints / name if NAME.fullmatch(name) and (checkpoints / name).is_dir() else None


def _newest(checkpoints: Path) -> Path:
    """The checkpoint saved last, by the sequence number in its manifest: clocks and step numbers can go back.

    A damaged one may be the last: nothing older stands in for it unasked. Raises CheckpointError.
    """
    found = {path: read_manifest(path)["seq"] for path in checkpoints.iterdir() if NAME.fullmatch(path.name)}
    if not found:
        raise CheckpointError(f"{checkpoints} holds no checkpoint")
    return max(found, key=found.__getitem__)


def _near(path: Path) -> str:
    """The end of an error line: what is beside `path` that could be meant, a run folder or a checkpoint of a run."""
    parent = path.parent
    if not parent.is_dir():
        return f" (there is no folder {parent} either)"
    if (parent / "checkpoints").is_dir():
        found, kind, otherwise = [*POINTERS, "checkpoints"], f"{parent} has", ""
    elif parent.name == "checkpoints":
        found, kind, otherwise = _beside(parent, MANIFEST), "checkpoints there", f"{parent} holds no checkpoint"
    else:
        found, kind, otherwise = _beside(parent, "checkpoints"), "runs there", f"{parent} holds no run"
    close = nearest(path.name, found)
    if close:
        return f"; did you mean ckpt={parent / close}?"
    return f"; {kind}: {', '.join(found[:8])}" if found else f"; {otherwise}"


def _beside(parent: Path, mark: str) -> list[str]:
    """The names of the folders in `parent` that hold `mark`."""
    return sorted(entry.name for entry in parent.iterdir() if (entry / mark).exists())


def read_plainly(path: Path, most: int) -> bytes:
    """The bytes of a regular file, never through a link, never more than `most`. Raises CheckpointError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckpointError(f"{path} is not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise CheckpointError(f"{path} is larger than {most:,} bytes")
    return content


def saved_config(checkpoint: Path) -> dict[str, Any]:
    """The configuration stored in a checkpoint folder, as plain values.

    A value with an interpolation (`${...}`) reads as REQUIRED: what a checkpoint says is never resolved, so the user must
    give it anew. Raises CheckpointError.
    """
    path = checkpoint / "config.yaml"
    try:
        config = read_yaml(path)
    except UserError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a mapping of settings")
    return _without_interpolations(config)


def read_yaml(path: Path) -> Any:
    """Plain YAML within caps on bytes, nodes and depth, without tags and aliases. Raises UserError."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = read_plainly(path, CONFIG_BYTES).decode("utf-8")
        _check_events(path, yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error


def _check_events(path: Path, events: Any) -> None:
    """Refuse, before anything is built, what makes YAML explode or run."""
    import yaml

    depth = 0
    for count, event in enumerate(events):
        line = f"{path}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{line}: aliases (*name) are not taken; write the value out")
        if getattr(event, "tag", None) and not getattr(event, "implicit", True):
            raise UserError(f"{line}: tags ({event.tag}) are not taken")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if count > CONFIG_NODES or depth > CONFIG_DEPTH:
            raise UserError(f"{line}: more than {CONFIG_NODES:,} values or {CONFIG_DEPTH} levels")


def _without_interpolations(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_interpolations(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_interpolations(inner) for inner in value]
    return REQUIRED if isinstance(value, str) and "${" in value else value
