"""The command `python -m bench compare`."""

from __future__ import annotations

import click


@click.command("compare", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("a")
@click.argument("b", required=False)
@click.option("--run", "run", metavar="RUN", help="The run of A and B, if they name none [default: the last run].")
@click.option("--baseline", metavar="SYSTEM", help="Also compare A and B with this system (or RUN:SYSTEM).")
@click.option(
    "--metric",
    metavar="NAME",
    help="A metric, or a cost that the harness measures, such as n_uses or decode_s [default: psnr_db or miou].",
)
@click.option("--figure", metavar="ID", help="Only the points of this figure [default: all].")
@click.option("--channel", metavar="NAME", help="Only this channel [default: all].")
@click.option("--snr", metavar="LIST", help="Only these SNRs in dB, such as 0:20:2 or 1,4,7 [default: all].")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
def compare_command(
    a: str,
    b: str | None,
    run: str | None,
    baseline: str | None,
    metric: str | None,
    figure: str | None,
    channel: str | None,
    snr: str | None,
    as_csv: bool,
) -> None:
    """Compare A with B: two systems, or two runs. Shows differences paired over pictures, with 95 % intervals.

    A system is NAME, in the run of --run, or RUN:NAME, in another run. A run is its folder, or its name under results/.
    """
    from bench.analysis.compare import compare
    from bench.analysis.compare_text import report
    from bench.analysis.sides import Selection
    from bench.results.csv_tables import frame_text
    from bench.spec.grammar import parse_snr

    selection = Selection(figure, channel, None if snr is None else parse_snr(snr))
    points = compare(a, b, baseline, run, metric, selection)
    if as_csv:
        click.echo(frame_text(points), nl=False)
        for note in points.attrs["notes"]:
            click.echo(note, err=True)
    else:
        click.echo(report(points), nl=False)
