"""`ptft COMMAND key=value ...`: finds the command; imports only the standard library until it knows one.

A command is a YAML file configs/COMMAND.yaml and a function `main` in ptft/commands/. From here: app.py composes the
configuration and calls that function, build.py makes objects of it.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import NoReturn

from ptft import __version__
from ptft.choices import ALIASES, commands
from ptft.errors import did_you_mean

HELP = ("-h", "--help", "help")


def run() -> NoReturn:
    """What the shell starts: `main`, and an end of the process that leaves out what costs time and memory for nothing."""
    code = None

    def leave() -> None:
        if code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # taking torch's modules apart takes half a second, and 100 MB

    atexit.register(leave)  # the first, so the last that is called
    code = main()
    sys.exit(code)


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `ptft list | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def dispatch(words: list[str]) -> int:
    """Answer what needs no configuration; hand everything else on."""
    if words and words[0] in HELP and words[1:2] and ALIASES.get(words[1], words[1]) in commands():  # ptft help pretrain
        words = [words[1], "--help"]
    if not words or words[0] in HELP:
        print(overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"ptft {__version__}")
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        from ptft.completion import complete

        return complete(words)
    words = [ALIASES.get(words[0], words[0]), *words[1:]]
    if words[0] not in commands():
        print(f"ptft: there is no command '{words[0]}'{did_you_mean(words[0], commands())}", file=sys.stderr)
        return 2
    gc.disable()  # what start-up makes is kept or never; app turns it on where a command begins
    try:
        from ptft import app

        return app.run(words[0], words[1:])
    finally:
        gc.enable()


def overview() -> str:
    """What `ptft --help` prints."""
    width = max(map(len, commands()))
    lines = [f"  {name:<{width}}  {text}" for name, text in commands().items()]
    return "\n".join(
        [
            "ptft trains models in stages: pretrain on plenty of data, fine-tune on a little, evaluate, use.",
            "",
            "usage: ptft COMMAND key=value ...",
            "",
            *lines,
            "",
            "ptft COMMAND --help lists what can be set; ptft list model the choices of a group;",
            'eval "$(ptft -sc install=bash)" completes commands and settings in your shell.',
        ]
    )
