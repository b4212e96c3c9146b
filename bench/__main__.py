"""Runs the command line for `python -m bench`. A Python that lacks what the bench needs gets one line, no traceback."""

import sys


def _without(what: str) -> None:
    print(f"error: {what} ({sys.executable}); activate the bench's environment, or `pip install -e .`", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":  # worker processes import this module under another name
    if sys.version_info < (3, 11):  # noqa: UP036 - an older Python that never saw the package metadata
        _without(f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, and the bench needs 3.11 or newer")
    try:
        from bench.cli import main

        main()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "bench", "systems", "baselines"):
            raise
        _without(f"the package {package} is not installed in this Python")
