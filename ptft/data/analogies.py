"""Analogy questions: four words a line, "Athens Greece Oslo Norway", under lines that name a section, ": capitals"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ptft.data.dataset import Dataset
from ptft.data.documents import bounded_lines
from ptft.data.files import find_files, fingerprint
from ptft.data.opening import guarded, open_text
from ptft.data.rows import Example, Rows
from ptft.data.tokenizer import Tokenizer
from ptft.errors import DataError

NO_TOKEN = -1


class Questions(Rows):
    """Questions as examples: tokens, int32 [4], NO_TOKEN for a word that is not one known token; and the section."""

    def __init__(self, tokens: np.ndarray, sections: list[str]):
        self.tokens, self.sections = tokens, sections

    def __len__(self) -> int:
        return len(self.sections)

    def take(self, indices: Sequence[int]) -> list[Example]:
        return [{"tokens": self.tokens[index], "section": self.sections[index], "row": index} for index in indices]

    def lengths(self) -> np.ndarray:
        return np.full(len(self), 4)


class Analogies(Dataset):
    """Questions as word2vec's questions-words.txt has them, to test word vectors with; all of them are the test split."""

    modality = "text"
    targets = ("analogy",)

    def __init__(self, path: str):
        self.files = find_files(path, "dataset.path")
        self.questions: Questions | None = None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the bytes of the files."""
        return fingerprint([self.files], "analogies")

    def lines(self) -> Iterator[tuple[str, list[str]]]:
        """Each question with its section. Raises DataError for a line that has not four words."""
        for path in self.files:
            section = "questions"
            with guarded(path), open_text(path) as stream:
                for number, line in enumerate(bounded_lines(stream, path), 1):
                    words = line.split()
                    if words[:1] == [":"]:
                        section = "-".join(words[1:]) or section
                    elif words:
                        if len(words) != 4:
                            raise DataError(f"{path}:{number}: expected four words, or ': section', found {len(words)}")
                        yield section, words

    def texts(self, split: str = "train") -> Iterator[str]:
        """No text to train a tokenizer on: the words are those of a model that is trained already."""
        return iter(())

    def prepare(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        target: str | None = None,
        labels: list[str] | None = None,
        report: Any = None,
    ) -> None:
        """Look up the words."""
        found = list(self.lines())
        if not found:
            raise DataError(f"{self.files[0]}: no question; expected lines of four words")
        words = [word for _, question in found for word in question]
        ids = [entry[0] if len(entry) == 1 and entry[0] != tokenizer.unk_id else NO_TOKEN for entry in tokenizer.encode(words)]
        self.questions = Questions(np.array(ids, dtype=np.int32).reshape(-1, 4), [section for section, _ in found])

    def rows(self, split: str) -> Questions | None:
        """The questions, as the test split."""
        return self.questions if split == "test" else None

    def describe(self) -> dict[str, Any]:
        """What a run card says of this data."""
        return {"files": [str(path) for path in self.files], "fingerprint": self.fingerprint, "notes": list(self.notes)}
