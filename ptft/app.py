"""Hands one command to Hydra and turns the outcome into an exit code and, where a user can mend it, one line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gc
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from ptft import handover, schema
from ptft.arguments import Arguments, implied, parse, quote
from ptft.choices import ABOUT_TRAINING, FOUND, NO_SWEEP, config_dir
from ptft.compose import prepare, retyped
from ptft.errors import MachineError, OptionError, Stopped, UserError, did_you_mean
from ptft.explain import OF_A_TASK, all_faults, explain
from ptft.rehearsal import check_checkpoints, check_output, check_own_files, check_plugins, is_hydras, variants

# the function of a command is ptft.commands.COMMAND.main; the two training commands are one function
MODULES = {"pretrain": "train", "finetune": "train"}
TRAINING = ("pretrain", "finetune")
HELP = ("-h", "--help")
ONLY_SHOWN = {"--cfg", "--info", "--hydra-help"}  # with these flags nothing is run
# the run folder belongs to ptft: Hydra makes no folders, files or log handlers of its own
QUIET = [
    "hydra.run.dir=.",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra.job.chdir=false",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]


def run(command: str, words: list[str]) -> int:
    """Run `ptft command words...` and return the exit code; faults go to standard error."""
    try:
        return _run(command, words)
    except KeyboardInterrupt:
        print(f"ptft {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # cli knows what that means
        raise
    except Exception as error:
        return report(command, error)


def report(command: str, error: Exception) -> int:
    """Say what went wrong, a user's mistake in one line, a bug with its traceback; returns the exit code."""
    if "torch" in sys.modules and importlib.import_module("ptft.machine").out_of_memory(error):
        error = MachineError("out of memory: a smaller batch or model, or shorter rows, take less").with_traceback(
            error.__traceback__
        )
    if not isinstance(error, UserError) or os.environ.get("PTFT_TRACEBACK") == "1":
        traceback.print_exception(error)
    if isinstance(error, UserError):
        for line in str(error).splitlines():
            print(f"ptft {command}: {line}", file=sys.stderr)
        return error.exit_code
    print(f"ptft {command}: internal error: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


def _run(command: str, words: list[str]) -> int:
    root, of_find = command, {}
    if command == "find":
        of_find["sought"], words = _what_to_find(words)
        of_find["find"], words = _how_to_find(of_find["sought"], words)
    if command in ABOUT_TRAINING:
        root, words = _what_to_try(command, words)
    arguments = parse(root, words)
    if command in NO_SWEEP and arguments.multirun:
        raise UserError(f"{command} does not sweep: leave out -m")
    if "--help" in arguments.flags:
        from ptft.help import show

        show(command, root, arguments)
        return 0
    check_own_files(arguments)
    check_output(command, arguments)
    check_checkpoints(arguments)
    if "--hydra-help" not in arguments.flags:  # which has no configuration that could take it
        arguments.overrides += implied(root, arguments)
    folder = _sweep_folder(root, arguments) if arguments.multirun else None
    job = Job(command, root, arguments, folder, of_find)
    schema.register(*([] if arguments.flags else [root]))  # a configuration of one's own may be another command's
    handover.register(arguments.only("ckpt"), arguments.only("part"))
    settings = [*QUIET, f"hydra.sweep.dir={quote(str(folder or '.'))}"]
    try:
        _rehearse(root, arguments, settings, folder)
        if arguments.flags:
            code = hydra_main(job, root, [*arguments.flag_words(), *settings, *arguments.overrides])
        else:
            try:
                code = compose_once(job, root, arguments.overrides)
            except UserError as error:
                compose = functools.partial(compose_once, [].append, root)
                raise all_faults(error, arguments.overrides, compose) from error
    finally:
        if folder:
            _sweep().tidy(folder)
    if job.failure:
        raise job.failure
    failed = _sweep().summarise(folder, command, arguments.flag_words("--multirun")) if folder else 0
    return code or failed


def _sweep() -> Any:
    """What only sweeps need."""
    return importlib.import_module("ptft.sweep")


def _what_to_find(words: list[str]) -> tuple[str | None, list[str]]:
    """`find lr pretrain key=value` seeks a rate; returns what is sought, None where that is help, and the rest."""
    if words and words[0] in FOUND:
        return words[0], words[1:]
    if words and words[0] in HELP:
        return None, words
    found = f"found '{words[0]}'{did_you_mean(words[0], FOUND)}" if words else "found nothing"
    raise UserError(f"expected what to find, as in ptft find lr pretrain key=value; {found}")


def _how_to_find(sought: str | None, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of `find` itself, which are composed apart, and the words that are about the training command."""
    own = [word for word in words if word.lstrip("+~").startswith("find.")]
    schema.register("find")
    found: list[DictConfig] = []
    compose_once(found.append, "find", parse("find", own).overrides)
    values = _prepared(found[0], "find", None, False)["find"]
    for key in [word.lstrip("+~").partition("=")[0] for word in own]:
        others = [name for name, settings in FOUND.items() if sought not in (None, name) and key[len("find.") :] in settings]
        if others:
            settings = ", ".join(f"find.{name}" for name in FOUND[sought])
            raise UserError(f"{key} is for ptft find {others[0]}; ptft find {sought} has {settings}")
    return values, [word for word in words if word not in own]


def _what_to_try(command: str, words: list[str]) -> tuple[str, list[str]]:
    """`check pretrain key=value` is about pretrain, as `find` is where none is named; returns the command and the rest."""
    if words and words[0] in TRAINING:
        return words[0], words[1:]
    if (words and words[0] in HELP) or (command == "find" and (not words or not words[0].isalpha())):
        return "pretrain", words
    found = f"found '{words[0]}'{did_you_mean(words[0], TRAINING)}" if words else "found nothing"
    example = "check" if command == "check" else "find lr"
    raise UserError(f"expected a command to try, as in ptft {example} pretrain key=value; {found}")


def _sweep_folder(command: str, arguments: Arguments) -> Path:
    """Where a sweep's jobs leave their runs: `run=FOLDER`, or a new folder under sweeps/."""
    given = arguments.values("run")
    if len(given) != 1 or given[0] is None:
        return Path("sweeps") / f"{command}-{datetime.now():%Y%m%d-%H%M%S-%f}"
    folder = Path(given[0])
    if folder.exists() and any(folder.iterdir()) and arguments.values("resume") != ["auto"]:
        raise UserError(f"run={folder} holds a run or a sweep already; give another folder, or resume=auto to continue it")
    arguments.overrides = [word for word in arguments.overrides if word.partition("=")[0] != "run"]
    return folder


def _prepared(config: DictConfig, root: str, folder: Path | None, own: bool) -> dict[str, Any]:
    """The values that a command gets, see prepare. Raises UserError."""
    try:
        return prepare(config, root, folder, own)
    except OmegaConfBaseException as error:
        raise UserError(explain(error, root)) from error


def _rehearse(root: str, arguments: Arguments, settings: list[str], folder: Path | None) -> None:
    """Before Hydra builds anything: refuse code in its own nodes, and values that no job of a sweep could use.

    folder: the sweep's. Raises UserError.
    """
    if arguments.flags.keys() & ONLY_SHOWN:
        return
    always, hydras = [*arguments.flag_words("--multirun"), *settings], list(filter(is_hydras, arguments.overrides))
    if hydras and not arguments.multirun:
        raise UserError(f"{hydras[0]}: Hydra's own settings count in a sweep only; add -m")
    foreign = "--config-dir" in arguments.flags or hydras
    swept = arguments.multirun and len(arguments.values("ckpt")) < 2  # else one that is missing would stop the others
    for words in variants(arguments.overrides) if foreign or swept else ():
        if foreign:
            try:
                with contextlib.redirect_stdout(io.StringIO()) as shown:
                    hydra_main(lambda config: None, root, ["--cfg=hydra", *always, *words])
            except UserError as error:
                raise _and_others(error, root, [*always, *words], folder) from error
            check_plugins(yaml.safe_load(shown.getvalue())["hydra"])
        if swept:
            found: list[DictConfig] = []
            try:
                hydra_main(found.append, root, [*always, *words])
            except UserError as error:
                raise all_faults(error, words, lambda others: hydra_main([].append, root, [*always, *others])) from error
            values = _prepared(found[0], root, folder, "--config-dir" in arguments.flags)
            if root in TRAINING:
                importlib.import_module("ptft.misfits").check_settings(values)


def _and_others(error: UserError, root: str, words: list[str], folder: Path | None) -> UserError:
    """What else is wrong in a configuration in which Hydra met a value that its types do not take, where they stopped it."""
    if OF_A_TASK in str(error):  # without it all of the file is out of place
        return error
    found: list[DictConfig] = []
    schema.register(root, typed=False)
    try:
        hydra_main(found.append, root, words)
    except UserError:
        return error
    faults = retyped(found[0], root)
    try:
        _prepared(found[0], root, folder, own=True)
    except UserError as others:
        faults += str(others).splitlines()
    return UserError("\n".join([str(error), *(fault for fault in faults if not str(error).endswith(fault))]))


def compose_once(job: Callable[[DictConfig], Any], command: str, overrides: list[str]) -> int:
    """Compose the configuration of `command` and call `job` with it: `hydra.main` composes twice, for sweeps."""
    try:
        with hydra.initialize_config_dir(str(config_dir()), **schema.version_base()):
            config = hydra.compose(command, [*overrides, *schema.bare()], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error, command)) from error
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    job(config)
    return 0


def hydra_main(job: Callable[[DictConfig], Any], command: str, words: list[str]) -> int:
    """Call `job` under Hydra, with its flags: sweeps, other folders of configurations; returns the exit code."""
    # Hydra 1.4 takes the names that configurations may instantiate
    extra: dict[str, Any] = {"execution_whitelist": ("ptft.*",)} if schema.hydra_is_modern() else schema.version_base()
    main = hydra.main(config_path=str(config_dir()), config_name=command, **extra)(job)
    try:
        with _hydra_raises(words):
            main()
    except SystemExit as leave:
        return 2 if leave.code == 1 else leave.code if isinstance(leave.code, int) else 0  # 1 is Hydra's for wrong usage
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error, command)) from error
    return 0


