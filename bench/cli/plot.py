"""The command `python -m bench plot`."""

from __future__ import annotations

import click

from bench.report.paper_sheet import FORMATS


@click.command("plot", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, metavar="[RUN] [RUN2[:SYSTEM]]...")
@click.option("--figure", metavar="F,F|all", help="Draw only these figures [default: all in the run].")
@click.option(
    "--out", metavar="DIR", help="Folder for figures [default: figures/ in the run's folder; tables are written too]."
)
@click.option(
    "--format",
    "formats",
    metavar="F,F",
    default="png,pdf",
    show_default=True,
    help=f"File formats: {', '.join(FORMATS)}.",
)
@click.option("--style", type=click.Choice(("screen", "ieee")), default="screen", show_default=True,
              help="ieee: 3.5 inches wide, Times, closed axes, ticks inside, 600 dpi.")  # fmt: skip
@click.option(
    "--dpi", type=click.IntRange(30, 2400), metavar="N", help="Dots per inch of PNG [default: 200; ieee 600]."
)
@click.option("--small", is_flag=True, help="PNG with 100 dpi and 256 colours, for a repository or a mail.")
@click.option("--systems", metavar="S,S", help="Draw only these systems, in this order.")
@click.option(
    "--bands/--no-bands",
    default=None,
    help="Draw bands of the 95 % intervals [default: only if none overlap; otherwise differences below].",
)
@click.option(
    "--relative-to", metavar="NAME", help="The system that the panel of differences compares with; none: no panel."
)
@click.option("--ylim", metavar="LOW,HIGH", help="Limits of the value axis, in its unit, such as 20,40.")
@click.option("--no-caption", is_flag=True, help="No footnote; it is still in the metadata of the files.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=TEXT", help="Name of a system in legends; may be repeated."
)
@click.option(
    "--highlight", multiple=True, metavar="NAME", help="Draw this system with wide lines and the others faint."
)
def plot_command(runs: tuple[str, ...], **given) -> None:
    """Draw the figures and tables of RUN, a run's folder or its name under results/ (default: the last run).

    More runs can be drawn over it: RUN2 adds all its systems to each figure with the same data set, channel and budget.
    RUN2:SYSTEM adds one system. Figures that cannot be drawn are named, and the others are drawn.
    """
    from bench.report.figures import draw_run
    from bench.report.options import Options, parse_formats, parse_labels, parse_limits
    from bench.results.find import find_run
    from bench.spec.grammar import split_names
    from bench.util.files import shown, user_path

    options = Options(
        out=user_path(given["out"], "--out") if given["out"] else None,
        formats=parse_formats(given["formats"]),
        style=given["style"],
        dpi=given["dpi"],
        small=given["small"],
        systems=split_names(given["systems"], "--systems"),
        bands=given["bands"],
        ylim=parse_limits(given["ylim"]) if given["ylim"] else None,
        caption=not given["no_caption"],
        labels=parse_labels(given["labels"]),
        highlight=tuple(name for text in given["highlight"] for name in split_names(text, "--highlight") or ()),
        relative_to="" if given["relative_to"] == "none" else given["relative_to"],
    )
    folder = find_run(runs[0] if runs else None)
    figures = None if given["figure"] == "all" else split_names(given["figure"], "--figure")
    drawn = draw_run(folder, figures, options, [_overlay(name) for name in runs[1:]])
    for path in drawn.files:
        click.echo(shown(path, 4000))
    for note in drawn.notes:
        click.echo(note, err=True)


def _overlay(text: str):
    """RUN2 or RUN2:SYSTEM -> (folder, system or ""). Raises UserError if there is no such run."""
    from bench.results.find import find_run
    from systems.errors import UserError

    try:
        return find_run(text), ""
    except UserError:
        run, colon, system = text.rpartition(":")
        if not colon or not run:
            raise
        return find_run(run), system
