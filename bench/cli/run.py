"""The command `python -m bench run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bench.cli.completion import complete_channels, complete_datasets, complete_figures, complete_systems
from bench.cli.numbers import YEAR_S, Amount
from bench.spec.grammar import split_names
from bench.sweep.engines import ENGINES

_FLAGS_ONLY = ("config",)  # not allowed in a config file


@click.command("run", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--figure",
    metavar="F,F|all",
    shell_complete=complete_figures,
    help="Names of figures, or paths of TOML files [default: all of the paper].",
)
@click.option(
    "--systems",
    metavar="S,S|all",
    shell_complete=complete_systems,
    help="Names of systems; all: the systems of each figure [default: all].",
)
@click.option("--snr", metavar="A:B:STEP|LIST", help="SNRs in dB: 0:20:2 (stop included), or 1,4,7.")
@click.option(
    "--dataset",
    metavar="NAME|folder:PATH",
    shell_complete=complete_datasets,
    help="A data set instead of the figure's own.",
)
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option(
    "--cbr",
    metavar="RATIO",
    help="Budget for reconstruction: complex channel uses / (3 x height x width), such as 1/16.",
)
@click.option("--kbits", metavar="N", help="Budget for segmentation: thousands of coded bits per picture, such as 20.")
@click.option(
    "--channel",
    metavar="NAME",
    shell_complete=complete_channels,
    help="A channel of `list channels` [default: the figure's].",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Use only the first N pictures. The run is marked as limited."
)
@click.option("--reps", type=click.IntRange(1), metavar="N", help="Noise draws per picture and operating point.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Base of all seeds of the noise."
)
@click.option(
    "--salt",
    metavar="HEX|none",
    help="Use the noise of an earlier run, with its --seed [default: random, secret until the run ends].",
)
@click.option(
    "--out",
    metavar="DIR",
    help="The run's folder. If it holds a run, that run grows [default: results/run-<hash of the figures>].",
)
@click.option("--name", metavar="NAME", help="The same as --out results/NAME.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="process",
    show_default=True,
    help="Compute in this process, in worker processes, or as jobs of a cluster.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Worker processes or jobs [default: one per core or GPU].",
)
@click.option(
    "--cell-timeout",
    type=Amount(0, YEAR_S, min_open=True),
    metavar="S",
    help="Time limit for one cell in seconds [default: 3600].",
)
@click.option(
    "--batch", type=click.IntRange(1, 65_536), metavar="N", help="Pictures per batch [default: by their size]."
)
@click.option(
    "--requirement",
    metavar="TEXT",
    help="Ask for the task by a sentence, as in `ask`. Figures of other tasks are left out.",
)
@click.option(
    "--size",
    metavar="NAME",
    help="Size of learned systems: small, light, paper or another one in `list systems` [default: small].",
)
@click.option(
    "--checkpoint",
    metavar="FILE|S=FILE,..",
    help="Weights of learned systems: one FILE, or one per system. S@SNR=FILE,S@SNR=FILE: one per SNR. For all "
    "systems: shipped, or none (random weights).",
)
@click.option(
    "--precision",
    metavar="NAME",
    help="Number format of the products in networks: float32, or bf16 (bfloat16; faster for convolutions, where the "
    "hardware has it) [default: float32].",
)
@click.option("--code-rate", metavar="R", help="Code rate of digital systems, such as 5/6.")
@click.option(
    "--link",
    metavar="NAME",
    help="Digital link: nr (5G LDPC), nr-sionna (the same, decoded by Sionna) or pyldpc (textbook codes).",
)
@click.option("--config", metavar="FILE.toml", help="A file with options. Options on the command line have precedence.")
@click.option(
    "--dry-run", is_flag=True, help="Show the cells, how many are cached, and budgets. Nothing is computed or written."
)
@click.option("--force", is_flag=True, help="Compute every cell again.")
@click.option("--retry-failed", is_flag=True, help="Compute only the cells that failed.")
@click.option("--debug", is_flag=True, help="Show the traceback of the first cell that failed.")
@click.option(
    "--collect", is_flag=True, help="Compute nothing, and write the tables of the cells that exist (for slurm)."
)
@click.pass_context
def run_command(ctx: click.Context, **options: Any) -> None:
    """Simulate figures and write CSV tables. The same command resumes: finished cells are not computed again.

    A cell is one system at one operating point on one block of pictures.
    """
    options, slurm = _with_config(ctx, options)
    from bench.util.devices import plan_with_one_thread

    plan_with_one_thread()
    from bench.perf.flops import fill as fill_flops
    from bench.report.terminal import result_tables
    from bench.spec.grammar import snr_text
    from bench.spec.request import Request, resolve
    from bench.sweep.dry_run import dry_run_text
    from bench.util.devices import pick_device
    from systems import registry

    if options["dry_run"] and (options["force"] or options["retry_failed"] or options["collect"]):
        raise click.UsageError("--dry-run computes nothing; leave out --force, --retry-failed and --collect", ctx)
    if options["collect"] and (options["force"] or options["retry_failed"]):
        raise click.UsageError("--collect computes nothing; leave out --force and --retry-failed", ctx)
    # Only torch knows which devices exist, and its import takes seconds. A dry run must not wait for it. So "auto"
    # becomes a device only after the first lines were printed.
    device = options["device"] if options["device"] == "auto" else pick_device(options["device"])
    out = _folder(options["out"], options["name"])
    request = Request(
        figures=split_names(options["figure"], "--figure"),
        systems=split_names(options["systems"], "--systems"),
        **{key: options[key] for key in ("snr", "dataset", "data_root", "cbr", "kbits", "channel", "requirement")},
        **{key: options[key] for key in ("limit", "reps", "seed")},
        options={key: options[key] for key in ("size", "checkpoint", "precision", "code_rate", "link")},
    )
    resolved = resolve(request)
    for note in (*resolved.notes, *registry.disabled().values()):
        click.echo(note, err=True)
    for points in dict.fromkeys(figure.snr_db for figure in resolved.figures):
        click.echo(f"SNR: {snr_text(points)} dB", err=True)
    if options["dry_run"]:
        click.echo(dry_run_text(resolved, out, options["salt"]))
        return
    from bench.sweep.execute import execute  # it loads torch, which a dry run does not need
    from systems.precision import multiplies_bfloat16

    device = pick_device(device)
    if options["precision"] == "bf16" and not multiplies_bfloat16(device):
        click.echo("note: this processor emulates bfloat16, which takes longer than float32", err=True)
    result = execute(
        resolved,
        out,
        engine=options["engine"],
        workers=options["workers"],
        device=device,
        batch=options["batch"],
        force=options["force"],
        retry_failed=options["retry_failed"],
        collect=options["collect"],
        slurm=slurm,
        argv=ctx.obj or (),
        say=lambda text: click.echo(text, err=True),
        salt=options["salt"],
        cell_timeout=options["cell_timeout"],
    )
    click.echo(result_tables(resolved, result.run_dir))
    click.echo(f"\ntables in {result.run_dir}; figures: python -m bench plot {result.run_dir}", err=True)
    if result.interrupted:
        click.echo("interrupted; the same command resumes", err=True)
    else:
        fill_flops(result.run_dir, lambda text: click.echo(text, err=True))
    for line in result.failure_lines():
        click.echo(f"error: {line}", err=True)
    if options["debug"] and result.first_trace:
        click.echo(result.first_trace, err=True)
    sys.exit(result.exit_code)


def _folder(out: str | None, name: str | None) -> Path | None:
    """The run's folder. None if neither option gives it."""
    if out == "":
        raise click.UsageError("--out '' names no folder; give one, or leave the option out")
    if name is None:
        return Path(out) if out else None
    if out:
        raise click.UsageError("--name and --out both name the folder; give one")
    from bench.results.find import RESULTS
    from bench.util.files import slug
    from systems.errors import UserError

    if not name or slug(name) != name:
        raise UserError(
            f"--name {name!r}: a name is letters, digits, dots, dashes and underscores; for a path use --out"
        )
    return RESULTS / name


