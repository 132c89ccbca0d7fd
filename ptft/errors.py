"""Errors a user can mend: one line each, with the exit code that tells scripts which kind it was."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A configuration that cannot work; the message is one line that says what to change."""

    exit_code = 2


class OptionError(UserError):
    """A choice whose constructor refuses the settings it was given; the message begins with the class."""

    def __init__(self, kind: str, name: str, fault: str):
        super().__init__(f"{kind} {name}: {fault}")
        self.kind, self.fault = kind, fault

    def as_chosen(self, choices: Mapping[str, str | None]) -> UserError:
        """The error that begins with the option as it is typed, `objective=moco_v3`; this one where none was chosen."""
        groups = ("task", "objective") if self.kind == "objective" else (self.kind,)
        chosen = [f"{group}={choices[group]}" for group in groups if choices.get(group) not in (None, "from_ckpt")]
        return UserError(f"{chosen[0]}: {self.fault}") if chosen else self


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
    """The choice most like `word`, whatever the case of its letters, or None where nothing is close."""
    choices = {str(choice): None for choice in choices}
    lower = {choice.lower(): choice for choice in reversed(choices)}
    found = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of an error line: the nearest valid choice, else all of them."""
    choices = sorted(str(choice) for choice in choices)
    close = nearest(word, choices)
    if close:
        return f"; did you mean '{close}'?"
    return f"; choose from: {', '.join(choices)}" if choices else ""
