"""`python -m bench plot`."""

from __future__ import annotations

import click


@click.command("plot", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--figure", metavar="F,F|all", help="Only these figures [default: all of the run].")
def plot_command(run: str | None, figure: str | None) -> None:
    """Draw the figures and tables of RUN, a run's folder or its name under results/ (default: the last run)."""
    from bench.report import draw_all
    from bench.results.find import find_run

    folder = find_run(run)
    names = None if figure in (None, "all") else [part.strip() for part in figure.split(",") if part.strip()]
    for path in draw_all(folder, names):
        click.echo(path)
