"""The commands `python -m bench data fetch`, `info` and `pack`."""

from __future__ import annotations

import click

from bench.cli.numbers import Amount

_SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.group("data", context_settings=_SETTINGS)
def data_group() -> None:
    """Download public data sets, show one, or pack one for training."""


@data_group.command("fetch", context_settings=_SETTINGS)
@click.argument("name")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option(
    "--url", metavar="URL", help="A mirror: an archive, or the folder with the files. The known checksums still apply."
)
@click.option("--checksum", metavar="md5:..|sha256:..", help="Checksum to use instead of the archive's known one.")
@click.option("--force", is_flag=True, help="Download again and replace.")
def fetch_command(name: str, data_root: str | None, url: str | None, checksum: str | None, force: bool) -> None:
    """Download NAME, verify it, and unpack it. An interrupted download continues where it stopped.

    NAME is kodak (15 MB), voc2012 (2 GB), or div2k: its validation pictures (0.4 GB) and training pictures (3.5 GB);
    div2k-valid and div2k-train download one of these.
    """
    from bench.data.fetch import fetch

    for folder in fetch(name, data_root, url=url, checksum=checksum, force=force):
        click.echo(folder)


@data_group.command("info", context_settings=_SETTINGS)
@click.argument("name")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--classes", is_flag=True, help="Count the pixels of each class (reads every mask).")
def info_command(name: str, data_root: str | None, classes: bool) -> None:
    """Show facts of NAME, a data set or folder:PATH: tasks, licence, fingerprint, and sizes of the pictures."""
    from bench.data import open_dataset
    from bench.data.count_classes import class_statistics

    dataset = open_dataset(name, data_root)
    counts = class_statistics(dataset) if classes else []
    sizes = [dataset.size(image_id) for image_id in dataset.ids]
    click.echo(f"{dataset.name}: {dataset.description}")
    click.echo(f"tasks        {', '.join(dataset.tasks)}{' (demonstration)' if dataset.demonstration else ''}")
    click.echo(f"licence      {dataset.licence}")
    click.echo(f"fingerprint  {dataset.fingerprint()[:16]}")
    for note in (*dataset.notes, dataset.reference_note()):
        if note:
            click.echo(f"note         {note}")
    click.echo(f"pictures     {len(sizes)}")
    for image_id, (height, width) in zip(dataset.ids[:20], sizes, strict=False):
        click.echo(f"  {image_id}  {height}x{width}")
    if len(sizes) > 20:
        click.echo(f"  ... and {len(sizes) - 20} more")
    if counts:
        click.echo("classes      pictures      pixels  share of the labelled ones")
    for row in counts:
        click.echo(f"  {row.name:12}{row.pictures:7}{row.pixels:12}  {100 * row.share:6.2f} %")


@data_group.command("pack", context_settings=_SETTINGS)
@click.argument("file", metavar="FILE")
@click.option("--sources", metavar="S,S", help="Training sources, such as photos,voc:trainaug.")
@click.option("--config", metavar="FILE.toml|NAME", help="Take sources and teacher from a training protocol.")
@click.option(
    "--teacher", metavar="NAME", help="Also pack this teacher's labels: fcn, or a .tflite under the data root."
)
@click.option("--max-mib", type=Amount(0.01, 4000), default=30.0, show_default=True, help="Largest size of the file.")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--force", is_flag=True, help="Replace FILE.")
def pack_command(file: str, **options) -> None:
    """Write training pictures into one file, for `train --pack FILE`. They are compressed again; masks are included."""
    from bench.training.make_pack import pack_training_set

    click.echo(pack_training_set(file, say=lambda text: click.echo(text, err=True), **options))
