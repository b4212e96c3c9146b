"""The worker: it computes the cells of a work unit. `bench.sweep.execute` makes one, and every engine calls it.

work.py        `Worker`: the order of things, from a work unit to one outcome per cell
batches.py     pictures of one size together, and the points that go through a decoder at once
systems.py     the systems that this process has built, each with its ledger
checks.py      the checks of a system before its cells are computed
trial.py       the checks before a run writes anything, as `bench.sweep.preflight` plans them
rows.py        the rows of samples.csv
write_cell.py  writes the rows of a cell, and the pictures that are kept
printed.py     the output of systems, in `output/` of the run
outcomes.py    the outcomes of cells that fail
"""

from bench.sweep.worker.work import CELL_SECONDS, Worker

__all__ = ["CELL_SECONDS", "Worker"]