def _with_config(ctx: click.Context, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options, where the config file replaces defaults; and its table [slurm]."""
    if not options["config"]:
        return options, {}
    from click.core import ParameterSource

    from bench.util.files import read_toml, user_path
    from systems.errors import UserError, did_you_mean

    path = user_path(options["config"], "--config")
    values = read_toml(path, "config file")
    slurm = values.pop("slurm", {})
    parameters = {parameter.name: parameter for parameter in ctx.command.params if parameter.name not in _FLAGS_ONLY}
    options = dict(options)
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in parameters:
            hint = did_you_mean(name, [*parameters, "[slurm]"], "known keys")
            raise UserError(f"{path}: unknown key {key!r}; {hint}")
        parameter = parameters[name]
        if parameter.is_flag:
            if not isinstance(value, bool):
                raise UserError(f"{path}: {key} must be true or false")
        elif isinstance(value, (bool, dict)):
            raise UserError(f"{path}: {key} must be a text or a number")
        elif isinstance(value, list):
            value = ",".join(map(str, value))
        try:
            value = value if parameter.is_flag else parameter.type.convert(str(value), parameter, ctx)
        except click.BadParameter as error:
            raise UserError(f"{path}: {key}: {error.message}") from None
        if ctx.get_parameter_source(name) == ParameterSource.DEFAULT:  # otherwise the command line has precedence
            options[name] = value
    if not isinstance(slurm, dict):
        raise UserError(f"{path}: slurm must be a table, [slurm]")
    return options, slurm
