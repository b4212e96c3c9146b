"""`python -m bench weights`: import public weights, ship trained ones, measure what storage costs."""

from __future__ import annotations

from pathlib import Path

import click

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("weights", context_settings=_SETTINGS)
def weights_group() -> None:
    """Import public weights, ship trained ones, and measure what their storage costs."""


@weights_group.command("import", context_settings=_SETTINGS)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", metavar="FILE.safetensors", type=click.Path(path_type=Path), help="[default: NAME-<stem>.safetensors]"
)
@click.option("--snr-db", metavar="LOW:HIGH", help="SNRs of its training in dB, where the layout does not say.")
def import_command(name: str, file: Path, out: Path | None, snr_db: str | None) -> None:
    """Turn FILE, a public state dict of NAME, into safetensors and a sidecar that `--checkpoint NAME=FILE` takes.

    NAME: witt (the authors' program), deepjscc (Deep-JSCC-PyTorch), fcn (torchvision). Sizes are read off the tensors.
    """
    import baselines  # noqa: F401  (registers its systems)
    from baselines.published import import_weights
    from systems.errors import UserError

    limits = None
    if snr_db:
        low, _, high = snr_db.partition(":")
        try:
            limits = (float(low), float(high or low))
        except ValueError:
            raise UserError(f"--snr-db {snr_db}: write LOW:HIGH in dB, as 1:13, or one number") from None
        if not limits[0] <= limits[1]:
            raise UserError(f"--snr-db {snr_db}: the first number is the lower one")
    target = out or Path(f"{name}-{file.stem}.safetensors")
    if target.suffix != ".safetensors":
        raise UserError(f"--out {target}: weights are stored as .safetensors")
    facts = import_weights(name, file, target, limits)
    click.echo(f"{target}  {facts['parameters']:,} parameters, sha256 {facts['sha256'][:8]}")
    click.echo(f"run it: python -m bench run --systems {name} --checkpoint {name}={target}")


@weights_group.command("ship", context_settings=_SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bits", type=click.Choice(["8", "16"]), default="16", show_default=True, help="Bits of a stored value.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="With --bits 8: names of tensors that stay in 16 bits.")
def ship_command(file: Path, bits: str, keep: tuple[str, ...]) -> None:
    """Check FILE, trained weights with their sidecar, and put them where the zoo looks for those that ship."""
    import baselines  # noqa: F401  (registers its systems)
    from systems.shipping import ship

    target = ship(file, int(bits), keep)
    click.echo(f"{target}  {target.stat().st_size / 2**20:.2f} MiB")


@weights_group.command("fetch", context_settings=_SETTINGS)
@click.argument("name")
def fetch_command(name: str) -> None:
    """Bring ImageNet weights of NAME, resnet50 or resnet101, into torch's cache, where size paper looks for them."""
    from systems.layers.backbone import fetch_weights

    click.echo(fetch_weights(name))


@weights_group.command("loss", context_settings=_SETTINGS)
@click.argument("name")
@click.option("--size", default="small", show_default=True, metavar="NAME")
@click.option("--checkpoint", default="shipped", show_default=True, metavar="FILE", help="Weights in 16 or 32 bits.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="Names of tensors that stay in 16 bits.")
@click.option("--dataset", default="photos-224", show_default=True, metavar="SET", help="Pictures of no test set.")
@click.option("--data-root", metavar="DIR", help="Where data sets lie [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Pictures at most.")
@click.option("--snr", default="0,10,20", show_default=True, metavar="DB,DB")
def loss_command(name: str, checkpoint: str, snr: str, **options) -> None:
    """What 8-bit storage costs NAME: outputs of its weights as they are beside those of the same weights in 8 bits."""
    import baselines  # noqa: F401  (registers its systems)
    from bench.perf.storage import report_loss
    from bench.spec.grammar import parse_snr

    for line in report_loss(name, checkpoint=checkpoint, snrs=parse_snr(snr), **options):
        click.echo(line)
