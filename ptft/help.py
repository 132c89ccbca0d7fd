"""`ptft COMMAND --help`: what the command does, every choice with its description, every setting with its value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ptft import handover, schema
from ptft.arguments import Arguments
from ptft.choices import NO_SWEEP, as_typed, commands, comments, config_dir, description, groups
from ptft.errors import UserError
from ptft.explain import explain

FLAGS = {
    "-m": "run once per combination of values: seed=0,1,2 optimizer.lr=1e-3,3e-4",
    "--cfg=job": "print the composed configuration instead of running",
    "--config-dir=FOLDER": "a folder with YAML files of your own: FOLDER/model/mine.yaml, FOLDER/experiment/mine.yaml",
    "--config-name=NAME": "start from FOLDER/NAME.yaml instead, such as the config of an earlier run",
    "--info=defaults-tree": "show where the configuration comes from",
}
USAGES = {
    "check": "check pretrain|finetune key=value ...",
    "find": "find lr|batch pretrain|finetune key=value ...",
    "data": "data preview dataset=NAME transform|objective|task=NAME ...",
    "show": "show RUN|SETTING|GROUP=OPTION",
    "diff": "diff RUN1 RUN2",
    "list": "list GROUP",
}
WIDTH = 34


def show(command: str, root: str, arguments: Arguments) -> None:
    """Print the help of `command`, about the configuration of `root` as the overrides beside --help make it."""
    usage = USAGES.get(command, f"{command} key=value ...")
    config = _composed(root, arguments)
    chosen = dict(config.hydra.runtime.choices)
    folders = arguments.folders
    print(f"{commands()[command]}\n\nusage: ptft {usage}\n")
    known = groups(folders)
    _show_groups({group: chosen[group] for group in reversed(chosen) if not group.startswith("hydra/")}, known)
    _show_settings(root, config, chosen, known)
    if command == "find":
        _show_settings(command, _composed(command, Arguments()), {}, known)
    print("Flags")
    for name, text in FLAGS.items():
        if name != "-m" or command not in NO_SWEEP:
            print(f"  {name:<{WIDTH}} {text}")


def _composed(root: str, arguments: Arguments) -> DictConfig:
    schema.register(root)
    handover.register(arguments.only("ckpt"), arguments.only("part"))
    folder = arguments.flags.get("--config-dir")
    own = [f"hydra.searchpath=['file://{Path(folder).resolve()}']"] if folder else []
    try:
        with initialize_config_dir(str(config_dir()), **schema.version_base()):
            return compose(root, overrides=[*arguments.overrides, *own, *schema.bare()], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error, root)) from error


def _show_groups(chosen: dict[str, Any], known: dict[str, dict[str, Path]]) -> None:
    """The groups of this command, `*` at the current choice."""
    print("Choices (group=option)" if chosen else "", end="\n" if chosen else "")
    for group in chosen:
        print(f"  {group}")
        if chosen[group] == "from_ckpt":
            print(f"   *{'from_ckpt':<{WIDTH - 3}} as in the checkpoint")
        for option, path in known.get(group, {}).items():
            print(f"   {'*' if chosen[group] == option else ' '}{option:<{WIDTH - 3}} {description(path)}")


def _show_settings(root: str, config: DictConfig, chosen: dict[str, Any], known: dict[str, dict[str, Path]]) -> None:
    """Every setting with its value and what the YAML files say of it; those of a group under the group."""
    values = {name: value for name, value in OmegaConf.to_container(config, resolve=False).items() if name != "hydra"}
    texts = comments(config_dir() / "base.yaml") | comments(config_dir() / f"{root}.yaml")
    print(f"\nSettings of {root} (name=value)")
    for name, value in values.items():
        if not isinstance(value, dict):
            _show_setting(name, value, texts.get(name, ""))
    for name, node in values.items():
        if isinstance(node, dict):
            path = _file(name, chosen, known)
            own = {f"{name}.{key}": text for key, text in comments(path).items()} if path else {}
            for key in [key for key in node if not key.startswith("_")]:
                _show_setting(f"{name}.{key}", node[key], texts.get(f"{name}.{key}") or own.get(f"{name}.{key}", ""))


def _file(slot: str, chosen: dict[str, Any], known: dict[str, dict[str, Path]]) -> Path | None:
    """The YAML file that filled a slot; the objective's may be a task."""
    group = "task" if slot == "objective" and "task" in chosen else slot
    return known.get(group, {}).get(chosen.get(group))


def _show_setting(name: str, value: Any, text: str) -> None:
    shown = f"{name}={'(must be given)' if value == '???' else as_typed(value)}"
    print(f"  {shown:<{WIDTH}} {text}".rstrip())
