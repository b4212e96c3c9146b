"""Tables in Markdown. The tables of results, classes, overheads, claims and rules are written here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.util.files import shown


def markdown_table(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """The lines of a table, without a line end after the last one.

    align: one letter per column, "l" (left) or "r" (right, for numbers). rows: the cells as text, as many per row as
    the header has. A `|` in a cell is escaped by the caller. Raises ValueError if a row or `align` has another length.
    """
    rule = {"l": "---", "r": "---:"}
    cells = [list(header), *(list(row) for row in rows)]
    if len(align) != len(header) or any(len(row) != len(header) for row in cells):
        raise ValueError(f"a table of {len(header)} columns has a row or an alignment of another length")
    first, *others = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([first, "|" + "".join(f"{rule[letter]}|" for letter in align), *others])


def cell(text: object) -> str:
    r"""A name inside a Markdown table, as it is: `\`, `|` and the signs of Markdown and HTML are escaped."""
    return re.sub(r"([\\|`*<>&\[\]])", r"\\\1", shown(text, 1000))
