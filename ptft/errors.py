"""Errors a user can mend: one line each, with the exit code that tells scripts which kind it was."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A configuration that cannot work; the message is one line that says what to change."""

    exit_code = 2


class DataError(UserError):
    """Data that cannot be read or does not fit; the message names file and row."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint that is damaged, incompatible or hostile."""

    exit_code = 4


class Diverged(UserError):
    """Training reached numbers that are not finite."""

    exit_code = 5


class MachineError(UserError):
    """The machine refuses: disk full, no permission, folder in use by another run."""

    exit_code = 6


class Stopped(UserError):
    """A signal asked the run to stop; it is saved and can be continued."""

    exit_code = 75


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None where nothing is close."""
    found = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of an error line: the nearest valid choice, else all of them."""
    choices = sorted(str(choice) for choice in choices)
    close = nearest(word, choices)
    if close:
        return f"; did you mean '{close}'?"
    return f"; choose from: {', '.join(choices)}" if choices else ""
