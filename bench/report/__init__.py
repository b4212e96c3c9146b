"""Figures of a run: `draw_all` makes them from the run's own tables, without simulating anything."""

from __future__ import annotations

from pathlib import Path


def draw_all(run_dir: Path, figures: list[str] | None = None) -> list[Path]:
    """Draw the figures of a run into `run_dir`/figures, PNG and PDF each, and its tables into `run_dir`/tables.

    `figures`: ids such as "fig4" or "fig6"; None draws all that the run has data for. Gives the files written. Raises
    UserError for a folder that is no run, an unknown figure, or a folder that cannot be written.
    """
    from bench.report.figures import draw_run

    return draw_run(Path(run_dir), figures)
