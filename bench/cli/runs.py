"""The command `python -m bench runs`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("runs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[RUN...]")
@click.option("--long", "long", is_flag=True, help="Show the command, all figures and all systems of each run.")
@click.option(
    "--compress",
    is_flag=True,
    help="For a commit: nine digits per number in RUN's tables, with samples.csv and confusion.csv as .csv.xz files.",
)
@click.option(
    "--restore",
    metavar="FOLDER",
    help="Copy RUN to FOLDER, with the cells that its tables hold: a run that adds a system there computes it alone.",
)
@click.option(
    "--without",
    metavar="S,S",
    help="With --restore: leave these systems out, such as one that was trained anew since.",
)
def runs_command(names: tuple[str, ...], long: bool, compress: bool, restore: str | None, without: str | None) -> None:
    """List runs: name, date, cells, size, figures, systems, command (default: all under results/, newest first)."""
    from bench.results.csv_tables import compress as to_xz
    from bench.results.csv_tables import shorten
    from bench.results.find import RESULTS, facts_of_run, find_run, runs
    from bench.results.schema import TABLES
    from bench.results.store import RunStore
    from bench.util.files import several, shown

    if long:
        from bench.measure.tasks import other_request
    if restore is not None:
        from bench.spec.grammar import split_names
        from bench.sweep.restore import restore as copy

        if len(names) != 1 or compress or long:
            raise click.UsageError("--restore FOLDER needs the name of one run, and no other option")
        count = copy(find_run(names[0]), Path(restore), split_names(without, "--without") or ())
        click.echo(f"{shown(restore)}: {several(count, 'cell')}; python -m bench run --out {shown(restore)} adds to it")
        return
    if without is not None:
        raise click.UsageError("--without needs --restore FOLDER")
    folders = [find_run(name) for name in names] or runs()
    if compress:
        if not names:
            raise click.UsageError("--compress needs the name of a run")
        for folder in folders:
            with RunStore(folder).locked():  # a run that goes on would lose the table that it has just written
                for table in ("samples", "confusion", "summary"):
                    smaller = shorten if table == "summary" else to_xz
                    if (path := folder / f"{table}.csv").is_file():
                        click.echo(smaller(path, TABLES[table]))
        return
    if not folders:
        click.echo(f"no run under {RESULTS}/ yet; make one: python -m bench run", err=True)
        return
    facts = sorted(map(facts_of_run, folders), key=lambda run: run.date, reverse=True)
    width = max(len(shown(run.name)) for run in facts)
    for run in facts:
        if run.problem:
            click.echo(f"{shown(run.name):{width}}  {run.problem}")
            continue
        mark = " (LIMITED)" if run.limited else ""
        line = f"{shown(run.name):{width}}  {run.date:16}  {run.cells:>11} cells  {run.size / 2**20:8.1f} MiB  "
        if long:
            click.echo(line.rstrip() + mark)
            click.echo(f"  command  {shown(run.command)}")
            click.echo(f"  figures  {', '.join(run.figures)}")
            click.echo(f"  systems  {shown(', '.join(run.systems), 2000)}")
            for asked in filter(None, (other_request(*own) for own in run.asked)):
                click.echo(f"  asked    {shown(asked)!r}")
        else:
            click.echo(line + f"{_some(run.figures)}: {_some(run.systems)}{mark}  [{shown(run.command, 100)}]")


def _some(names: tuple[str, ...]) -> str:
    """The first names of a list, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
