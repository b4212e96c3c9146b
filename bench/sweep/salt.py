"""The salt of a run's noise: secret while the run lasts, and in the manifest afterwards.

`bench.sweep.execute` and the worker call it. Every seed is a hash of public names and of this salt, so no system can
know the noise that it will meet. The salt is drawn when a run begins, and stored in the file `.salt` of its folder,
which only its owner can read. The processes of third parties' systems cannot open the folder. A run has one salt for
its whole life, so its cells never mix two.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any

from bench.util.files import StorageError
from systems.errors import UserError

FILE = ".salt"
NONE = "none"  # the value of --salt for a run without salt, as before there were salts


def salt_of(root: Path, manifest: dict[str, Any] | None, given: str | None) -> str:
    """The salt of the run in `root`: the one that it has, otherwise `given`, otherwise a new one. Nothing is written.

    Raises UserError if `given` is no salt, or another one than the run's.
    """
    if given is not None and given != NONE and not re.fullmatch(r"[0-9a-f]{8,128}", given):
        raise UserError(f"--salt {given!r}: a salt is 8 to 128 hex digits, as a manifest holds it, or {NONE!r}")
    wanted = None if given is None else "" if given == NONE else given
    known = _known(root, manifest)
    if known is None:
        return secrets.token_hex(16) if wanted is None else wanted
    if wanted is not None and wanted != known:
        raise UserError(f"--salt: the run in {root} has another salt; its cells would mix two, choose another folder")
    return known


def _known(root: Path, manifest: dict[str, Any] | None) -> str | None:
    try:
        text = (root / FILE).read_text(encoding="ascii").strip()
        return "" if text == NONE else text
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        raise UserError(f"{root / FILE}: cannot read the run's salt ({error})") from None
    if manifest is None:
        return None
    told = manifest.get("salt")
    return told if isinstance(told, str) else ""  # a run from before there were salts


def kept_salt(root: Path) -> str:
    """The salt in the run's folder. "" if there is none."""
    return _known(root, {}) or ""


def keep_salt(root: Path, salt: str) -> None:
    """Write the file, unless it exists. Raises StorageError if the disk refuses."""
    try:
        handle = os.open(root / FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"cannot write {root / FILE}: {error.strerror}; choose another --out") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write((salt or NONE) + "\n")
        file.flush()
        os.fsync(file.fileno())
