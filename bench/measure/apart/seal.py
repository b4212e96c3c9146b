"""Takes every file away from a system's process, after the system is built and before it is given data.

An encoder that has seen a picture could leave traces in what the kernel remembers of files: which names were asked for,
which pages were read, which files are locked. A sealed process has no files, so it leaves none. `nursery` calls this
from the first process of a call, from outside: the system's process cannot be trusted once it has imported a third
party's code.

    own_root     before the process starts: its root is a new, private folder with every top-level folder mounted in it
    seal         stop the process; check that it holds no file, no other process and no foreign folder; read the files
                 that it has mapped, so that it makes no difference which of their pages it touches (whole files: a
                 mapping can grow without a descriptor); unmount every folder of the root; let the process go on
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.measure.apart.confine import libc

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_UNBINDABLE = 1, 2, 4, 32, 4096, 1 << 14, 1 << 17
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MEMORY_DEVICES = 1  # major number of /dev/null, /dev/zero, /dev/random and /dev/urandom
_NO_FILES = ("pipe:", "anon_inode:", "/memfd:")  # kinds of descriptors that end with the process
MOST_MAPPED = 16 << 30  # bytes of the files of which a system may map parts into its memory
STOP_SECONDS = 10.0  # a process stops at once, unless the machine is overloaded or the process prevents it
_DEAD = ("Z", "X")  # states of a thread that has ended
WENT_ON = "it went on when it had to wait"
_ANY_CHANGE = os.WNOHANG | os.WUNTRACED | getattr(os, "WCONTINUED", 0)  # of a child's state, for os.waitpid
_PIECE = 4 << 20  # bytes that are read at a time


class Refused(Exception):
    """The process of a system does something that prevents its sealing. The message names it in one line."""


class Ended(Exception):
    """The process of a system has ended. status: as `os.waitpid` gives it."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


class Mapping(NamedTuple):
    """A file that is mapped into memory, the whole or a part."""

    path: str
    inode: int


def own_root(place: Path) -> bool:
    """Give this mount namespace a private root folder, with every folder of the present root mounted in it.

    place: a folder that does not exist yet. Returns False, and the root stays, if the kernel refuses.
    """
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        return False
    here, target, done = libc(), os.fsencode(place), False
    place.mkdir()
    flags = _MS_NOSUID | _MS_NODEV
    if here.mount(b"tmpfs", target, b"tmpfs", flags, b"size=1m,mode=755") != 0:
        place.rmdir()
        return False
    here.mount(None, target, None, _MS_UNBINDABLE, None)  # else the copy of the folder above would hold a copy of it
    if all(_bind(entry, place / entry.name) for entry in list(os.scandir("/"))):
        here.mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags, None)
        os.chdir(place)
        done = here.syscall(number, b".", b".") == 0 and here.umount2(b".", _MNT_DETACH) == 0
        os.chdir("/")
    if not done:
        here.umount2(target, _MNT_DETACH)
    with contextlib.suppress(OSError):
        place.rmdir()
    return done


def _bind(entry: os.DirEntry, target: Path) -> bool:
    if entry.is_symlink():
        target.symlink_to(os.readlink(entry.path))
        return True
    if entry.is_dir():
        target.mkdir()
    elif entry.is_file():
        target.touch()
    else:
        return True
    return libc().mount(os.fsencode(entry.path), os.fsencode(target), None, _MS_BIND | _MS_REC, None) == 0


def seal(process: int, private: Path, known: Collection[Mapping], own: Collection[tuple[int, int]]) -> None:
    """Seal `process`, a child of this one. `own_root` must have succeeded before it was started.

    private: its folder of temporary files, a file system of its own. known: files that were read before. own: device
    and inode of the open files that the harness gave it. Raises Refused and Ended.
    """
    _stop(process)
    if _states(process) - {"T", *_DEAD}:  # a thread that is traced stops alone, and the others go on
        raise Refused(WENT_ON)
    others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid(), process}
    others = {one for one in others if _states(one) - set(_DEAD)}
    if others:
        raise Refused("it started another process")
    for held in _held(process, os.stat(private).st_dev, own):
        raise Refused(f"it keeps {held} open")
    read_files([one for one in mapped_files(str(process)) if one not in known])
    done = all([_detach(entry.path) for entry in list(os.scandir("/")) if not entry.is_symlink()])
    if os.waitpid(process, _ANY_CHANGE) != (0, 0):
        raise Refused(WENT_ON)
    if not done:
        raise Refused("the kernel does not take all folders away from it")
    os.kill(process, signal.SIGCONT)


