"""What a dataset offers to the loop, the commands and the run card; one of your own derives from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from ptft.data.rows import Rows


class Dataset:
    """Examples in the splits train, valid and test.

    An example is a dict: `tokens`, integers [n]; `image`, uint8 [C, H, W]; or `features`, float32 [F]; by the `modality` text,
    image or table. It also has `row`, its number in the split, and the `label` that the task learns. targets: the kinds of
    label that rows can give (class, number, text, ...; None: they can be read without one). `rows` and `fingerprint` are for
    each dataset to define, and `texts` for those of text; the rest may stay as it is here.

    reader: where a trained model is to predict on other rows, a class method of the dataset's settings and of the `columns`
    and `inputs` that a checkpoint kept. What it returns has `read(source)`, of text `read(source, tokenizer, max_length)`,
    which yields an id and an example for each row.
    """

    modality: str
    targets: tuple[str | None, ...] = (None,)
    skipped: Sequence[str] = ()  # what was left out and why, a line each
    reader: Callable[..., Any] | None = None

    @cached_property
    def notes(self) -> list[str]:
        """What users must know of this data, such as rows that were dropped; each is said once, and stands on the run card."""
        return []

    @property
    def fingerprint(self) -> str:
        """What identifies the data and its splits: another one refuses to resume, and is encoded anew."""
        raise TypeError(f"{type(self).__name__} defines no fingerprint")

    def rows(self, split: str) -> Rows | None:
        """The examples of a split, in an order that is always the same; None where there is no such split."""
        raise TypeError(f"{type(self).__name__} defines no rows")

    def texts(self, split: str = "train") -> Iterator[str]:
        """The text of a split in pieces, to train a tokenizer on."""
        raise TypeError(f"{type(self).__name__} defines no texts")

    def prepare(self, *text: Any, target: str | None = None, labels: list[str] | None = None, report: Any = None) -> None:
        """Make the rows ready, before any is asked for.

        text: of text only, the tokenizer and how many of its tokens a row may have. target: what is learned of each row, one
        of `targets`. labels: the class names of a trained model, in its order; without them, the dataset's own. report: called
        with (what, done, total). Raises UserError, DataError.
        """

    @property
    def facts(self) -> dict[str, Any]:
        """What constructors may ask for by name, once the data is prepared.

        labels and num_classes, where classes are learned; target_mean and target_std, where numbers are; input_shape of
        tables; channels, image_size, pixel_mean and pixel_std of images.
        """
        return {}

    @property
    def inputs(self) -> dict[str, Any] | None:
        """What the model's inputs were made like, which a checkpoint keeps; a later stage gives it to the constructor."""
        return None

    @property
    def columns(self) -> dict[str, Any]:
        """What `reader` needs to know of the files; a checkpoint keeps it."""
        return {}

    @property
    def few_labels(self) -> list[str] | None:
        """Which rows the run was to see with their labels; None: all."""
        return None

    def describe(self) -> dict[str, Any]:
        """What the run card says of this data."""
        return {"fingerprint": self.fingerprint}
