"""The files of a third party's package and checkpoint that others may write. They must not change while a run goes on.

`identity` calls it. An encoder shares no process with its decoder, but other programs of the machine can see what the
kernel tells everybody of a process, such as its title. A program of another account could write what it saw into a file
that the decoder opens. So each file and folder that such an account may write must stay as it was when the plan was
made, also in its times. A file that was changed and put back has another `ctime`.

What the user alone may write is not looked at here: editors, tests and logs of the user may touch it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from bench.util.package_files import own_files
from systems import registry

States = dict[str, tuple[int, ...]]


def states(module: str, options: dict[str, Any]) -> States:
    """The state of each file and folder that only this system opens and that others may write, by its path.

    module: of the system. options: those given to it; `checkpoint` names files and folders.
    """
    found: States = {}
    for path in map(str, (*own_files(module), *registry.checkpoint_paths(options))):
        for one in {path, os.path.realpath(path)}:  # a package may be a link to a folder elsewhere
            _add(found, one)
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


def state_of(path: str | Path) -> tuple[int, ...]:
    """Facts that change when a file is written or replaced, even if its size and time are restored. () if it is not
    there. Of a link: those of the link and of its target. The number of the device is left out: on a network's file
    system each machine has its own.
    """
    return _state(_looked_at(path))


def _state(looked_at: tuple[os.stat_result, ...]) -> tuple[int, ...]:
    return tuple(
        value for one in looked_at for value in (one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
    )


def _looked_at(path: str | Path) -> tuple[os.stat_result, ...]:
    try:
        own = os.lstat(path)
        return (own, os.stat(path)) if stat.S_ISLNK(own.st_mode) else (own,)
    except OSError:
        return ()


def _may_change(path: str, secret: Iterable[str]) -> bool:
    real = os.path.realpath(path)
    return any(f"{real}/".startswith(f"{one}/") or f"{one}/".startswith(f"{real}/") for one in secret)


def _add(found: States, path: str) -> None:
    """Add the states of a path and of all below it, where others may write."""
    looked_at = _looked_at(path)
    if not looked_at or any(map(_others_may_write, looked_at)):
        found[path] = _state(looked_at)
    if looked_at and stat.S_ISDIR(looked_at[0].st_mode):
        try:
            names = sorted(os.listdir(path))
        except OSError:  # a folder that this user may not list; nor may the system
            return
        for name in names:
            _add(found, os.path.join(path, name))


def _others_may_write(found: os.stat_result) -> bool:
    """Whether an account other than the user's and root's may write a file, by its owner and its mode."""
    if found.st_uid not in (0, os.geteuid()):
        return True
    if stat.S_ISLNK(found.st_mode):  # the mode of a link has no effect
        return False
    return bool(found.st_mode & stat.S_IWOTH) or bool(found.st_mode & stat.S_IWGRP) and not _is_alone(found.st_gid)


@cache
def _is_alone(gid: int) -> bool:
    """Whether nobody but the user is in a group: many systems give each user a group of his own name."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
