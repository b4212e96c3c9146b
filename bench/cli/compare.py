"""`python -m bench compare`."""

from __future__ import annotations

import click


@click.command("compare", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a")
@click.argument("b", required=False)
@click.option("--run", "run", metavar="RUN", help="The run of systems named without one [default: the last one].")
@click.option("--baseline", metavar="SYSTEM", help="Compare with this system, or RUN:SYSTEM, as well.")
@click.option("--metric", metavar="NAME", help="A column of samples.csv [default: psnr_db or miou].")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
def compare_command(
    a: str, b: str | None, run: str | None, baseline: str | None, metric: str | None, as_csv: bool
) -> None:
    """Difference of A and B, two systems or two runs, paired over pictures, with 95 % intervals.

    A system is a name, of --run, or RUN:NAME, of another run.
    """
    from bench.analysis.compare import compare, report

    points = compare(a, b, baseline, run, metric)
    click.echo(points.to_csv(index=False) if as_csv else report(points), nl=not as_csv)
