"""The commands `python -m bench perf sweep`, `model`, `link`, `train`, `scale` and `select`."""

from __future__ import annotations

import click

from bench.cli.numbers import Amount

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("perf", context_settings=_SETTINGS)
def perf_group() -> None:
    """Measure the time and memory that runs, systems, training and the digital link take."""


@perf_group.command("sweep", context_settings=_SETTINGS)
@click.option("--figure", metavar="F,F|all", help="As in `run` [default: all].")
@click.option("--systems", metavar="S,S|all", help="As in `run` [default: all].")
@click.option("--snr", default="0:20:2", show_default=True, metavar="A:B:STEP|LIST", help="SNRs in dB.")
@click.option("--dataset", metavar="NAME|folder:PATH", help="Pictures instead of the figure's own.")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: as in `run`].")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N pictures.")
@click.option("--size", metavar="NAME", help="Size of learned systems, as in `run` [default: small].")
@click.option("--checkpoint", metavar="FILE|S=FILE,..", help="Weights of learned systems, as in `run`.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--engine",
    type=click.Choice(["serial", "process"]),
    default="process",
    show_default=True,
    help="One process, or several workers.",
)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Worker processes [default: one per core or GPU].")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Pictures per batch [default: by their size].")
@click.option(
    "--plain",
    is_flag=True,
    help="Also run a plain loop over systems, SNRs and pictures, which reuses nothing, and compare.",
)
@click.option(
    "--plain-link", metavar="NAME", help="The same, with another digital link in the loop, such as nr-sionna."
)
@click.option(
    "--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table to this file."
)
@click.pass_context
def sweep_command(ctx: click.Context, **options) -> None:
    """Measure in which stages a run spends its time. Shows wall and CPU seconds by system and stage. The run is not
    kept.
    """
    from bench.perf.sweep import report_sweep

    report_sweep(options, argv=ctx.obj or (), say=click.echo)


@perf_group.command("model", context_settings=_SETTINGS)
@click.option("--systems", metavar="S,S|all", help="Systems by name [default: those of the paper's figures].")
@click.option(
    "--picture", "pictures", metavar="HxW,HxW", default="224x224,512x768", show_default=True, help="Picture sizes."
)
@click.option("--size", metavar="NAME", help="Size of learned systems, as in `run` [default: small].")
@click.option("--checkpoint", metavar="FILE|S=FILE,..", help="Weights of learned systems, as in `run`.")
@click.option("--precision", metavar="NAME", help="float32 or bf16, as in `run` [default: float32].")
@click.option(
    "--device", "devices", default="auto", show_default=True, metavar="D,D", help="cpu, cuda, or auto: all that exist."
)
@click.option("--snr", type=Amount(-200, 200), default=18.0, show_default=True, help="SNR in dB.")
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Pictures per batch, for the throughput."
)
@click.option(
    "--repeats", type=click.IntRange(3), default=20, show_default=True, help="Timed repetitions, after the warm-up."
)
@click.option(
    "--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table to this file."
)
@click.option(
    "--against",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also measure the code of another checkout in this folder, and show how many times as fast this one is.",
)
@click.option("--run", metavar="RUN", help="Also draw the PSNR of this run against the measured latency.")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder for this drawing [default: figures/ in the run].",
)
def model_command(**options) -> None:
    """Measure the cost of each system per picture. Shows latency, throughput, FLOPs, parameters and peak memory, by
    picture size and device.
    """
    from bench.perf.model import report_models

    report_models(options, say=click.echo)


@perf_group.command("link", context_settings=_SETTINGS)
@click.option("--quick", is_flag=True, help="One minute instead of five: block errors of a few frames only.")
@click.option(
    "--table", is_flag=True, help="Instead, measure block errors over lifting sizes and rates (an hour or more)."
)
@click.option(
    "--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table to this file."
)
def link_command(**options) -> None:
    """Compare the nr link's decoder with Sionna's. Shows Mbit/s, iterations and block error
    rate, on the same frames.
    """
    from bench.perf.link import report_link, report_table

    (report_table if options["table"] else report_link)(options, say=click.echo)


@perf_group.command("train", context_settings=_SETTINGS)
@click.option("--systems", metavar="S,S|all", default="all", show_default=True, help="Names of learned systems.")
@click.option("--size", default="small", show_default=True, metavar="N,N", help="Sizes: small, light, paper.")
@click.option("--config", default="light", show_default=True, metavar="FILE.toml|NAME", help="The training protocol.")
@click.option("--crop", type=click.IntRange(16, 4096), metavar="N", help="Side of the crops [default: the protocol's].")
@click.option("--batch", type=click.IntRange(1, 4096), metavar="N", help="Crops per step [default: the protocol's].")
@click.option(
    "--steps", type=click.IntRange(1, 10**6), default=5, show_default=True, help="Timed steps, after a first one."
)
@click.option("--before/--no-before", default=True, help="Also time an earlier version of the loop, in batches of 4.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads on the CPU.")
@click.option(
    "--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table to this file."
)
def train_command(systems: str, size: str, device: str, **options) -> None:
    """Measure the speed of training. Shows crops per second, and the shares of data, forward, backward and optimiser,
    and compares an earlier loop.
    """
    from bench.perf.train import report_train
    from bench.spec.grammar import split_names
    from bench.util.devices import pick_device

    chosen = split_names(systems, "--systems")
    chosen = None if chosen == ("all",) else chosen
    wanted = {"systems": chosen, "size": split_names(size, "--size"), "device": pick_device(device)}
    report_train({**options, **wanted}, say=click.echo)


@perf_group.command("scale", context_settings=_SETTINGS)
@click.option(
    "--rows", type=click.IntRange(1000, 100_000_000), default=2_000_000, show_default=True, help="Number of rows."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the run in this folder [default: it is deleted].",
)
def scale_command(rows: int, out: str | None) -> None:
    """Measure what a run of millions of rows costs. After its cells are computed: scan, tables, reading. The rows are
    invented.
    """
    from pathlib import Path

    from bench.perf.scale import report_scale

    report_scale(rows, Path(out) if out else None, say=click.echo)


@perf_group.command("select", context_settings=_SETTINGS)
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option(
    "--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table to this file."
)
@click.option("--weights", multiple=True, metavar="FILE", help="Also measure these trained weights, one row per file.")
def select_command(data_root: str | None, csv: str | None, weights: tuple[str, ...]) -> None:
    """Measure what each part of linear-select gains. Uses held-out training pictures. Takes minutes, because it
    computes codebooks.
    """
    from bench.data import default_data_root
    from bench.perf.select import report_select

    report_select({"data_root": data_root or default_data_root(), "csv": csv, "weights": weights}, say=click.echo)
