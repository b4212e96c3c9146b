"""`python -m bench perf`."""

from __future__ import annotations

import click

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("perf", context_settings=_SETTINGS)
def perf_group() -> None:
    """Measure what the sweep, the models and the digital link cost."""


@perf_group.command("sweep", context_settings=_SETTINGS)
@click.option("--figure", metavar="F,F|all", help="As in `run` [default: all].")
@click.option("--systems", metavar="S,S|all", help="As in `run` [default: all].")
@click.option("--snr", default="0:20:2", show_default=True, metavar="A:B:STEP|LIST", help="SNRs in dB.")
@click.option("--dataset", metavar="NAME|folder:PATH", help="Pictures instead of the figure's own.")
@click.option("--data-root", metavar="DIR", help="Where data sets lie.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N pictures.")
@click.option("--size", metavar="NAME", help="Size of learned systems: small, paper [default: small].")
@click.option("--checkpoint", metavar="FILE|S=FILE,..", help="Weights of learned systems; shipped or none for all.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--engine", type=click.Choice(["serial", "process"]), default="process", show_default=True)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Worker processes [default: one a core or GPU].")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Pictures at once [default: by their size].")
@click.option("--plain", is_flag=True, help="Also run the plain loop (system, SNR, picture, no reuse), and compare.")
@click.option(
    "--plain-link", metavar="NAME", help="The same, with another digital link in the loop, as in `run`: nr-sionna, say."
)
@click.option("--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table there.")
@click.pass_context
def sweep_command(ctx: click.Context, **options) -> None:
    """Where the time of a sweep goes: wall and CPU seconds by system and stage. The run itself is thrown away."""
    from bench.perf.profile import report_sweep

    report_sweep(options, argv=ctx.obj or (), say=click.echo)


@perf_group.command("model", context_settings=_SETTINGS)
@click.option("--systems", metavar="S,S|all", help="Systems by name [default: those of the paper's figures].")
@click.option(
    "--picture", "pictures", metavar="HxW,HxW", default="224x224,512x768", show_default=True, help="Picture sizes."
)
@click.option("--size", metavar="NAME", help="Size of learned systems: small, paper [default: small].")
@click.option("--checkpoint", metavar="FILE|S=FILE,..", help="Weights of learned systems; none: random ones.")
@click.option(
    "--device", "devices", default="auto", show_default=True, metavar="D,D", help="cpu, cuda; auto: what is there."
)
@click.option("--snr", type=float, default=18.0, show_default=True, help="Operating point in dB.")
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Pictures at once, for the throughput."
)
@click.option(
    "--repeats", type=click.IntRange(3), default=20, show_default=True, help="Timed repetitions, after the warm-up."
)
@click.option("--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table there.")
@click.option("--run", metavar="RUN", help="Draw PSNR of this run's summary against the latency measured here.")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where the scatter goes [default: the run's figures].",
)
def model_command(**options) -> None:
    """Latency, throughput, FLOPs, parameters and peak memory of every system, at each picture size and device."""
    from bench.perf.models import report_models

    report_models(options, say=click.echo)


@perf_group.command("link", context_settings=_SETTINGS)
@click.option("--quick", is_flag=True, help="A minute instead of five: block errors of a few frames only.")
@click.option("--table", is_flag=True, help="Block errors over lifting sizes and rates instead: an hour or more.")
@click.option("--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table there.")
def link_command(**options) -> None:
    """The decoder of the nr link beside Sionna's on the same frames: Mbit/s, iterations, block error rate."""
    from bench.perf.ldpc import report_link, report_table

    (report_table if options["table"] else report_link)(options, say=click.echo)


@perf_group.command("train", context_settings=_SETTINGS)
@click.option("--systems", metavar="S,S|all", default="all", show_default=True, help="Learned systems by name.")
@click.option("--size", default="small", show_default=True, metavar="N,N", help="Sizes: small, light, paper.")
@click.option("--config", default="light", show_default=True, metavar="FILE.toml|NAME", help="The training protocol.")
@click.option("--crop", type=click.IntRange(16, 4096), metavar="N", help="Side of the crops [default: the protocol's].")
@click.option("--batch", type=click.IntRange(1, 4096), metavar="N", help="Crops a step [default: the protocol's].")
@click.option("--steps", type=click.IntRange(1, 10**6), default=5, show_default=True, help="Timed steps, after one.")
@click.option("--before/--no-before", default=True, help="Also time the loop as it was, in batches of 4.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads on the CPU.")
@click.option("--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table there.")
def train_command(systems: str, size: str, device: str, **options) -> None:
    """Crops a second of training, split into data, forward, backward and optimiser, beside the loop as it was."""
    from bench.perf.train import report_train
    from bench.spec.grammar import split_names
    from bench.util.devices import pick_device

    chosen = split_names(systems, "--systems")
    chosen = None if chosen == ("all",) else chosen
    wanted = {"systems": chosen, "size": split_names(size, "--size"), "device": pick_device(device)}
    report_train({**options, **wanted}, say=click.echo)


@perf_group.command("scale", context_settings=_SETTINGS)
@click.option("--rows", type=click.IntRange(1000, 100_000_000), default=2_000_000, show_default=True, help="Rows.")
@click.option(
    "--out", type=click.Path(file_okay=False), metavar="DIR", help="Keep the run there [default: thrown away]."
)
def scale_command(rows: int, out: str | None) -> None:
    """What a run of millions of rows costs once its cells are there: scan, tables, reading. The rows are made up."""
    from pathlib import Path

    from bench.perf.scale import report_scale

    report_scale(rows, Path(out) if out else None, say=click.echo)


@perf_group.command("select", context_settings=_SETTINGS)
@click.option("--data-root", metavar="DIR", help="Where data sets lie [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--csv", "csv", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the table there.")
@click.option("--weights", multiple=True, metavar="FILE", help="Trained weights on the same front end, a row each.")
def select_command(data_root: str | None, csv: str | None, weights: tuple[str, ...]) -> None:
    """What each part of linear-select brings, on held-out training pictures: minutes, codebooks are fitted anew."""
    from bench.data import default_data_root
    from bench.perf.select import report_select

    report_select({"data_root": data_root or default_data_root(), "csv": csv, "weights": weights}, say=click.echo)
