"""The command line. Only click is imported here; a command imports what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

#: command -> (module, attribute), in the order of the help page
COMMANDS = {
    "run": ("bench.cli.run", "run_command", "Simulate figures: sweep systems over the channel, resume, write tables."),
    "plot": ("bench.cli.plot", "plot_command", "Draw the figures and tables of a run (default: the last one)."),
    "report": ("bench.cli.report", "report_command", "Write one HTML file with everything that a run holds."),
    "runs": ("bench.cli.runs", "runs_command", "List the runs under results/: date, cells, size, figures, systems."),
    "train": ("bench.cli.train", "train_command", "Train learned systems under one protocol."),
    "new": ("bench.cli.new", "new_command", "Make a package with a system of your own."),
    "ask": ("bench.cli.info", "ask_command", "Show which task a sentence asks for, with the scores."),
    "list": ("bench.cli.info", "list_command", "List systems, data sets, figures and checkpoints."),
    "data": ("bench.cli.data", "data_group", "Get public data sets, or look at one."),
    "env": ("bench.cli.info", "env_command", "Show versions and the machine."),
    "compare": ("bench.cli.compare", "compare_command", "Compare two systems or two runs, paired over pictures."),
    "claims": (
        "bench.cli.claims",
        "claims_command",
        "Check the paper's statements on a run: holds, contradicted, undecided or withheld.",
    ),
    "perf": ("bench.cli.perf", "perf_group", "Measure what the sweep and the models cost."),
    "refine": ("bench.cli.refine", "refine_command", "PSNR and MS-SSIM of GenSC against its refinement steps."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from systems.errors import did_you_mean

            raise click.UsageError(f"no command {args[0]!r}; {did_you_mean(args[0], COMMANDS, 'commands')}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Semantic image transmission, compared with the same channel uses, the same power and the same noise.

    python -m bench run --systems all --snr 0:20:2, then python -m bench plot
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line; a user's error is one line and exit code 2."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # sentence-transformers draws a bar for a model of 22 MB
    try:
        argv = sys.argv[1:] if argv is None else argv
        code = cli.main(args=argv, prog_name="python -m bench", standalone_mode=False, obj=tuple(argv))
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        click.echo("interrupted; the same command resumes", err=True)
        code = 130
    except click.ClickException as error:
        command = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(f"error: {error.format_message().rstrip()}{command}", err=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except Exception as error:
        if not _is_user_error(error):
            raise
        click.echo(f"error: {error}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _is_user_error(error: Exception) -> bool:
    from systems.errors import UserError

    return isinstance(error, UserError)
