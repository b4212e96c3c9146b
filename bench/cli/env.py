"""The command `python -m bench env`."""

from __future__ import annotations

import click

from bench.cli.aligned import aligned


@click.command("env", context_settings={"help_option_names": ["-h", "--help"]})
def env_command() -> None:
    """Show versions, and facts of the machine, as the manifest of a run contains them."""
    from bench.util import environment

    rows = [*environment.versions().items()]
    rows += [(key, str(value)) for key, value in environment.git_state().items()]
    rows += [(key, str(value)) for key, value in environment.host_facts().items()]
    for line in aligned([(str(key), str(value)) for key, value in rows]):
        click.echo(line)
