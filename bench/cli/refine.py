"""The command `python -m bench refine`."""

from __future__ import annotations

import click

MOST_STEPS = 10_000


@click.command("refine", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--steps", default="1,2,4,8", show_default=True, metavar="N,N", help="Numbers of refinement steps.")
@click.option("--snr", default="0,10,20", show_default=True, metavar="A:B:STEP|LIST", help="SNRs in dB.")
@click.option("--dataset", default="photos-224", show_default=True, metavar="NAME|folder:PATH", help="The pictures.")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N pictures.")
@click.option("--checkpoint", default="shipped", show_default=True, metavar="FILE", help="GenSC's weights.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
def refine_command(
    steps: str, snr: str, dataset: str, data_root: str | None, limit: int | None, checkpoint: str, as_csv: bool
) -> None:
    """Measure PSNR and MS-SSIM of GenSC against its number of refinement steps, on AWGN at CBR 1/16."""
    from bench.data import open_dataset
    from bench.perf.refinement import refinement_table
    from bench.spec.grammar import parse_snr
    from systems import create

    counts = [int(part) if part.strip().isdecimal() and len(part) < 9 else 0 for part in steps.split(",")]
    if not 1 <= min(counts) <= max(counts) <= MOST_STEPS:
        raise click.UsageError(
            f"--steps {steps[:80]!r}: numbers of steps are whole, at least 1 and at most {MOST_STEPS}, such as 1,2,4,8"
        )
    pictures = open_dataset(dataset, data_root)
    pictures = pictures.take(limit) if limit else pictures
    table = refinement_table(create("gensc", checkpoint=checkpoint), pictures, parse_snr(snr), counts)
    click.echo(table.to_csv(index=False) if as_csv else table.to_string(index=False, float_format=lambda x: f"{x:.4g}"))
