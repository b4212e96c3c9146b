"""`python -m bench train`."""

from __future__ import annotations

import time
from typing import Any

import click

from bench.spec.grammar import split_names


@click.command("train", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--systems", required=True, metavar="S,S|all", help="Learned systems by name; all: every one of them.")
@click.option("--config", default="small", show_default=True, metavar="FILE.toml|NAME", help="The training protocol.")
@click.option("--data-root", metavar="DIR", help="Where data sets lie [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option("--out", metavar="DIR", help="Checkpoints, metrics and weights [default: results/training].")
@click.option("--size", default="small", show_default=True, metavar="NAME", help="Size of the systems: small, paper.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--tasks", metavar="T,T", help="Only these of the protocol's tasks.")
@click.option(
    "--teacher", metavar="NAME", help="In place of the protocol's: fcn, a .tflite file under the data root, none."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="In place of the protocol's.")
@click.option("--learning-rate", type=float, metavar="X", help="For every system, in place of the protocol's.")
@click.option("--crops", type=click.IntRange(1), metavar="N", help="Of each task, in place of the protocol's.")
@click.option(
    "--max-steps", type=click.IntRange(1), metavar="N", help="Stop after so many steps; the same command goes on."
)
@click.option(
    "--minutes", type=float, metavar="M", help="Train by the clock: all systems end, finished, after so many minutes."
)
@click.option("--speeds", metavar="FILE", help="Share --minutes by a table of `perf train --csv`: equally many crops.")
@click.option("--pack", metavar="FILE", help="Take the protocol's pictures from a file of `data pack`.")
@click.option("--plain-steps", is_flag=True, help="Neither compile a step nor record it on a GPU.")
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
    speeds: str | None,
    plain_steps: bool,
    **rest: Any,
) -> None:
    """Train learned systems under one protocol. The same command resumes, exactly; torchrun makes it distributed."""
    began = time.monotonic()  # before torch is imported: --minutes count from here
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
        speeds=user_path(speeds, "--speeds") if speeds else None,
        began=began,
        **({"compile": False, "record": False} if plain_steps else {}),
        **rest,
    )
    for path in written:
        click.echo(path)
