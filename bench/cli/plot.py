"""`python -m bench plot`."""

from __future__ import annotations

import click


@click.command("plot", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", nargs=-1, metavar="[RUN] [RUN2[:SYSTEM]]...")
@click.option("--figure", metavar="F,F|all", help="Only these figures [default: all of the run].")
@click.option("--out", metavar="DIR", help="Figures go here [default: figures/ in the run's folder, with its tables].")
@click.option("--format", "formats", metavar="F,F", default="png,pdf", show_default=True, help="png, pdf, svg.")
@click.option("--style", type=click.Choice(("screen", "ieee")), default="screen", show_default=True,
              help="ieee: one column of 3.5 in, Times, closed axes, ticks inward, 600 dpi.")  # fmt: skip
@click.option(
    "--dpi", type=click.IntRange(30, 2400), metavar="N", help="Dots per inch of PNG [default: 200; ieee 600]."
)
@click.option("--small", is_flag=True, help="PNG of 100 dpi and 256 colours: for a repository or a mail.")
@click.option("--systems", metavar="S,S", help="Only these systems, in this order.")
@click.option("--bands/--no-bands", default=None,
              help="Bands of the 95 % intervals [default: where none overlap; else differences below].")  # fmt: skip
@click.option("--relative-to", metavar="NAME", help="The system that the lower panel compares with; none: no panel.")
@click.option("--ylim", metavar="LOW,HIGH", help="Limits of the value axis, in its unit.")
@click.option("--no-caption", is_flag=True, help="Leave the small print to the files' metadata.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=TEXT", help="What the legend calls a system; repeatable."
)
@click.option("--highlight", multiple=True, metavar="NAME", help="Draw this system wide and the others faint.")
def plot_command(runs: tuple[str, ...], **given) -> None:
    """Draw the figures and tables of RUN, a run's folder or its name under results/ (default: the last run).

    Further runs are laid over it: RUN2 adds all its systems to each figure of the same data set, channel and budget,
    RUN2:SYSTEM adds one. What cannot be drawn is named, and the rest is drawn.
    """
    from bench.report.figures import draw_run
    from bench.report.options import Options, parse_formats, parse_labels, parse_limits
    from bench.results.find import find_run
    from bench.util.files import shown, user_path

    options = Options(
        out=user_path(given["out"], "--out") if given["out"] else None,
        formats=parse_formats(given["formats"]),
        style=given["style"],
        dpi=given["dpi"],
        small=given["small"],
        systems=_names(given["systems"]),
        bands=given["bands"],
        ylim=parse_limits(given["ylim"]) if given["ylim"] else None,
        caption=not given["no_caption"],
        labels=parse_labels(given["labels"]),
        highlight=tuple(name for text in given["highlight"] for name in _names(text) or ()),
        relative_to="" if given["relative_to"] == "none" else given["relative_to"],
    )
    folder = find_run(runs[0] if runs else None)
    figures = None if given["figure"] in (None, "all") else _names(given["figure"])
    drawn = draw_run(folder, figures, options, [_overlay(name) for name in runs[1:]])
    for path in drawn.files:
        click.echo(shown(path, 4000))
    for note in drawn.notes:
        click.echo(note, err=True)


def _names(text: str | None) -> tuple[str, ...] | None:
    """ "a, b" -> ("a", "b"); None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _overlay(text: str):
    """RUN2 or RUN2:SYSTEM -> (folder, system or ""). Raises UserError where there is no such run."""
    from bench.results.find import find_run
    from systems.errors import UserError

    try:
        return find_run(text), ""
    except UserError:
        run, colon, system = text.rpartition(":")
        if not colon or not run:
            raise
        return find_run(run), system
