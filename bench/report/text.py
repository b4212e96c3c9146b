"""Texts of figures: names that nobody chose for print, made fit for it, and numbers as readers write them."""

from __future__ import annotations

import re
from fractions import Fraction

from bench.util.files import shown

LONGEST = 60


def printable(text: object) -> str:
    """A name for a figure: on one line, what no font can show as an escape, a long name shortened in its middle."""
    return shown(text, LONGEST)


def cell(text: object) -> str:
    """A name inside a Markdown table: `|` and backslashes escaped."""
    return shown(text, 1000).replace("|", "\\|")


def thousands(number: float) -> str:
    """12345.0 -> '12 345', with narrow spaces."""
    return f"{round(number):,}".replace(",", "\u202f")


def ratio(value: float) -> str:
    """A channel bandwidth ratio as authors write it: 0.0625 -> '1/16', 0.3 -> '3/10'."""
    return str(Fraction(value).limit_denominator(10000))


def wrapped(words: list[str], limit: int) -> list[str]:
    """Words joined by ' · ' into lines of at most `limit` characters where that can be."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 3 + len(word) > limit:
            lines.append("")
        lines[-1] += (" · " if lines[-1] else "") + word
    return lines


def broken(title: str, length: int) -> str:
    """A name over lines of at most `length` characters where it can be: broken before a bracket or +, or at a space."""
    lines = [""]
    for part in re.findall(r" ?\([^()]*\)|[+ ]?[^+ ]+", title):
        if lines[-1] and len(lines[-1] + part) > length:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
    return "\n".join(lines)
