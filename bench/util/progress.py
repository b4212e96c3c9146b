"""Shows the progress of long work on stderr. The sweep, the downloads and `perf` use it.

On a terminal it is one line that changes in place, with a bar, the rate and the remaining time (by `rich`). Elsewhere
(a file, a cluster's log) it is a plain line at the start, one every `EVERY` seconds, and one at the end.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

EVERY = 10.0  # seconds between two plain lines


class Progress:
    """`done` of `total` units of work, followed by a note. The first line is shown at once.

    label: the kind of work, such as "sweep".
    unit: the name of the units, such as "cells". "bytes" are shown in MB.
    total: None if it is not known. If the stream is closed or full, nothing is shown, and the work goes on.
    """

    def __init__(self, label: str, total: int | None, unit: str = "", stream: TextIO | None = None):
        self.label, self.total, self.unit = label, total, unit
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        self._first = None  # units done at the first update; they do not count in the rate
        self._start = time.monotonic()
        self._last = float("-inf")
        self._bar = None
        with _quietly():
            if self.stream.isatty():
                self._bar = _bar(label, total, unit, self.stream)
        self.update(0)

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` units are done, followed by `note`."""
        self.done = done
        if self._first is None:
            self._first = done
        with _quietly():
            if self._bar is not None:
                self._bar.update(0, completed=done, note=note)
            elif time.monotonic() - self._last >= EVERY:
                self._last = time.monotonic()
                self._line(note)

    def close(self, note: str = "") -> None:
        """Show the last state, and end the display."""
        with _quietly():
            if self._bar is not None:
                self._bar.update(0, completed=self.done, note=note)
                self._bar.stop()
            else:
                self._line(note, final=True)

    def _line(self, note: str, final: bool = False) -> None:
        seconds = time.monotonic() - self._start
        rate = (self.done - (self._first or 0)) / seconds if seconds > 0 else 0.0
        of = "" if self.total is None else f"/{amount(self.total, self.unit)}"
        parts = [f"{amount(self.done, self.unit)}{of}{'' if self.unit in ('', 'bytes') else ' ' + self.unit}"]
        if note:
            parts.append(note)
        if not final and rate > 0:
            if self.unit == "bytes":
                parts.append(f"{amount(int(rate), self.unit)}/s")
            if self.total is not None:
                left = int(max(0, self.total - self.done) / rate)
                parts.append(f"ETA {left // 60}:{left % 60:02d}")
        self.stream.write(f"{self.label + ': ' if self.label else ''}{', '.join(parts)}\n")
        self.stream.flush()


def amount(count: int, unit: str) -> str:
    """A number of units as text. Bytes are given in MB."""
    return f"{count / 1e6:.1f} MB" if unit == "bytes" else str(count)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Ignore errors of the display: the stream may be closed, full, or of another encoding."""
    try:
        yield
    except (OSError, ValueError):
        pass


def _bar(label: str, total: int | None, unit: str, stream: TextIO):
    """A started bar of `rich` with one task."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text(f"{task.speed:.1f} {unit}/s" if task.speed else "")

    count = (
        (DownloadColumn(), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), TextColumn(unit), Rate())
    )
    columns = (
        TextColumn("{task.description}"), BarColumn(), *count, TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
    )  # fmt: skip
    bars = Bars(*columns, console=Console(file=stream), refresh_per_second=5)
    bars.add_task(label, total=total, note="")
    bars.start()
    return bars
