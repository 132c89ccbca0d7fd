"""What a training run says on the console while it runs, and how fast it says it goes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any, TextIO

from ptft.terminal import Terminal, as_clock, tell

SECONDS_BETWEEN_LINES = 2.0
SECONDS_BETWEEN_REFRESHES = 0.25
THINGS = "row cell sentence document text file folder image mask column tag token tensor position word question evaluation"
SINGULAR = {f"{thing}s": thing for thing in THINGS.split()} | {"boxes": "box", "classes": "class"}
VERBS = {"were": "was", "are": "is", "have": "has", "do": "does"}
ONE = re.compile(rf"(?<![\d.,])1 ((?:training )?)({'|'.join(SINGULAR)})\b(?:([^\d.,:;]*?) ({'|'.join(VERBS)})\b)?")
BAR = 24  # columns of the progress bar, where the terminal has room for it


class Pace:
    """How fast training goes, by the monotonic clock, counted from the first mark (so that warm-up is left out).

    Rates leave out what happens in `pause()` (evaluations, saves): they are the speed of training. The time left
    includes it, in the share it had so far: it is when the run will end.
    """

    def __init__(self, total_steps: int, clock: Callable[[], float] = time.monotonic):
        self.total_steps = total_steps
        self.clock = clock
        self.paused = 0.0
        self.first: tuple[int, dict[str, float], float] | None = None  # step, amounts, when
        self.last_step = -1
        self.rates: dict[str, float] = {}

    def mark(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Note that `step` steps are done; returns <unit>_per_second for each unit there is, and seconds_left.

        values may hold `tokens` and `samples`: how many were trained on since training began. Marking a step again
        changes nothing.
        """
        if step != self.last_step:
            self.last_step = step
            self.rates = self._rates(step, {unit: values[unit] for unit in ("tokens", "samples") if unit in values})
        return dict(self.rates)

    def _rates(self, step: int, amounts: dict[str, float]) -> dict[str, float]:
        now = self.clock()
        if self.first is None or step <= self.first[0]:
            self.first, self.paused = (step, amounts, now), 0.0
            return {}
        first_step, before, start = self.first
        seconds = max(now - start, 1e-9)
        training = max(seconds - self.paused, 1e-9)
        rates = {f"{unit}_per_second": (amount - before.get(unit, 0)) / training for unit, amount in amounts.items()}
        return {**rates, "seconds_left": (self.total_steps - step) * seconds / (step - first_step)}

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time that is not training: an evaluation, a save."""
        start = self.clock()
        try:
            yield
        finally:
            self.paused += self.clock() - start


class Console:
    """The console of one run: what will run, a status line or plain lines, evaluations, samples, notes, the summary.

    plain: lines instead of a status line; None means "unless `stream` is a terminal". score: the score that chooses the
    best weights, shown beside the training loss. There is no thread: the display moves when it is told something.
    """

    def __init__(
        self,
        total_steps: int,
        plain: bool | None = None,
        stream: TextIO | None = None,
        score: str = "loss",
        width: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps = total_steps
        self.terminal = Terminal(stream, plain, width)
        self.pace = Pace(total_steps, clock)
        self.score = score
        self.notes: list[str] = []
        self._clock = clock
        self._shown: float | None = None  # when progress was last shown
        self._best_known = ""  # the latest validation score, for the status line

    def expect(self, total_steps: int, score: str) -> None:
        """Say how many steps there will be and which score counts, where that is known only after the data is read."""
        self.total_steps = self.pace.total_steps = total_steps
        self.score = score

    def start(self, title: str, rows: Mapping[str, Any]) -> None:
        """Print what will run; a value that is a list of dicts becomes a table under its name."""
        self.terminal.line(title, style="bold")
        self._rows(rows)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Show how training stands after `step` steps: loss, score, lr, tokens or samples a second, time left."""
        values = {**self.pace.mark(step, values), **values}
        if not self._is_due(step >= self.total_steps):
            return
        fields = [f"{name} {tell(float(values[name]), name)}" for name in ("loss", "lr") if name in values]
        if self._best_known:
            fields.insert(1, self._best_known)
        unit = "tokens" if "tokens_per_second" in values else "samples"
        if f"{unit}_per_second" in values:
            fields.append(f"{values[f'{unit}_per_second']:,.0f} {unit}/s")
        if "seconds_left" in values:
            fields.append(f"{as_clock(values['seconds_left'])} left")
        self._show_progress("step", step, self.total_steps, "  ".join(fields))

    def progress(self, name: str, done: int, total: int) -> None:
        """Show how far some other work is (tokenizing, evaluating): call it as often as you like."""
        if not self._is_due(done >= total):
            return
        self._show_progress(name, done, total)
        if done >= total:
            self._shown = None
            self.terminal.status("")

    def evaluation(self, step: int, split: str, scores: Mapping[str, float]) -> None:
        """Print the scores of one evaluation."""
        numbers = "  ".join(f"{name} {tell(value, name)}" for name, value in scores.items())
        self.terminal.line(f"step {step:,}  {split}  {numbers}", style="green")
        if split == "valid" and self.score in scores:
            self._best_known = f"valid {self.score} {tell(scores[self.score], self.score)}"

    def samples(self, step: int, lines: Sequence[str]) -> None:
        """Print lines that show what the model now does."""
        for line in lines:
            self.terminal.line(f"    {' ⏎ '.join(line.splitlines())}", style="dim")

    def note(self, text: str) -> None:
        """Print a warning, once; it is repeated in the last lines of the run. Where it counts one of a thing, that is said."""
        text = ONE.sub(_of_one, text)
        if text not in self.notes:
            self.notes.append(text)
            self.terminal.line(f"note: {text}", style="yellow")

    def saved(self, path: str | PathLike) -> None:
        """Say where a checkpoint lies."""
        self.terminal.line(f"saved {path}", style="dim")

    def summary(self, rows: Mapping[str, Any], next_command: str | Sequence[str] = ()) -> None:
        """Print the end of a run: results, the notes again, and what to type next."""
        self.terminal.status("")
        self.terminal.line()
        self._rows(rows)
        self._repeat_notes()
        commands = [next_command] if isinstance(next_command, str) else next_command
        if commands:
            self.terminal.line("next:", style="bold")
        for command in commands:
            self.terminal.line(f"  {command}")

    def close(self) -> None:
        """Take the status line away; repeat the notes where a run ended without a summary."""
        self.terminal.status("")
        self._repeat_notes()

    def _rows(self, rows: Mapping[str, Any]) -> None:
        tables = {name: value for name, value in rows.items() if _is_table(value)}
        self.terminal.pairs({name: value for name, value in rows.items() if name not in tables})
        for name, table in tables.items():
            self.terminal.line(name, style="dim")
            self.terminal.table(table)

    def _repeat_notes(self) -> None:
        for text in self.notes:
            self.terminal.line(f"note: {text}", style="yellow")
        self.notes = []

    def _is_due(self, last: bool) -> bool:
        """Whether enough time has passed to show progress again; the first and the last always are."""
        now = self._clock()
        apart = SECONDS_BETWEEN_LINES if self.terminal.plain else SECONDS_BETWEEN_REFRESHES
        due = last or self._shown is None or now - self._shown >= apart
        self._shown = now if due else self._shown
        return due

    def _show_progress(self, name: str, done: int, total: int, fields: str = "") -> None:
        count = f"{done:,}/{total:,}"
        if self.terminal.plain:
            self.terminal.line(f"{name} {count}  {fields}")
            return
        room = self.terminal.rich.width - len(f"{name}   {count}  {fields}") - 1
        self.terminal.status(f"{name} {self._bar(done / max(total, 1), min(room, BAR))}{count}  {fields}")

    def _bar(self, share: float, width: int) -> str:
        if width < 6:
            return ""
        full, empty = ("#", ".") if self.terminal.ascii else ("━", "─")
        filled = round(min(share, 1.0) * width)
        return full * filled + empty * (width - filled) + " "


def _of_one(found: re.Match) -> str:
    """The count of one thing, in the singular."""
    return f"1 {found[1]}{SINGULAR[found[2]]}" + (f"{found[3]} {VERBS[found[4]]}" if found[4] else "")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)
