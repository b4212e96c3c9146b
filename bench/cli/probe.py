"""The command `python -m bench probe`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click


def _quote(system: str, text: str) -> None:
    """Show what a system printed, as its own word: it may look like a result."""
    for line in text.splitlines():
        click.echo(f"{system} printed: {line}", err=True)


@click.command("probe", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("system")
@click.option(
    "--figure",
    default="fig4",
    show_default=True,
    metavar="NAME|FILE",
    help="Figure whose task, data set and budget are used.",
)
@click.option("--snr", default="10", show_default=True, metavar="DB", help="One SNR in dB.")
@click.option("--data-root", metavar="DIR", help="Folder of data sets [default: $BENCH_DATA_ROOT or the cache folder].")
@click.option(
    "--limit", type=click.IntRange(1), default=8, show_default=True, metavar="N", help="Use only the first N pictures."
)
def probe_command(system: str, figure: str, snr: str, data_root: str | None, limit: int) -> None:
    """Test the receiver of SYSTEM with zeroed symbols, with the symbols of another picture, and with a wrong SNR.

    A receiver that delivers a good picture from zeroed symbols has memorised the data set. A third party's system runs
    in separate processes, as in a run.
    """
    import secrets

    import torch

    from bench.data import open_dataset
    from bench.measure.calls import LocalEnd
    from bench.measure.metrics.table import METRICS
    from bench.measure.point import Batch, Conditions
    from bench.measure.probe import probe
    from bench.measure.tasks import TASKS
    from bench.spec.figure import load_figures
    from bench.spec.grammar import parse_snr
    from bench.spec.identity import apart, build, facts_of, tasks_of
    from bench.spec.request import check_request
    from bench.sweep.worker.outcomes import line_of
    from bench.util.files import several
    from systems import registry
    from systems.errors import FAULTS, AuditError, UserError

    points, wanted = parse_snr(snr), load_figures(figure)[0]
    if len(points) != 1:
        raise click.UsageError(f"--snr {snr}: a probe takes one SNR")
    if wanted.task not in tasks_of(system):
        raise UserError(f"system {system!r} does not do {wanted.task}, which {figure} asks for; name another --figure")
    check_request(wanted)
    dataset = open_dataset(wanted.dataset, data_root).take(limit)
    sizes: dict[tuple[int, ...], list] = {}
    for sample in dataset:
        sizes.setdefault(tuple(sample.image.shape), []).append(sample)
    batches = [Batch.of(samples, wanted.task, "cpu") for samples in sizes.values()]
    conditions = Conditions(
        wanted.task, dataset.seed_name, wanted.channel, wanted.cbr, wanted.bits, wanted.requirement, uses=wanted.uses,
        salt="" if registry.is_ours(system) else secrets.token_hex(16),
    )  # fmt: skip
    try:
        if registry.is_ours(system):
            made = build(system, {})
        else:
            files = [path for item in dataset.items.values() for path in (item.path, item.mask) if path is not None]
            made = apart(facts_of(system, {}), [Path("results"), *files], printed=partial(_quote, system))
        with torch.inference_mode():
            findings = probe(LocalEnd(made), conditions, batches, points[0])
    except (UserError, MemoryError):
        raise
    except FAULTS as error:
        if registry.is_ours(system) and not isinstance(error, AuditError):
            raise  # a fault of the bench, whose place the traceback tells
        raise UserError(f"probe {system}: {line_of(error)}; the system fails, so mend it, or ask its author") from None
    metric = METRICS[TASKS[wanted.task].default_metric]
    count = several(len(dataset.ids), "picture")
    click.echo(f"{system}, {dataset.name}, {count}, {points[0]:g} dB: mean {metric.axis}")
    for finding in findings:
        line = f"  {finding.probe:30} {metric.scale * finding.mean:8.{metric.digits}f}"
        if finding.against_other is not None:
            line += f"   ({metric.scale * finding.against_other:.{metric.digits}f} against the picture that was sent)"
        click.echo(line)
