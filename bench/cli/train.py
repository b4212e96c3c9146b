"""The command `python -m bench train`."""

from __future__ import annotations

from typing import Any

import click

from bench.spec.grammar import split_names


@click.command("train", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--systems", required=True, metavar="S,S|all", help="Names of learned systems, or all.")
@click.option("--config", default="small", show_default=True, metavar="FILE.toml|NAME", help="The training protocol.")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--out", metavar="DIR", help="Folder for states, metrics and weights [default: results/training].")
@click.option(
    "--size",
    default="small",
    show_default=True,
    metavar="NAME",
    help="Size of the systems: small, light, paper or another one in `list systems`.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--tasks", metavar="T,T", help="Only these tasks of the protocol.")
@click.option(
    "--teacher",
    metavar="NAME",
    help="Instead of the protocol's teacher: fcn, a .tflite file under the data root, or none.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Instead of the protocol's seed.")
@click.option(
    "--learning-rate", type=float, metavar="X", help="For all systems, instead of the protocol's learning rates."
)
@click.option(
    "--crops", type=click.IntRange(1), metavar="N", help="Number of crops of each task, instead of the protocol's."
)
@click.option(
    "--max-steps",
    type=click.IntRange(1),
    metavar="N",
    help="Stop each system after N steps. The same command continues.",
)
@click.option(
    "--minutes", type=float, metavar="M", help="Train by the clock: all systems together are finished after M minutes."
)
@click.option("--pack", metavar="FILE", help="Take the protocol's pictures from a file made by `data pack`.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads on the CPU.")
def train_command(
    systems: str,
    config: str,
    data_root: str | None,
    out: str | None,
    size: str,
    device: str,
    tasks: str | None,
    pack: str | None,
    **rest: Any,
) -> None:
    """Train learned systems by one protocol. The same command resumes exactly. With torchrun, several processes train
    together.
    """
    import baselines  # noqa: F401  (registers its systems)
    from bench.data import default_data_root
    from bench.training.run import run_training
    from bench.util.devices import pick_device
    from bench.util.files import user_path
    from systems import registry

    chosen = split_names(systems, "--systems")
    chosen = None if chosen == ("all",) else chosen
    for name in chosen or ():
        registry.find(name, parts=True)
    written = run_training(
        chosen,
        config,
        data_root=user_path(data_root, "--data-root") if data_root else default_data_root(),
        out=user_path(out, "--out") if out else None,
        size=size,
        device=pick_device(device),
        tasks=split_names(tasks, "--tasks"),
        pack=user_path(pack, "--pack") if pack else None,
        **rest,
    )
    for path in written:
        click.echo(path)
