"""The command `python -m bench completion`, and the completion of names of systems, figures, data sets and channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click


@click.command("completion", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the lines that make SHELL complete the installed command `semantic-bench`.

    \b
    bash, in ~/.bashrc:                   eval "$(semantic-bench completion bash)"
    zsh, in ~/.zshrc after compinit:      eval "$(semantic-bench completion zsh)"
    fish, in ~/.config/fish/config.fish:  semantic-bench completion fish | source
    """
    from click.shell_completion import get_completion_class

    from bench.cli import COMPLETE_VARIABLE, NAME, cli

    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    # Not `source()`, which for bash starts a shell to ask for its version, and fails if there is no bash.
    writer = kind(cli, {}, NAME, COMPLETE_VARIABLE)
    click.echo(writer.source_template % writer.source_vars())


Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _listed(names: Callable[[], Iterable[str]]) -> Completer:
    """Complete the last name in a comma-separated list. Errors in looking up names are ignored, so that the shell is
    not disturbed. `names` imports no code of other packages: a key that is pressed runs nothing.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        try:
            return [before + comma + name for name in names() if name.startswith(last)]
        except Exception:
            return []

    return complete


def _systems() -> list[str]:
    import baselines  # noqa: F401  (registers its systems)
    from systems import registry

    return ["all", *registry.names()]


def _figures() -> list[str]:
    from bench.spec.figure import figure_names

    return ["all", *figure_names()]


def _datasets() -> list[str]:
    from bench.data.catalogue import dataset_names

    return [*dataset_names(), "folder:"]


def _channels() -> list[str]:
    from bench.measure.channel import CHANNELS

    return CHANNELS.unloaded_names()


complete_systems = _listed(_systems)
complete_figures = _listed(_figures)
complete_datasets = _listed(_datasets)
complete_channels = _listed(_channels)
