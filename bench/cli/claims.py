"""The command `python -m bench claims`."""

from __future__ import annotations

import click


@click.command("claims", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
def claims_command(run: str | None, as_csv: bool) -> None:
    """Check the statements in Sec. V of the paper on RUN (default: the last run): does each of them hold?"""
    from bench.analysis.claims import judge, report, table
    from bench.results.csv_tables import frame_text
    from bench.results.find import find_run

    verdicts = judge(find_run(run))
    click.echo(frame_text(table(verdicts)) if as_csv else report(verdicts), nl=False)
