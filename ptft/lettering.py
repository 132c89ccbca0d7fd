"""Names from data as a picture can show them: in fonts that have their characters, without what no font has."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE = 10  # pixels
PLAIN_FONT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "Last Resort High-Efficiency"  # comes with it too, and draws a box for everything


def legible(names: Sequence[str], longest: int = 24, numbers: Iterable[int] | None = None) -> tuple[list[str], list[str]]:
    """Names ready to be drawn, and the font families that together have their characters.

    A name with a letter that no installed font has begins with its number, by default its place, so that it can be told
    from others; one that is too long is cut in the middle.
    """
    fonts, missing = _fonts_for(frozenset("".join(names)))
    shown = []
    for number, name in zip(range(len(names)) if numbers is None else numbers, names, strict=True):
        kept = "".join(" " if not letter.isprintable() else letter for letter in name if letter not in missing).strip()
        lost = any(letter in missing and letter.isalnum() for letter in name)
        shown.append(_shorten(f"#{number} {kept}".strip() if lost else kept, longest))
    return shown, list(fonts)


def readable(texts: Sequence[str]) -> list[str]:
    """Texts on a line each, with a number in place of letters that no installed font has: the same one for the same letters."""
    _, missing = _fonts_for(frozenset("".join(texts)))
    numbers: dict[str, int] = {}
    return [" ".join("".join(_numbered(text, missing, numbers)).split()) for text in texts]


def _numbered(text: str, missing: frozenset[str], numbers: dict[str, int]) -> Iterator[str]:
    for lost, letters in groupby(text, missing.__contains__):
        run = "".join(letters)
        if not lost:
            yield "".join(letter if letter.isprintable() else " " for letter in run)
        elif any(map(str.isalnum, run)):
            yield f"#{numbers.setdefault(run, len(numbers))}"


def width_of(text: str) -> int:
    """How many pixels `write` takes for a legible text."""
    return math.ceil(sum(font.getlength(part) for font, part in _parts(text)))


def write(pen: ImageDraw, place: tuple[float, float], text: str, ink: Any, room: float = math.inf, halo: Any = None) -> None:
    """Write a legible text with PIL from its upper left corner, each letter in the first font that has it, as far as fits.

    halo: a colour around the letters, so that they can be read on anything.
    """
    left, top = place
    base = top + _face(_fonts_for(frozenset())[0][PLAIN_FONT]).getmetrics()[0]
    for font, part in _parts(_fitting(text, room)):
        pen.text((left, base), part, fill=ink, font=font, anchor="ls", stroke_width=halo is not None, stroke_fill=halo)
        left += font.getlength(part)


def wrapped(text: str, room: float, most: int) -> list[str]:
    """A legible text as lines of `room` pixels, broken between words where it can be; of `most` the last holds all the rest."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(joined) <= room:
            lines[-1] = joined
            continue
        while width_of(word) > room and len(word) > 1:
            part = next((word[:end] for end in range(len(word) - 1, 1, -1) if width_of(word[:end]) <= room), word[:1])
            lines.append(part)
            word = word[len(part) :]
        lines.append(word)
    return [*lines[: most - 1], " ".join(lines[most - 1 :])] if len(lines) > most else lines


def _fitting(text: str, room: float) -> str:
    """As much of a text as there is room for."""
    if width_of(text) <= room:
        return text
    while text and width_of(f"{text}…") > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _parts(text: str) -> Iterator[tuple[Any, str]]:
    """A text as runs of letters that one font has; what none has is left to the plain one."""
    fonts, _ = _fonts_for(frozenset(text))

    def chosen(letter: str) -> str:
        return next((name for name, path in fonts.items() if letter in _letters_of(path)), PLAIN_FONT)

    for name, letters in groupby(text, chosen):
        yield _face(fonts[name]), "".join(letters)


@cache
def _face(path: str) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, SIZE)


def _shorten(name: str, longest: int) -> str:
    """The start and the end: class names often differ in the last word."""
    if len(name) <= longest:
        return name
    end = longest // 3
    return f"{name[: longest - end - 1].rstrip()}…{name[-end:].lstrip()}"


@cache
def _fonts_for(letters: frozenset[str]) -> tuple[dict[str, str], frozenset[str]]:
    """Families that cover the letters with their files, the plain one first, and the letters that none covers."""
    from matplotlib.font_manager import findfont, fontManager

    fonts = {PLAIN_FONT: findfont(PLAIN_FONT)}
    missing = {letter for letter in letters if letter.isprintable()} - _letters_of(fonts[PLAIN_FONT])
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight == 400]
    for font in sorted(upright, key=lambda font: ("Sans" not in font.name, font.name)):
        if missing and font.name != LAST_RESORT and missing & _letters_of(font.fname):
            fonts[font.name] = font.fname
            missing -= _letters_of(font.fname)
    return fonts, frozenset(missing)


@cache
def _letters_of(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
