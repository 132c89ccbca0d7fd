"""Questions with options of which one is right, for a language model to choose from by likelihood (GPT-3, 2005.14165, 2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ptft.data.dataset import Dataset
from ptft.data.files import find_files, fingerprint
from ptft.data.reading import existing, field, first_row, label_cell, rows, text_cell
from ptft.errors import DataError, UserError

Question = dict[str, Any]  # prompt; options: texts; answer: which; row


class Choices(Dataset):
    """One question a row. Nothing is trained on it: all rows are its test split.

    text: the column of the prompt. choices: a column that lists the options (a JSON list, or text with | between them),
    or the names of several columns, one option each; None: the answers that any row has. label: the column of the right
    one, its text or its number from 0. template: of the prompt, with {text} in it; an option follows after a space.
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
        shared = sorted({label_cell(row, where, self.label) for where, row in given}) if self.choices is None else None
        return [self.question(where, row, number, shared) for number, (where, row) in enumerate(given)]

    def question(self, where: str, row: dict[str, Any], number: int, shared: list[str] | None) -> Question:
        """One row's; shared: the options of all rows, where rows have none of their own."""
        options = shared or list(self.options(where, row))
        answer = label_cell(row, where, self.label)
        if len(options) < 2:
            raise DataError(f"{where}: found {len(options)} option, expected at least 2 to choose from")
        if answer not in options and not (answer.isdecimal() and int(answer) < len(options)):
            raise DataError(f"{where}: the answer '{answer}' is none of the {len(options)} options, nor the number of one")
        right = options.index(answer) if answer in options else int(answer)
        # the space before an option belongs to it: it is how words are written in a vocabulary
        prompt = self.template.replace("{text}", text_cell(row, where, self.text)).rstrip()
        return {"prompt": prompt, "options": options, "answer": right, "row": number}

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
