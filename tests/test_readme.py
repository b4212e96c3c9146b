"""What the README shows works as it stands there."""

import re
import tomllib
from pathlib import Path

import pytest
import torch

from bench.measure.audit import audit, audit_output
from bench.measure.channel import transmit
from systems import Budget, Link, System

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_system_passes_the_audit():
    """The class of "Your own system", with the two functions that the reader has to bring."""
    (code,) = blocks("python")

    def pictures(symbols, height, width):
        reals = torch.view_as_real(symbols).flatten(1)
        return reals.mean(dim=1)[:, None, None, None].expand(-1, 3, height, width).clamp(0, 1)

    space = {"my_features": lambda images: torch.nn.functional.avg_pool2d(images, 4) - 0.5, "my_pictures": pictures}
    exec(code, space)  # noqa: S102  (the README's own text)
    system = space["MySystem"](name="my-system")
    assert isinstance(system, System) and system.name == "my-system"
    link = Link("reconstruction", 32, 48, Budget.from_cbr(1 / 16, 32, 48))
    with torch.no_grad():
        sent = system.encode(torch.rand(2, 3, 32, 48), link)
        audit(system, sent, link)
        audit_output(system, system.decode(transmit(sent, link, [1, 2]), link), link, 2)


def test_the_entry_point_group_is_the_registrys():
    from systems.registry import ENTRY_POINT_GROUP

    (text,) = blocks("toml")
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [ENTRY_POINT_GROUP]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")))
def test_links_lead_somewhere(link):
    assert (README.parent / link).exists()


@pytest.mark.parametrize(
    "line", re.findall(r"^    python -m bench (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
)
def test_commands_and_options_exist(line):
    """Every option that the README types is one that the command has."""
    import click

    from bench.cli import cli

    words = line.partition("#")[0].split()
    command: click.Command = cli
    context = click.Context(cli)
    while words and isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
        assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known
