"""The command `python -m bench new`: makes a package with a system of the user's own, from bench/templates."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

#: Names in the templates: of the system, the package, the class, and in legends.
PLACES = ("my-system", "my_system", "MySystem", "My system")


@click.command("new", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--learned", is_flag=True, help="A learned system: a network that `python -m bench train` trains.")
@click.option("--out", metavar="DIR", help="The new folder [default: NAME].")
def new_command(name: str, learned: bool, out: str | None) -> None:
    """Make a Python package with a system of your own. It can be installed, runs in every figure, and has tests.

    NAME: lower-case letters and digits, with hyphens between words, such as my-system.
    """
    import baselines  # noqa: F401  (registers its systems)
    from bench.util.files import StorageError, user_path
    from systems import registry
    from systems.errors import UserError

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60:
        raise UserError(f"{name!r}: a system's name is lower-case letters and digits with hyphens between: my-system")
    if name in registry.names():
        raise UserError(f"{name}: the bench has a system of that name; choose another")
    package = name.replace("-", "_")
    if keyword.iskeyword(package) or importlib.util.find_spec(package) is not None:
        raise UserError(f"{name}: Python knows a module or a word {package}; choose another name")
    folder = user_path(out, "--out") if out else Path(name)
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another --out, or remove it")
    words = name.split("-")
    new = (name, "_".join(words), "".join(map(str.capitalize, words)), " ".join(words).capitalize())
    try:
        _copy(
            files("bench") / "templates" / ("learned" if learned else "plain"),
            folder,
            dict(zip(PLACES, new, strict=True)),
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # half a package is none
        raise StorageError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from None
    click.echo(f"{folder}: a package with the system {name}. Next: pip install -e {folder}, then its README.md")


def _copy(source: Traversable, target: Path, places: dict[str, str]) -> None:
    """Copy a template, with the new names in files and in file names."""
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir(), key=lambda one: one.name):
        if entry.name in ("__pycache__", ".pytest_cache"):
            continue
        name = entry.name.replace("my_system", places["my_system"])
        if entry.is_dir():
            _copy(entry, target / name, places)
            continue
        text = entry.read_text(encoding="utf-8")
        for old, new in places.items():
            text = text.replace(old, new)
        (target / name).write_text(text, encoding="utf-8")
