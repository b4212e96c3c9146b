"""The command line. Only click is imported here; each command imports what it needs when it runs."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterator

import click

NAME = "semantic-bench"  # the installed command; `python -m bench` is the same
COMPLETE_VARIABLE = "_SEMANTIC_BENCH_COMPLETE"
#: Folders of a user. Their standard says that a relative path in them does not count.
FOLDER_VARIABLES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")

#: Command -> (module, attribute, help), in the order of the help page.
COMMANDS = {
    "run": (
        "bench.cli.run",
        "run_command",
        "Simulate figures: run systems over a range of SNRs, and write tables. Resumes.",
    ),
    "plot": ("bench.cli.plot", "plot_command", "Draw the figures and tables of a run (default: the last one)."),
    "report": ("bench.cli.report", "report_command", "Write one HTML file with everything in a run."),
    "runs": ("bench.cli.runs", "runs_command", "List the runs under results/: date, cells, size, figures, systems."),
    "weights": (
        "bench.cli.weights",
        "weights_group",
        "Import published weights, put trained ones into the package, measure 8-bit storage.",
    ),
    "train": ("bench.cli.train", "train_command", "Train learned systems under one protocol."),
    "new": ("bench.cli.new", "new_command", "Make a Python package with a system of your own."),
    "ask": ("bench.cli.ask", "ask_command", "Show which task a sentence asks for, with its scores."),
    "list": ("bench.cli.lists", "list_command", "List systems, data sets, channels, figures and checkpoints."),
    "data": ("bench.cli.data", "data_group", "Download public data sets, show one, or pack one for training."),
    "env": ("bench.cli.env", "env_command", "Show versions, and facts of the machine."),
    "compare": ("bench.cli.compare", "compare_command", "Compare two systems or two runs, paired over pictures."),
    "claims": (
        "bench.cli.claims",
        "claims_command",
        "Check the paper's statements on a run: each holds, is contradicted, undecided or withheld.",
    ),
    "perf": ("bench.cli.perf", "perf_group", "Measure the time and memory that runs, systems and training take."),
    "probe": (
        "bench.cli.probe",
        "probe_command",
        "Test a receiver with zeroed symbols, other symbols, and a wrong SNR.",
    ),
    "refine": (
        "bench.cli.refine",
        "refine_command",
        "Measure PSNR and MS-SSIM of GenSC against its number of refinement steps.",
    ),
    "completion": (
        "bench.cli.completion",
        "completion_command",
        "Print the lines that make a shell complete commands.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command. None if there is none of this name."""
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        return getattr(importlib.import_module(module), attribute)

    def resolve_command(self, ctx, args):
        """See click. An unknown command raises UsageError with the nearest names."""
        # A shell that asks for completions (`resilient_parsing`) gets none, and no error on the user's prompt.
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from systems.errors import did_you_mean

            raise click.UsageError(f"no command {args[0]!r}; {did_you_mean(args[0], COMMANDS, 'commands')}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from COMMANDS, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from bench.util.environment import git_commit, package_version

    commit = git_commit()
    click.echo(f"{NAME} {package_version(NAME) or '(not installed)'}" + (f", commit {commit}" if commit else ""))
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Compare systems for semantic image transmission, with equal channel uses, equal power and equal noise.

    Start with `python -m bench run --systems all --snr 0:20:2`, then `python -m bench plot`.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line. An error of the user is printed as one line, and gives exit code 2."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # otherwise sentence-transformers shows a progress bar
    for name in FOLDER_VARIABLES:  # libraries would make such a folder in the working directory
        if not os.path.isabs(os.environ.get(name, "/")):
            del os.environ[name]
    argv = sys.argv[1:] if argv is None else argv
    own = os.path.basename(sys.argv[0] or "").removesuffix(".exe") == NAME
    with _usable_streams():
        try:
            _must_have_a_folder()
            _must_ask_a_shell()
            for argument in argv:
                if "\0" in argument:
                    raise click.UsageError("an argument holds a NUL character, which no name or path may hold")
            code = cli.main(
                args=argv,
                prog_name=NAME if own else "python -m bench",
                complete_var=COMPLETE_VARIABLE,
                standalone_mode=False,
                obj=tuple(argv),
            )
            sys.stdout.flush()
        except click.exceptions.Exit as stop:
            code = stop.exit_code
        except click.exceptions.NoArgsIsHelpError as bare:
            click.echo(bare.ctx.get_help() if bare.ctx else "")
            code = 0
        except (click.Abort, KeyboardInterrupt):
            _complain("interrupted; the same command resumes")
            code = 130
        except click.ClickException as error:
            usage = isinstance(error, click.UsageError) and error.ctx
            command = f" (see {error.ctx.command_path} --help)" if usage else ""
            _complain(f"error: {error.format_message().rstrip()}{command}")
            code = 2
        except BrokenPipeError:  # `bench list | head`
            code = 1
        except MemoryError:
            _complain("error: the memory is full; take smaller pictures, or a smaller --batch or --workers")
            code = 1
        except OSError as error:
            code = _of_the_system(error)
        except Exception as error:
            if not _is_user_error(error):
                raise
            _complain(f"error: {error}")
            code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _must_have_a_folder() -> None:
    """Raise UsageError where the working directory was removed: no relative path means anything there."""
    try:
        os.getcwd()
    except OSError as error:
        raise click.UsageError(f"the working directory is gone ({error.strerror}); change to another folder") from None


def _must_ask_a_shell() -> None:
    """Raise UsageError if the variable with which a shell asks for completions holds another text.

    Without this check, click would end without a message, or with a KeyError.
    """
    asked = os.environ.get(COMPLETE_VARIABLE)
    if not asked:
        return
    from click.shell_completion import get_completion_class

    shell, _, step = asked.partition("_")
    if get_completion_class(shell) is None or step not in ("source", "complete"):
        raise click.UsageError(
            f"{COMPLETE_VARIABLE} is {asked[:60]!a}, which no shell sets; unset it (a shell completes commands after "
            f"the lines that `{NAME} completion bash` prints)"
        )
    number = os.environ.get("COMP_CWORD", "")
    words = {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys()
    if step == "complete" and not (words and (shell == "fish" or number.isdecimal())):
        raise click.UsageError(
            f"{COMPLETE_VARIABLE} is {asked!a}, but COMP_WORDS and COMP_CWORD do not hold a command line; unset it"
        )


def _of_the_system(error: OSError) -> int:
    """Print an error of the file system as one line. Returns 2 if a path is wrong, and 1 if the output cannot be
    written.
    """
    reason = error.strerror or str(error)
    if error.filename is not None:
        _complain(f"error: {os.fsdecode(error.filename)}: {reason}; name another file or folder")
        return 2
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        _complain(f"error: the system refuses another process, file or memory: {reason}; take fewer --workers")
        return 1
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EPIPE, errno.EDQUOT):
        _complain(f"error: cannot write the output: {reason}; the files that were written are complete")
        return 1
    if error.errno is not None:
        _complain(f"error: {reason}")
        return 1
    raise error


def _complain(text: str) -> None:
    """Print one line on stderr, if it can be written."""
    from bench.util.files import shown

    with contextlib.suppress(OSError, ValueError):
        click.echo(shown(text, most=4000), err=True)
        sys.stderr.flush()


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """In a `with` block: output never fails because of a letter. Letters that a terminal's encoding lacks are escaped.

    Streams that were closed before the start lead to the null device, so that no file of the run gets their number.
    Streams that cannot be written at the end are not written again when Python exits.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        with contextlib.suppress(AttributeError, ValueError):  # a test's stream has no encoding
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for name in ("stdout", "stderr"):
            try:
                getattr(sys, name).flush()
            except (OSError, ValueError):
                with contextlib.suppress(OSError, ValueError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, getattr(sys, name).fileno())
                    os.close(nowhere)


def _is_user_error(error: Exception) -> bool:
    from systems.errors import UserError

    return isinstance(error, UserError)
