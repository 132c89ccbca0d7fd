"""Questions with options of which one is right, for a language model to choose from by likelihood (GPT-3, 2005.14165, 2.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ptft.data.dataset import Dataset
from ptft.data.files import find_files, fingerprint
from ptft.data.formats import Row
from ptft.data.reading import existing, field, first_row, label_cell, rows, text_cell
from ptft.errors import DataError, UserError

Question = dict[str, Any]  # prompt; options: texts; answer: which; row


class Choices(Dataset):
    """One question a row. Nothing is trained on it: all rows are its test split.

    text: the column of the prompt. choices: a column that lists the options (a JSON list, or text with | between them),
    or the names of several columns, one option each; None: the answers that any row has. label: the column of the right
    one: its text, its number from 0 or its letter from A. template: of the prompt, with {text} in it; an option follows
    after a space.
    shots: so many solved rows of shots_path stand before every question, blank lines between.
    """

    modality = "text"
    targets = (None, "text")

    def __init__(
        self,
        path: str,
        text: str,
        choices: str | list[str] | None,
        label: str,
        template: str,
        shots: int,
        shots_path: str | None,
    ):
        if "{text}" not in template:
            raise ValueError(f"template={template}: expected {{text}} in it, where the question goes")
        if (shots > 0) != (shots_path is not None):
            raise ValueError(f"shots={shots} and shots_path={shots_path} go together: how many solved rows, and of which file")
        self.text, self.choices, self.label, self.template, self.shots = text, choices, label, template, shots
        named = {"path": path, "shots_path": shots_path}
        self.files = {name: find_files(value, f"dataset.{name}") for name, value in named.items() if value is not None}
        options = [] if choices is None else [choices] if isinstance(choices, str) else choices
        for name, paths in self.files.items():
            for setting, column in [("text", text), ("label", label), *(("choices", option) for option in options)]:
                existing(paths[0], f"dataset.{setting} (of dataset.{name})", column, list(first_row(paths[0])))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files and all settings that decide what is asked."""
        settings = (self.text, self.choices, self.label, self.template, self.shots)
        return fingerprint([*self.files.values()], "choices", settings)

    @cached_property
    def questions(self) -> list[Question]:
        """The questions of the file, examples before each. Raises DataError for an answer that is no option."""
        found = self.read("path")
        solved = self.read("shots_path")[: self.shots] if self.shots else []
        if len(solved) < self.shots:
            raise UserError(f"dataset.shots={self.shots}: dataset.shots_path has {len(solved)} rows")
        before = "".join(f"{example['prompt']} {example['options'][example['answer']]}\n\n" for example in solved)
        return [{**question, "prompt": before + question["prompt"]} for question in found]

    def read(self, name: str) -> list[Question]:
        """The rows of one of the files."""
        given = [(where, row) for path in self.files[name] for where, row in rows(path)]
        answers = [label_cell(row, where, self.label) for where, row in given]
        shared = sorted(set(answers)) if self.choices is None else None
        options = [shared or list(self.options(where, row)) for where, row in given]
        right = self.right(given, answers, options)
        return [
            {"prompt": self.prompt(where, row), "options": known, "answer": place, "row": number}
            for number, ((where, row), known, place) in enumerate(zip(given, options, right, strict=True))
        ]

    def right(self, given: list[Row], answers: list[str], options: list[list[str]]) -> list[int]:
        """Which option of each row is right: the answer is its text, its number from 0 or its letter from A.

        What could be one thing or the other is what the answers of the other rows are. Raises DataError where they do not
        tell, and for a row whose answer is neither.
        """
        pairs = list(zip(answers, options, strict=True))
        counted = all(type(row[self.label]) is int and self.listed_as_text(row) for _, row in given)
        texts = [known.index(answer) if answer in known and not counted else None for answer, known in pairs]
        numbers = [None if self.choices is None else number_of(answer, known) for answer, known in pairs]
        for (where, _), (answer, known), *ways in zip(given, pairs, texts, numbers, strict=True):
            if len(known) < 2:
                raise DataError(f"{where}: found {len(known)} option, expected at least 2 to choose from")
            if ways == [None, None]:
                raise DataError(f"{where}: the answer '{answer}' is none of the {len(known)} options, nor the number of one")
        ambiguous = [row for row, ways in enumerate(zip(texts, numbers, strict=True)) if None not in ways and len({*ways}) > 1]
        if ambiguous and (None in texts) == (None in numbers):
            where, answer = given[ambiguous[0]][0], answers[ambiguous[0]]
            raise DataError(
                f"{where}: the answer '{answer}' is an option and also the number of another, and the other rows do not tell "
                f"which is meant; dataset.label may name the options by letters (A, B, ...)"
            )
        first, second = (numbers, texts) if ambiguous and None in texts else (texts, numbers)
        return [one if one is not None else other for one, other in zip(first, second, strict=True)]

    def listed_as_text(self, row: dict[str, Any]) -> bool:
        """Whether the options of a row are texts, so that a number beside them is the number of one."""
        cells = [row.get(name) for name in self.choices] if isinstance(self.choices, list) else row.get(self.choices or "")
        return isinstance(cells, list) and all(isinstance(cell, str) for cell in cells)

    def prompt(self, where: str, row: dict[str, Any]) -> str:
        """What stands before an option; the space between belongs to the option: so words are written in a vocabulary."""
        return self.template.replace("{text}", text_cell(row, where, self.text)).rstrip()

    def options(self, where: str, row: dict[str, Any]) -> Iterator[str]:
        if isinstance(self.choices, list):
            yield from (label_cell(row, where, column) for column in self.choices)
        else:
            cell = field(row, where, self.choices)
            yield from (str(option).strip() for option in (cell if isinstance(cell, list) else str(cell).split("|")))

    def prepare(self, *_: Any, **__: Any) -> None:
        """Read all questions, so that what is wrong with one is said at once."""
        self.notes += [f"{len(self.questions):,} questions"]

    def rows(self, split: str) -> list[Question] | None:
        """The questions; there is a test split only."""
        return self.questions if split == "test" else None


def number_of(answer: str, options: list[str]) -> int | None:
    """Which of the options is meant by a number from 0, or by a letter from A that is none itself; None where none is."""
    letter = re.fullmatch("[A-Za-z]", answer) and answer not in options
    place = int(answer) if answer.isdecimal() else ord(answer.upper()) - ord("A") if letter else len(options)
    return place if place < len(options) else None
