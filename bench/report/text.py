"""Texts of figures and tables: names of any kind made printable, and numbers in the usual form. All of `bench.report`
uses it.
"""

from __future__ import annotations

import re
import textwrap
from fractions import Fraction

from bench.util.files import shown

LONGEST = 60


def printable(text: object) -> str:
    """A name for a figure: on one line, with escapes for what no font can show, and shortened in the middle if it is
    long.
    """
    return shown(text, LONGEST)


def thousands(number: float) -> str:
    """12345.0 -> '12 345', with a narrow space."""
    return f"{round(number):,}".replace(",", "\u202f")


def ratio(value: float) -> str:
    """A channel bandwidth ratio as a fraction: 0.0625 -> '1/16', 0.3 -> '3/10'."""
    return str(Fraction(value).limit_denominator(10000))


def broken(title: str, length: int) -> str:
    """A name on lines of at most `length` characters. It is broken before a bracket or +, or at a space; a part that
    is longer, anywhere.
    """
    lines = [""]
    for part in re.findall(r" ?\([^()]*\)|[+ ]?[^+ ]+", title):
        if lines[-1] and len(lines[-1] + part) > length:
            lines.append("")
        lines[-1] += part if lines[-1] else part.lstrip()
        if len(lines[-1]) > length:
            lines[-1:] = textwrap.wrap(lines[-1], length)
    return "\n".join(lines)
