"""The measures that confine a process before it runs a system: no network, no other processes, few files, no shared
memory.

`bench.measure.apart.nursery` calls them in the forked process, before any code of a third party is imported. The
measures are independent: if a kernel or a container refuses one, the others still apply, and `measures` lists those
that apply.

    user, mount   all file systems are read-only, /proc too, where root owns files that all processes share; /tmp, /run
                  and /dev/shm are empty and private; the folders of the run and of the pictures are empty too, so
                  that not even the sizes of their files can be read
    pid           the process tree is separate, and ends with its first process
    net, ipc      no network, no abstract sockets, no System V or POSIX message queues of others
    landlock      the process can read only the files that the system needs, never the pictures or the run's folder;
                  it can write only in its own temporary folder; no ptrace, no signals to others
    seccomp       no system call that keeps something in the kernel for the next process of the same user, or that
                  reports on other processes: key rings, hints and flags of files, which pages and names of files are
                  in memory and where, sockets that load a module or ignore namespaces, namespaces of its own (with the
                  rights to load modules), the kernel's log (a crash writes an address there), who opens which file,
                  open files that are sent over a socket (they and their locks can outlive all processes), ptrace

`seal` has one more measure, which applies after the system is built.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_NAMESPACES = {
    "mount": 0x00020000, "ipc": 0x08000000, "net": 0x40000000, "pid": 0x20000000,
}  # fmt: skip
_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_MS_PRIVATE, _MS_REC, _MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1 << 18, 1 << 14, 1, 2, 4
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_SYS_MOUNT_SETATTR, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, 0x8000, 1
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR, _EXECUTE, _WRITE_FILE, _TRUNCATE, _IOCTL = 1 << 2, 1 << 3, 1 << 0, 1 << 1, 1 << 14, 1 << 15
_OF_FILES = _READ_FILE | _EXECUTE | _WRITE_FILE | _TRUNCATE | _IOCTL
_PR_SET_SECCOMP, _SECCOMP_FILTER, _ALLOW, _REFUSE = 22, 2, 0x7FFF0000, 0x00050000 | errno.ENOSYS
#: Operations of the kernel's packet filters.
_LOAD, _MASK, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_WHOLE, _TYPE = 0xFFFFFFFF, 0xFF00  # masks: of a whole argument, of the letter of an ioctl
#: The system calls that the filter refuses, with their numbers by architecture (-1: it has no such call): `_ALWAYS` in
#: every case, `_WHERE` if an argument (its position, its mask, the comparison, the value) has an effect that stays.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # audit numbers
_ALWAYS = {
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "mincore": (27, 232),
    "fadvise64": (221, 223), "readahead": (187, 213), "cachestat": (451, 451), "io_uring_setup": (425, 425),
    "io_setup": (206, 0),  # it can read with RWF_NOWAIT, as preadv2 below
    "syslog": (103, 116), "inotify_init": (253, -1), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    "perf_event_open": (298, 241), "bpf": (321, 280), "setns": (308, 268), "fsopen": (430, 430),
    # An open file that is sent over a socket, which is itself sent over that socket, outlives all processes, with its
    # locks. The kernel then keeps both until a socket of any process is closed.
    "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "openat2": (437, 437),  # RESOLVE_CACHED: whether somebody has asked for a name, also for one that does not exist
    "process_madvise": (440, 440), "move_pages": (279, 239), "migrate_pages": (256, 238),  # as madvise and mbind below
    "file_setattr": (469, 469),  # as ioctls of flags below
    "ptrace": (101, 117),  # of a thread that is traced: SIGSTOP stops this one alone (see `seal`)
    "clone3": (435, 435),  # its flags cannot be seen here; the C library then takes clone
}  # fmt: skip
_OTHER_SOCKETS = (  # than AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, which the namespaces confine
    *((0, _WHOLE, _EQUAL, family) for family in (*range(3, 10), *range(11, 16))), (0, _WHOLE, _AT_LEAST, 17),
    # than plain ones, TCP and UDP: others load a module, such as SCTP, DCCP or a family of generic netlink
    (1, 0xF, _AT_LEAST, 6),
    *((2, _WHOLE, _EQUAL, protocol) for protocol in (*range(2, 6), *range(7, 17))), (2, _WHOLE, _AT_LEAST, 18),
)  # fmt: skip
_NAMESPACE = ((0, 0x7E020000, _AT_LEAST, 1),)  # in one of its own, a process may load modules of the kernel
_WHERE = {
    "preadv2": ((327, 286), ((5, 8, _AT_LEAST, 1),)),  # RWF_NOWAIT: shows whether a page is in memory
    "madvise": ((28, 233), tuple((2, _WHOLE, _EQUAL, advice) for advice in (20, 21, 25))),  # COLD, PAGEOUT, COLLAPSE
    "mbind": ((237, 235), ((5, 6, _AT_LEAST, 1),)),  # moves pages of files to another memory node, where they stay
    "fallocate": ((285, 47), ((1, _WHOLE, _AT_LEAST, 1),)),  # FALLOC_FL_KEEP_SIZE: fills a disk beyond RLIMIT_FSIZE
    "socket": ((41, 198), _OTHER_SOCKETS),
    "socketpair": ((53, 199), _OTHER_SOCKETS),
    "unshare": ((272, 97), _NAMESPACE),
    "clone": ((56, 220), _NAMESPACE),
    # F_SETLEASE and F_NOTIFY: who opens a file; from F_GET_RW_HINT on: a hint that stays with the file
    "fcntl": ((72, 25), ((1, _WHOLE, _EQUAL, 1024), (1, _WHOLE, _EQUAL, 1026), (1, _WHOLE, _AT_LEAST, 1035))),
    # flags, keys and checksums of files and file systems; of sockets, what loads the modules of bridges and VLANs
    "ioctl": (
        (16, 29),
        (
            *((1, _TYPE, _EQUAL, ord(letter) << 8) for letter in "fvX"),
            *((1, _WHOLE, _EQUAL, number) for number in (0x8940, 0x8941, 0x8982, 0x8983, *range(0x89A0, 0x89A4))),
        ),
    ),
}
PRIVATE_BYTES = 1 << 30  # size of the private temporary folder, and of each file that a system writes


def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int | None = None) -> None:
    """On Linux, ask the kernel to kill this process when its parent ends. parent: the id that the parent had."""
    if sys.platform != "linux":
        return
    libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # the parent has already ended
        os._exit(1)


def landlock_version() -> int:
    """Version of the kernel's Landlock. 0: there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, libc().syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1))


