"""What a run looks like: figures and tables from its own files, without simulating anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def draw_all(run_dir: Path, figures: Sequence[str] | None = None, **options) -> list[Path]:
    """Draw the figures of a run into `run_dir`/figures, PNG and PDF each, and its tables into `run_dir`/tables.

    `figures`: ids such as "fig4" or "fig6"; None draws all that the run has data for. `options`: the fields of
    `bench.report.options.Options`. Gives the files written. Raises UserError for a folder that is no run, an unknown
    figure or system, or a folder that cannot be written.
    """
    from bench.report.figures import draw_run
    from bench.report.options import Options

    return draw_run(Path(run_dir), figures, Options(**options)).files
