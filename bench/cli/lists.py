"""The command `python -m bench list`: one function per list."""

from __future__ import annotations

import click

from bench.cli.aligned import aligned


@click.command("list", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "what",
    required=False,
    metavar="[WHAT]",
    type=click.Choice(["systems", "datasets", "channels", "figures", "checkpoints", "register", "columns", "keys"]),
)
def list_command(what: str | None) -> None:
    """List systems, data sets, channels, figures and checkpoints.

    WHAT shows only one of these lists. Three more lists are shown only by name: every column of the CSV tables
    (columns), every key of the TOML files for figures, sizes and training (keys), and every choice that the GenSC paper
    leaves open (register).
    """
    if what == "register":
        _register()
        return
    if what == "columns":
        _columns()
        return
    if what == "keys":
        _keys()
        return
    tables = {"systems": _systems, "datasets": _datasets, "channels": _channels, "figures": _figures,
              "checkpoints": _checkpoints}  # fmt: skip
    for index, name in enumerate([what] if what else tables):
        if index:
            click.echo()
        click.echo(f"{name}:")
        for line in aligned(tables[name]()):
            click.echo(f"  {line}")


def _register() -> None:
    from systems.gensc.open_choices import READINGS, REGISTER

    for choice in (*REGISTER, *READINGS):
        click.echo(f"{choice.field} [{choice.where}]\n  paper: {choice.paper}\n  here:  {choice.here}")


def _columns() -> None:
    from bench.results.schema import TABLES

    for index, (name, columns) in enumerate(TABLES.items()):
        click.echo(
            ("\n" if index else "") + (f"{name}.csv:" if name != "cells" else "cells/<id>.csv, as samples.csv and:")
        )
        columns = columns if name != "cells" else columns[-1:]
        for line in aligned([(c.name, c.kind, c.unit or "-", c.meaning) for c in columns]):
            click.echo(f"  {line}")


def _keys() -> None:
    """Print the keys of TOML files, from the records and dataclasses that check them."""
    from bench.spec.figure import FIGURE_KEYS, PICTURE_KEYS
    from bench.spec.keys import field_lines, key_lines
    from bench.training.protocol import CropStage, Protocol, TaskProtocol
    from systems.gensc.open_choices import REGISTER

    tables = [
        ("figure file (configs/figures, --figure FILE.toml)", key_lines(FIGURE_KEYS)),
        ("figure file, [pictures]", key_lines(PICTURE_KEYS)),
        ("training protocol (configs/train, --config)", field_lines(Protocol)),
        ("training protocol, [tasks.NAME]", field_lines(TaskProtocol)),
        ("training protocol, one entry of stages", field_lines(CropStage)),
    ]
    register = {field: choice.here for choice in REGISTER for field in choice.field.replace(",", " ").split()}
    for name, config in _configs().items():
        rows = field_lines(config)
        if name == "gensc":  # the register explains its choices
            rows = [(field, kind, doc or register.get(field, "")) for field, kind, doc in rows]
        title = f"size of {name} (configs/models/{name}-SIZE.toml); base: the size that gives all other values"
        tables.append((title, rows))
    for index, (title, rows) in enumerate(tables):
        click.echo(("\n" if index else "") + f"{title}:")
        for line in aligned(rows):
            click.echo(f"  {line}")


def _configs() -> dict[str, type]:
    """The dataclass behind the sizes of each learned system of the bench."""
    import baselines  # noqa: F401  (registers its systems)
    from systems import registry
    from systems.sizes import sizes_of

    own = [entry for entry in registry.entries() if not entry.plugin and sizes_of(entry.name)]
    found = {entry.name: getattr(entry.load(), "Config", None) for entry in own}
    return {name: config for name, config in found.items() if config is not None}


def _systems() -> list[tuple[str, ...]]:
    from bench.spec.identity import tasks_of
    from systems import registry
    from systems.errors import UserError
    from systems.sizes import sizes_of

    rows: list[tuple[str, ...]] = []
    off = registry.disabled()
    for entry in registry.entries():
        for name in entry.names:
            try:
                tasks = ", ".join(tasks_of(name))
            except UserError as error:  # a third party's broken plug-in must not hide the rest
                off[name] = str(error)
                continue
            kind = "learned: " + ", ".join(sizes_of(name)) if entry.learned else "family" if entry.pattern else ""
            rows.append((name, tasks, kind))
    return rows + [(name, "disabled", reason) for name, reason in off.items()]


def _datasets() -> list[tuple[str, ...]]:
    from bench.data import list_datasets
    from bench.data.catalogue import faulty_plugins

    rows = [(info.name, ", ".join(info.tasks), info.description) for info in list_datasets()]
    rows.append(("folder:PATH", "reconstruction", "any pictures of a folder"))
    return rows + [(name, "disabled", why) for name, why in faulty_plugins().items()]


def _channels() -> list[tuple[str, ...]]:
    from bench.measure.channel import CHANNELS

    rows = [(channel.name, channel.label, channel.csi.words) for channel in CHANNELS]
    return rows + [(name, "disabled", why) for name, why in CHANNELS.faulty.items()]


def _figures() -> list[tuple[str, ...]]:
    from bench.measure.budget import budget_text
    from bench.spec.figure import figure_names, load_figures

    rows = []
    for name in figure_names():
        figures = load_figures(name)
        figure, budget = figures[0], ", ".join(budget_text(figure.cbr, figure.bits, figure.uses) for figure in figures)
        rows.append((name, f"{figure.title}: {figure.dataset}, {budget}, {figure.channel}", ", ".join(figure.systems)))
    return rows


def _checkpoints() -> list[tuple[str, ...]]:
    from importlib import resources
    from pathlib import Path

    from bench.util.files import shown
    from systems import sidecars
    from systems.errors import CheckpointError

    rows = []
    for package in ("systems", "baselines"):
        for path in sorted((Path(str(resources.files(package))) / "weights").glob("*.safetensors")):
            try:
                facts = sidecars.read_facts(path)
            except CheckpointError as error:
                rows.append((path.stem, str(error)))
                continue
            seen = [f"{task}: {count:,} pictures seen" for task, count in sidecars.images_seen(facts).items()]
            words = (f"sha256 {str(facts.get('sha256'))[:8]}", ", ".join(seen) or "?", facts.get("licence", ""))
            rows.append((path.stem, *(shown(word, 2000) for word in words)))
    return rows or [("none", "train some: python -m bench train")]
