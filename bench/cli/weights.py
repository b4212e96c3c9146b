"""The commands `python -m bench weights import`, `ship`, `show`, `fetch` and `loss`."""

from __future__ import annotations

from pathlib import Path

import click

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("weights", context_settings=_SETTINGS)
def weights_group() -> None:
    """Import published weights, compare trained ones, ship them in the package, and measure what 8 bits cost."""


@weights_group.command("import", context_settings=_SETTINGS)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE.safetensors",
    type=click.Path(path_type=Path),
    help="The new file [default: NAME-<stem>.safetensors].",
)
@click.option("--snr-db", metavar="LOW:HIGH", help="SNRs of its training in dB, if the layout does not say.")
def import_command(name: str, file: Path, out: Path | None, snr_db: str | None) -> None:
    """Convert published weights to a file for --checkpoint.

    FILE: a state dict of NAME. It becomes a safetensors file with a sidecar, for `--checkpoint NAME=FILE`.
    NAME: witt (the authors' program), deepjscc (Deep-JSCC-PyTorch) or fcn (torchvision). Sizes follow from the tensors.
    """
    import baselines  # noqa: F401  (registers its systems)
    from baselines.import_weights import import_weights
    from systems.errors import UserError

    limits = None
    if snr_db:
        low, _, high = snr_db.partition(":")
        try:
            limits = (float(low), float(high or low))
        except ValueError:
            raise UserError(f"--snr-db {snr_db}: write LOW:HIGH in dB, as 1:13, or one number") from None
        if not -200 <= limits[0] <= limits[1] <= 200:
            raise UserError(f"--snr-db {snr_db}: the first number is the lower one, both are from -200 to 200 dB")
    target = out or Path(f"{name}-{file.stem}.safetensors")
    if target.suffix != ".safetensors":
        raise UserError(f"--out {target}: weights are stored as .safetensors")
    facts = import_weights(name, file, target, limits)
    click.echo(f"{target}  {facts['parameters']:,} parameters, sha256 {facts['sha256'][:8]}")
    click.echo(f"run it: python -m bench run --systems {name} --checkpoint {name}={target}")


@weights_group.command("ship", context_settings=_SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bits", type=click.Choice(["8", "16"]), default="16", show_default=True, help="Bits per stored value.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="With --bits 8: names of tensors that stay in 16 bits.")
def ship_command(file: Path, bits: str, keep: tuple[str, ...]) -> None:
    """Check trained weights and copy them into the package. FILE needs its sidecar. `--checkpoint shipped` then finds
    it.
    """
    import baselines  # noqa: F401  (registers its systems)
    from systems.ship_weights import ship

    target = ship(file, int(bits), keep)
    click.echo(f"{target}  {target.stat().st_size / 2**20:.2f} MiB")


@weights_group.command("show", context_settings=_SETTINGS)
@click.argument("places", nargs=-1, required=True, metavar="FILE_OR_FOLDER...", type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV, with all digits.")
def show_command(places: tuple[Path, ...], as_csv: bool) -> None:
    """Compare trained weights by their sidecars: crops, learning rate, seed, and the last values on held-out pictures.

    A folder (of `train --out`) stands for all weights below it.
    """
    from bench.cli.aligned import aligned
    from bench.results.csv_tables import frame_text
    from bench.training.weights_table import weights_table, words

    table = weights_table(places)
    click.echo(frame_text(table) if as_csv else "\n".join(aligned(words(table))), nl=not as_csv)


@weights_group.command("fetch", context_settings=_SETTINGS)
@click.argument("name")
def fetch_command(name: str) -> None:
    """Download ImageNet weights into torch's cache. NAME: resnet50 or resnet101. Size paper looks for them there."""
    from systems.layers.backbone import fetch_weights

    click.echo(fetch_weights(name))


@weights_group.command("loss", context_settings=_SETTINGS)
@click.argument("name")
@click.option("--size", default="small", show_default=True, metavar="NAME", help="Size of the system.")
@click.option("--checkpoint", default="shipped", show_default=True, metavar="FILE", help="Weights in 16 or 32 bits.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="Names of tensors that stay in 16 bits.")
@click.option(
    "--dataset", default="photos-224", show_default=True, metavar="SET", help="Pictures; a test set is refused."
)
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N pictures.")
@click.option("--snr", default="0,10,20", show_default=True, metavar="DB,DB", help="SNRs in dB.")
def loss_command(name: str, checkpoint: str, snr: str, **options) -> None:
    """Measure what 8-bit storage of weights costs. Compares the outputs of NAME's weights with those of the same
    weights in 8 bits.
    """
    import baselines  # noqa: F401  (registers its systems)
    from bench.perf.weight_storage import report_loss
    from bench.spec.grammar import parse_snr

    for line in report_loss(name, checkpoint=checkpoint, snrs=parse_snr(snr), **options):
        click.echo(line)