def _stop(process: int) -> None:
    """Stop all threads of a process. A timer of its own could continue it: then it could hide a file from the check."""
    os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        changed, status = os.waitpid(process, _ANY_CHANGE)
        if changed and os.WIFSTOPPED(status):
            return
        if changed and not os.WIFCONTINUED(status):
            raise Ended(status)
        if changed:
            break
        time.sleep(0.0002)
    raise Refused(WENT_ON)


def _states(process: int) -> set[str]:
    """The states of all threads of a process, in the letters of proc(5)."""
    stats = Path(f"/proc/{process}/task").glob("*/stat")
    return {chr(one.read_bytes().rpartition(b") ")[2][0]) for one in stats}


def _detach(path: str) -> bool:
    return libc().umount2(os.fsencode(path), _MNT_DETACH) == 0


def _held(process: int, private: int, own: Collection[tuple[int, int]]) -> Iterator[str]:
    """What the threads of a process hold of files: their root, their working folder, and their open files."""
    root = os.stat("/")
    for task in os.listdir(f"/proc/{process}/task"):
        place = f"/proc/{process}/task/{task}"
        found = os.stat(f"{place}/root")
        if (found.st_dev, found.st_ino) != (root.st_dev, root.st_ino):
            yield "another root folder"
        if os.stat(f"{place}/cwd").st_dev != private:
            yield os.readlink(f"{place}/cwd")
        for number in os.listdir(f"{place}/fd"):
            name, found = os.readlink(f"{place}/fd/{number}"), os.stat(f"{place}/fd/{number}")
            allowed = found.st_dev == private or (found.st_dev, found.st_ino) in own
            if not (allowed or name.startswith(_NO_FILES) or _is_memory(found)):
                yield "a socket" if name.startswith("socket:") else name


def _is_memory(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _MEMORY_DEVICES


def mapped_files(process: str = "self") -> list[Mapping]:
    """The files that a process has mapped into its memory."""
    found = dict[Mapping, None]()
    for line in os.fsdecode(Path(f"/proc/{process}/maps").read_bytes()).split("\n"):  # a name may hold any other sign
        _, _, _, _, inode, path = [*line.split(maxsplit=5), "", "", "", "", "", ""][:6]
        gone = path.endswith(" (deleted)") and not os.path.lexists(path)  # else a file of just this name
        if inode != "0" and path.startswith("/") and not gone:
            found[Mapping(path, int(inode))] = None
    return list(found)


def read_files(mappings: Collection[Mapping]) -> None:
    """Read these files, so that all of their pages are in memory. Raises Refused if they are too large, or cannot be
    read.
    """
    piece, left = memoryview(bytearray(_PIECE)), MOST_MAPPED
    for one in mappings:
        if "\\" in one.path:  # so a line break is written: two names look the same
            raise Refused(f"it maps {one.path}, whose name holds a line break or a backslash")
        try:
            handle = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise Refused(f"it maps {one.path}, which cannot be read ({error.strerror})") from None
        try:
            state = os.fstat(handle)
            if _is_memory(state):
                continue
            if not stat.S_ISREG(state.st_mode):
                raise Refused(f"it maps {one.path}, which is no file")
            left -= state.st_size
            if left < 0:
                raise Refused(f"it maps files of more than {MOST_MAPPED >> 30} GiB into its memory")
            place = 0
            while read := os.preadv(handle, [piece], place):
                place += read
        finally:
            os.close(handle)
