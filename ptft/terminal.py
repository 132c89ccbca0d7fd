"""Where text for people goes: a terminal with colours and a status line, or plain lines in a pipe, a file, a log."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

ERASE_LINE = "\x1b[2K"
UNBOUNDED = 100_000  # columns of a plain stream: lines in a pipe are cut by whoever reads them
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


class Terminal:
    """A stream that text may be printed to whatever it is: narrow, ASCII only, closed at the other end.

    plain: no colours, no status line, no wrapping; None means "unless the stream is a terminal". A stream that breaks
    falls silent instead of raising: losing the reader must not lose the training.
    """

    def __init__(self, stream: TextIO | None = None, plain: bool | None = None, width: int | None = None):
        self.stream = sys.stdout if stream is None else stream
        self.plain = not _is_terminal(self.stream) if plain is None else plain
        self.width = UNBOUNDED if self.plain else width
        self._status = ""
        self._broken = False

    @cached_property
    def rich(self) -> RichConsole:
        """The renderer, imported at the first line printed; it turns what is printed into text and never writes."""
        from rich.console import Console

        # Rich gets a stand-in for the stream: it would end the process where the stream breaks.
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return Console(
            file=io.TextIOWrapper(io.BytesIO(), encoding=encoding),
            width=self.width,
            force_terminal=not self.plain,
            no_color=True if self.plain else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    @property
    def ascii(self) -> bool:
        """Whether the stream has no characters for blocks and lines."""
        return self.rich.options.ascii_only

    def line(self, text: str = "", style: str = "") -> None:
        """Print text, left to the terminal to wrap, so that a command can be copied in one piece."""
        from rich.text import Text

        self._print(Text(printable(text), style=style), soft_wrap=True)

    def pairs(self, rows: Mapping[str, Any]) -> None:
        """Print names and values, one a line, values aligned."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for name, value in rows.items():
            grid.add_row(name, Text(printable(tell(value, name))))
        self._print(grid)

    def table(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Print rows that share columns; numbers to the right."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        rows = list(rows)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        style = None if self.plain else box.SIMPLE_HEAD
        table = Table(box=style, padding=(0, 2, 0, 0) if self.plain else (0, 1), pad_edge=False)
        for name in columns:
            numeric = all(isinstance(row.get(name, 0), (int, float)) for row in rows)
            table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(printable(tell(row[name], name))) if name in row else Text() for name in columns))
        self._print(table)

    def status(self, text: str) -> None:
        """Show one line that the next one overwrites; nothing at all on a plain stream."""
        if self.plain:
            return
        from rich.text import Text

        line = Text(printable(text), style="cyan")
        line.truncate(self.rich.width - 1, overflow="crop" if self.ascii else "ellipsis")
        # The cursor rests at the start of the line, so that a foreign message overwrites it instead of following it.
        self._status = ERASE_LINE + self._render(line, end="") + "\r" if text else ""
        self._write(self._status or ERASE_LINE)

    def _print(self, renderable: RenderableType, soft_wrap: bool = False) -> None:
        text = self._render(renderable, soft_wrap=soft_wrap)
        if self.plain:
            text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        self._write((ERASE_LINE if self._status else "") + text + self._status)

    def _render(self, renderable: RenderableType, **options: Any) -> str:
        with self.rich.capture() as captured:
            self.rich.print(renderable, **options)
        return captured.get()

    def _write(self, text: str) -> None:
        if self._broken:
            return
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(self.stream, "encoding", None) or "ascii"
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError):
            self._fall_silent()

    def _fall_silent(self) -> None:
        """Send what Python still holds for the broken stream nowhere, or it would complain at exit."""
        self._broken = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def printable(text: str) -> str:
    """Text whose control characters are spelt out, so that data cannot steer the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def tell(value: Any, name: str = "") -> str:
    """A value as people read it: thousands apart, four digits of a score, an exponent where it helps."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if name in {"seed", "pid"} else f"{value:,}"
    if isinstance(value, float):
        return _tell_float(value, name)
    if isinstance(value, (list, tuple)):
        return ", ".join(tell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {tell(item, key)}" for key, item in value.items())
    return "none" if value is None else str(value)


def _tell_float(value: float, name: str) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if name == "lr" or abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"


def as_clock(seconds: float) -> str:
    """Seconds as 0:42, 1:02:03 or 2 d 01:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def size(count: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def sparkline(values: Iterable[float], width: int = 40, ascii: bool = False) -> str:
    """A curve in one line of text: means over `width` equal stretches of the finite values."""
    values = [value for value in values if math.isfinite(value)]
    width = min(width, len(values))
    bounds = [len(values) * index // width for index in range(width + 1)] if width else []
    means = [sum(values[start:end]) / (end - start) for start, end in zip(bounds, bounds[1:], strict=False)]
    low, high = min(means, default=0), max(means, default=0)
    blocks = ASCII_BLOCKS if ascii else BLOCKS
    return "".join(blocks[int((mean - low) / (high - low or 1) * (len(blocks) - 1) + 0.5)] for mean in means)
