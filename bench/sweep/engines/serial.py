"""The engine "serial": everything in this process, one work unit after another. For debugging, and for machines with
one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.sweep.engines import Outcome, Work, one_thread


class SerialEngine:
    """Runs one work unit after another."""

    def run(self, units: list, work: Work, before: Sequence = ()) -> Iterator[Outcome]:
        """Outcomes in the order of the work units."""
        with one_thread():
            for unit in (*before, *units):
                yield from work(unit)