@contextlib.contextmanager
def _hydra_raises(words: list[str]) -> Iterator[None]:
    """Give Hydra its command line, and make it raise what it would otherwise print."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["ptft", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if sys.version_info >= (3, 14):  # its argparse looks into help texts that Hydra 1.3 makes lazily
        argparse.ArgumentParser._check_help = lambda parser, action: None
    try:
        yield
    finally:
        sys.argv = before[0]
        os.environ.pop("HYDRA_FULL_ERROR")
        if before[1] is not None:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


@dataclass
class Job:
    """What Hydra calls with a composed configuration, once, or once per job of a sweep.

    command: the one typed. root: whose configuration it is, another one only for `check` and `find`. folder: the sweep's.
    of_find: what `find` is to find, and how.
    """

    command: str
    root: str
    arguments: Arguments
    folder: Path | None
    of_find: dict[str, Any] = dataclasses.field(default_factory=dict)
    failure: Exception | None = None

    def __call__(self, config: DictConfig) -> float | None:
        if self.folder:
            return self._one_of_many(config)
        try:
            self._run(config, _new_run_folder(self.command, config), self.arguments.typed)
        except Exception as error:  # Hydra would print a line of its own about it
            self.failure = error
        return None

    def _one_of_many(self, config: DictConfig) -> float | None:
        """A job of a sweep: its outcome is recorded, and a failure does not stop the others."""
        number, overrides = HydraConfig.get().job.num, list(HydraConfig.get().overrides.task)
        folder = self.folder / str(number)
        given = {word.partition("=")[0] for word in overrides}
        own = implied(self.root, dataclasses.replace(self.arguments, overrides=overrides))
        own = [word for word in own if word.partition("=")[0] not in given]
        try:
            if own:  # what follows from this job's ckpt, where a sweep is over several
                config = hydra.compose(self.root, [*overrides, *own])
            score = self._run(config, folder, overrides)
        except Exception as error:
            report(f"{self.command}, job {number} ({' '.join(overrides)})", error)
            _sweep().record(folder, overrides, None, f"{type(error).__name__}: {error}")
            if isinstance(error, Stopped):
                raise SystemExit(error.exit_code) from error
            return None
        _sweep().record(folder, overrides, score, None)
        return score[1] if score else None

    def _run(self, config: DictConfig, folder: Path | None, overrides: list[str]) -> tuple[str, float, bool] | None:
        values = _prepared(config, self.root, folder, "--config-dir" in self.arguments.flags)
        about = [*([self.of_find["sought"]] if self.of_find else []), self.root] if self.command in ABOUT_TRAINING else []
        argv = ["ptft", self.command, *about, *overrides]
        values.update(command=self.root, argv=argv, folders=self.arguments.folders, **self.of_find)
        gc.enable()
        try:
            return importlib.import_module(f"ptft.commands.{MODULES.get(self.command, self.command)}").main(values)
        except OptionError as error:
            raise error.as_chosen(HydraConfig.get().runtime.choices) from error


def _new_run_folder(command: str, config: DictConfig) -> Path | None:
    """Where a run goes that was given no folder; to the microsecond, so that no two ever share one."""
    if command not in TRAINING or config.get("resume"):
        return None
    return Path("runs") / f"{command}-{datetime.now():%Y%m%d-%H%M%S-%f}"
