"""Figures and tables of a run, made from its files. Nothing is simulated. `python -m bench
plot` and `report` call it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_all(run_dir: Path, figures: Sequence[str] | None = None, **options) -> list[Path]:
    """Draw the figures of a run as PNG and PDF into `run_dir`/figures, and write its tables into `run_dir`/tables.

    figures: ids such as "fig4" or "fig6". None: all that the run has data for.
    options: the fields of `bench.report.options.Options`.
    Returns the written files. Raises UserError for a folder that is no run, an unknown figure or system, or a folder
    that cannot be written.
    """
    from bench.report.figures import draw_run
    from bench.report.options import Options

    return draw_run(Path(run_dir), figures, Options(**options)).files
