"""The command `python -m bench probe`."""

from __future__ import annotations

import click


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

    A receiver that delivers a good picture from zeroed symbols has memorised the data set.
    """
    import torch

    import baselines  # noqa: F401  (registers its systems)
    from bench.data import open_dataset
    from bench.measure.ends import LocalEnd
    from bench.measure.metrics.table import METRICS
    from bench.measure.point import Batch, Conditions
    from bench.measure.probe import probe
    from bench.measure.tasks import TASKS
    from bench.spec.figure import load_figures
    from bench.spec.grammar import parse_snr
    from systems import registry
    from systems.errors import UserError

    points, wanted = parse_snr(snr), load_figures(figure)[0]
    if len(points) != 1:
        raise click.UsageError(f"--snr {snr}: a probe takes one SNR")
    if wanted.task not in registry.tasks_of(system):
        raise UserError(f"system {system!r} does not do {wanted.task}, which {figure} asks for; name another --figure")
    if not registry.is_ours(system):
        raise UserError(f"probe runs the bench's own systems; {system!r} comes with {registry.find(system).target}")
    dataset = open_dataset(wanted.dataset, data_root).take(limit)
    sizes: dict[tuple[int, ...], list] = {}
    for sample in dataset:
        sizes.setdefault(tuple(sample.image.shape), []).append(sample)
    batches = [Batch.of(samples, wanted.task, "cpu") for samples in sizes.values()]
    conditions = Conditions(
        wanted.task, dataset.seed_name, wanted.channel, wanted.cbr, wanted.bits, wanted.requirement, uses=wanted.uses
    )
    with torch.inference_mode():
        findings = probe(LocalEnd(registry.create(system)), conditions, batches, points[0])
    metric = METRICS[TASKS[wanted.task].default_metric]
    click.echo(f"{system}, {dataset.name}, {len(dataset.ids)} pictures, {points[0]:g} dB: mean {metric.axis}")
    for finding in findings:
        line = f"  {finding.probe:30} {metric.scale * finding.mean:8.{metric.digits}f}"
        if finding.against_other is not None:
            line += f"   ({metric.scale * finding.against_other:.{metric.digits}f} against the picture that was sent)"
        click.echo(line)
