"""The files that a third party's system opens and that must not change while a run goes on: those of its own package
and of its checkpoint.

`identity` calls it. An encoder shares no process with its decoder, but other programs of the machine can see what the
kernel tells everybody of a process, such as its title. One of them could write what it saw into a file that the
decoder opens. So each file and folder must stay as it was when the plan was made, also in its times. A file that was
changed and put back has another `ctime`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from bench.util.package_files import own_files
from systems import registry

States = dict[str, tuple[int, ...]]


def states(module: str, options: dict[str, Any]) -> States:
    """The state of each file and folder that only this system opens, by its path.

    module: of the system. options: those given to it; `checkpoint` names files and folders.
    """
    found: States = {}
    for path in (*own_files(module), *registry.checkpoint_paths(options)):
        _add(found, str(path))
    return found


def changed(before: States, now: States, hidden: Collection[Path] = ()) -> str:
    """The path of the first file or folder that differs; "" if there is none.

    hidden: files and folders that the system cannot open. They may change, and so may the folders above them.
    """
    secret = [os.path.realpath(path) for path in hidden]
    for path in sorted(before.keys() | now.keys()):
        if before.get(path) != now.get(path) and not _may_change(path, secret):
            return path
    return ""


def _may_change(path: str, secret: Iterable[str]) -> bool:
    real = os.path.realpath(path)
    return any(f"{real}/".startswith(f"{one}/") or f"{one}/".startswith(f"{real}/") for one in secret)


def _add(found: States, path: str) -> None:
    """Add the state of a path and of all below it."""
    state = state_of(path)
    if not state:
        found[path] = ()
        return
    if path in found or _is_output(state):
        return
    found[path] = state
    if stat.S_ISDIR(state[2]):
        try:
            names = sorted(os.listdir(path))
        except OSError:  # a folder that this user may not list; nor may the system
            return
        for name in names:
            _add(found, os.path.join(path, name))


def state_of(path: str | Path) -> tuple[int, ...]:
    """Facts that change when a file is written or replaced, even if its size and time are restored. () if it is not
    there. Of a link: those of the link and of its target.
    """
    try:
        own = os.lstat(path)
        target = os.stat(path) if stat.S_ISLNK(own.st_mode) else own
    except OSError:
        return ()
    both = (own,) if own is target else (own, target)
    return tuple(
        value
        for one in both
        for value in (one.st_dev, one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
    )


def _is_output(state: tuple[int, ...]) -> bool:
    """Whether the file is the output of this command, which grows while it runs (`> log.txt` beside the code)."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            found = os.fstat(stream.fileno()) if stream is not None else None
        except (OSError, ValueError):
            continue
        if found is not None and stat.S_ISREG(found.st_mode) and state[:2] == (found.st_dev, found.st_ino):
            return True
    return False
