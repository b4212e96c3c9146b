"""The engine "serial": everything in this process, one task after another. For debugging, and for machines with one
core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.sweep.engines import Outcome, Work, one_thread


class SerialEngine:
    """Runs one task after another."""

    def run(self, tasks: list, work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes in the order of the tasks."""
        with one_thread():
            for task in (*before, *tasks):
                yield from work(task)