def unshare() -> list[str]:
    """Leave the user, mount, IPC, network and PID namespaces. Returns the names of those that were left.

    The new PID namespace applies to the next child.
    """
    if sys.platform != "linux":
        return []
    uid, gid, done = os.getuid(), os.getgid(), []
    if libc().unshare(_NEWUSER) == 0:
        done.append("user")
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
        for name, number in (("uid_map", uid), ("gid_map", gid)):
            with contextlib.suppress(OSError):
                Path(f"/proc/self/{name}").write_text(f"{number} {number} 1")
    return done + [name for name, flag in _NAMESPACES.items() if libc().unshare(flag) == 0]


def hide_files(private: Path, needed: Iterable[Path], secret: Iterable[Path] = ()) -> bool:
    """In a separate mount namespace, make every file system read-only, and `private`, the shared folders and the
    `secret` folders empty and private.

    Landlock prevents that a secret file is opened; this also hides its name, size and times. A folder that contains a
    path of `needed` stays as it is. Returns False if the kernel refused.
    """
    here = libc()
    if here.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        return False
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    read_only = here.syscall(_SYS_MOUNT_SETATTR, -100, b"/", _AT_RECURSIVE, attributes, ctypes.c_size_t(32)) == 0
    shared = [path for path in map(Path, ("/tmp", "/var/tmp", "/run", "/dev/shm")) if not path.is_symlink()]
    above = {place for path in needed for place in (path, *path.parents)}
    hidden = {path for path in (*shared, *(one.resolve() for one in secret)) if path.is_dir()} - above
    outermost = [path for path in sorted(hidden) if not hidden.intersection(path.parents)]
    for path in [*outermost, private]:
        if path == private:  # it may have been in one of the others
            path.mkdir(parents=True, exist_ok=True)
        options = f"size={PRIVATE_BYTES if path == private else 1 << 20}".encode()
        flags = _MS_NOSUID | _MS_NODEV
        if here.mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, options) != 0:
            return False
    # Some containers refuse it. A mode that root gives to a file there, such as /proc/uptime, would stay for all.
    here.mount(b"proc", b"/proc", b"proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, None)
    return read_only


def drop_privileges() -> None:
    """Give up all capabilities, for good."""
    libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    number = _SYS_CAPSET.get(os.uname().machine)
    if number is not None:
        libc().syscall(number, struct.pack("Ii", 0x20080522, 0), b"\0" * 24)


def landlock(read: Iterable[Path], listed: Iterable[Path], write: Iterable[Path]) -> bool:
    """From now on this process can open only paths below `read` (for reading), `listed` (only to list folders) and
    `write`.

    Returns False if the kernel has no Landlock.
    """
    version = landlock_version()
    if not version:
        return False
    handled = (1 << (16 if version >= 5 else 15 if version >= 3 else 14 if version >= 2 else 13)) - 1
    attributes = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    here = libc()
    ruleset = here.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    rules = [(path, _READ_FILE | _READ_DIR | _EXECUTE) for path in read]
    rules += [(path, _READ_DIR) for path in listed]
    rules += [(path, handled) for path in write]
    for path, access in rules:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # it does not exist
        own = access & handled & (-1 if path.is_dir() else _OF_FILES)
        if own:
            here.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", own, handle), 0)
        os.close(handle)
    done = here.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and here.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return done


def seccomp() -> bool:
    """From now on the kernel refuses the system calls in `_ALWAYS` and `_WHERE` with ENOSYS, and all calls of another
    architecture.

    `drop_privileges` must come before. Returns False if there is no such filter.
    """
    machine = os.uname().machine if sys.platform == "linux" else ""
    if machine not in _ARCHITECTURES:
        return False
    column = list(_ARCHITECTURES).index(machine)
    refuse = (_RETURN, 0, 0, _REFUSE)
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), refuse, (_LOAD, 0, 0, 0)]
    program += [(_AT_LEAST, 0, 1, 0x40000000), refuse]  # the same calls have other numbers in x32
    for numbers in _ALWAYS.values():
        if numbers[column] >= 0:
            program += [(_EQUAL, 0, 1, numbers[column]), refuse]
    for numbers, rules in _WHERE.values():
        program.append((_EQUAL, 0, 4 * len(rules) + 1, numbers[column]))
        for place, mask, comparison, value in rules:
            program += [(_LOAD, 0, 0, 16 + 8 * place), (_MASK, 0, 0, mask), (comparison, 0, 1, value), refuse]
        program.append((_RETURN, 0, 0, _ALLOW))
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    whole = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    return libc().prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, whole, 0, 0) == 0


def without(paths: Iterable[Path], secrets: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """`paths` without `secrets` and everything below them. Returns the paths that may be read, and the folders that may
    be listed.

    A folder that contains a secret is replaced by its other children. There is no shorter way, because Landlock can
    only add rights.
    """
    hidden = {path.resolve() for path in secrets}
    above = {parent for path in hidden for parent in path.parents}
    readable: list[Path] = []
    listed: list[Path] = []
    pending = [path.resolve() for path in paths]
    seen: set[Path] = set()
    while pending:
        path = pending.pop()
        if path in seen or path in hidden or hidden.intersection(path.parents):
            continue
        seen.add(path)
        if path not in above:
            readable.append(path)
            continue
        listed.append(path)
        with contextlib.suppress(OSError):
            pending += [child.resolve() for child in path.iterdir()]
    return readable, listed
