"""Imports matplotlib as it was installed. Drawings and the names of colours need it."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
from pathlib import Path


def load_matplotlib() -> None:
    """Import matplotlib without the user's settings, because a damaged matplotlibrc or backend would make the import
    fail.

    matplotlib looks for a matplotlibrc first in the working directory, then at the path in MATPLOTLIBRC.
    """
    if "matplotlib" in sys.modules:
        return
    own = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "matplotlibrc"
    before = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=str(own))
    try:
        here: str | None = os.getcwd()
    except OSError:  # the folder was deleted
        here = None
    try:
        with tempfile.TemporaryDirectory() as empty:
            if here is not None:
                os.chdir(empty)
            try:
                logging.getLogger("matplotlib").setLevel(logging.ERROR)
                import matplotlib  # noqa: F401
            finally:
                if here is not None:
                    os.chdir(here)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
