"""Names from data as a picture can show them: in fonts that have their characters, without what no font has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

PLAIN_FONT = "DejaVu Sans"  # comes with matplotlib
LAST_RESORT = "Last Resort High-Efficiency"  # comes with it too, and draws a box for everything


def legible(names: Sequence[str], longest: int = 24) -> tuple[list[str], list[str]]:
    """Names ready to be drawn, and the font families that together have their characters.

    A name of which no installed font has a letter becomes its number; one that is too long is cut in the middle.
    """
    fonts, missing = _fonts_for(frozenset("".join(names)))
    shown = []
    for index, name in enumerate(names):
        kept = "".join(" " if not letter.isprintable() else letter for letter in name if letter not in missing).strip()
        unreadable = any(map(str.isalnum, name)) and not any(map(str.isalnum, kept))
        shown.append(f"#{index}" if unreadable else _shorten(kept, longest))
    return shown, fonts


def _shorten(name: str, longest: int) -> str:
    """The start and the end: class names often differ in the last word."""
    if len(name) <= longest:
        return name
    end = longest // 3
    return f"{name[: longest - end - 1].rstrip()}…{name[-end:].lstrip()}"


@cache
def _fonts_for(letters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families that cover the letters, the plain one first, and the letters that none covers."""
    from matplotlib.font_manager import findfont, fontManager

    fonts = [PLAIN_FONT]
    missing = {letter for letter in letters if letter.isprintable()} - _letters_of(findfont(PLAIN_FONT))
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight == 400]
    for font in sorted(upright, key=lambda font: ("Sans" not in font.name, font.name)):
        if missing and font.name != LAST_RESORT and missing & _letters_of(font.fname):
            fonts.append(font.name)
            missing -= _letters_of(font.fname)
    return fonts, frozenset(missing)


@cache
def _letters_of(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
