"""The cache folder of the bench: for files that can be made or downloaded again.

Data sets, counts of operations, facts of systems and class maps of the teacher are kept in it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: `$XDG_CACHE_HOME/semantic-bench`, or `~/.cache/semantic-bench`.

    A relative path in the variable does not count, as its standard says: it would be another folder in each working
    directory. For a user without a home folder it is under the system's folder for temporary files.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given if os.path.isabs(given) else "~/.cache").expanduser()
    except RuntimeError:
        cache = Path(tempfile.gettempdir()) / f"cache-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return cache / "semantic-bench"
