"""The command `python -m bench report`."""

from __future__ import annotations

import click

from bench.cli.numbers import Amount


@click.command("report", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@click.option("--out", metavar="FILE.html", help="The file [default: report.html in the first run's folder].")
@click.option(
    "--picture-mib",
    type=Amount(0, 500),
    default=24.0,
    show_default=True,
    help="The most MiB that the pictures in the file may take.",
)
def report_command(runs: tuple[str, ...], out: str | None, picture_mib: float) -> None:
    """Write one HTML file with all curves, tables, pictures and claims of one or more RUNs (default: the last run)."""
    from bench.report.html import write_report
    from bench.results.find import find_run
    from bench.results.reader import Run
    from bench.util.files import user_path

    opened = [Run.open(find_run(name)) for name in runs or (None,)]
    path = user_path(out, "--out") if out else opened[0].directory / "report.html"
    click.echo(write_report(opened, path, picture_mib))
