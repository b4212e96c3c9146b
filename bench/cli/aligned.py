"""Text in aligned columns. The commands `list` and `env` print it."""

from __future__ import annotations


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """One line per row. Each column is as wide as its longest cell, with two spaces between columns."""
    columns = max((len(row) for row in rows), default=0)
    widths = [max((len(row[i]) for row in rows if len(row) > i + 1), default=0) for i in range(columns)]
    return ["  ".join(f"{text:{widths[i]}}" for i, text in enumerate(row)).rstrip() for row in rows]
