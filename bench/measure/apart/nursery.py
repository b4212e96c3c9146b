"""The process from which all processes of systems are forked. It has imported torch and systems of the bench, and
knows nothing else.

`nursery_client.Home` starts it as a fresh Python, so it never held a picture, a salt, or code of a third party. It
reads orders from its clients' sockets. An order is a JSON text with three file descriptors: the socket of the call, a
socket to B, and a file for the output of the system. For each order:

    nursery -> A (leaves the namespaces) -> B (first process of the new tree) -> C (confined, runs the system)

B seals C when the harness asks for it (`seal`), and tells how C ended.

C ends with its call. Then B ends, and all processes that C may have started end with B. SIGTERM to A ends all of them,
and A ends last: its end of the socket to B closes when no process of the call is left. (B and C close their files
before the kernel has taken back their memory. A process that is slow to die still holds locks on files, which the next
one could read.)
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench.measure.apart import confine, seal
from bench.measure.apart.ahead import import_ahead
from bench.measure.apart.large_pages import use_large_pages
from systems.hidden_entry_points import hide_entry_points

ORDER_BYTES = 1 << 20


#: Variables that name a folder to write in. torch sets the one of its compiler when the harness imports it.
_FOLDERS = (
    "TMPDIR", "TEMP", "TMP", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
)  # fmt: skip


def main(handle: int, parent: int) -> None:
    """Serve until the first client closes its socket. handle: descriptor of this socket. parent: id of the harness's
    process.
    """
    confine.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    import systems.weight_files  # noqa: F401  (every system's process needs it)
    from bench.measure.apart import child  # noqa: F401
    from bench.measure.streams import stream

    torch.set_num_threads(1)
    with stream(0, "cpu"):
        _rehearse(torch)
    gc.collect()
    gc.freeze()  # else a collection in a child would write to all objects, and so copy the memory that holds them
    use_large_pages()
    first = socket.socket(fileno=handle)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-apart-") as folder:
            os.chmod(folder, 0o700)
            _serve(first, Path(folder))
    except OSError as error:  # no place for temporary files: the harness says so, in one line
        with contextlib.suppress(OSError):
            first.send(json.dumps({"error": error.strerror or str(error)}).encode())
    os._exit(0)  # nothing is left to do, and a command that ends waits for this process


def _rehearse(torch: Any) -> None:
    """Make libraries read now the files that they would read at first use, because a sealed process cannot."""
    for name in ("ma", "fft", "linalg", "polynomial", "random"):
        importlib.import_module(f"numpy.{name}")
    x = torch.ones(1, 4, 8, 8)
    torch.nn.functional.conv2d(x, torch.ones(4, 4, 3, 3))
    torch.nn.functional.conv_transpose2d(x, torch.ones(4, 4, 2, 2))
    torch.nn.functional.scaled_dot_product_attention(x, x, x)
    torch.nn.functional.interpolate(x, 4)
    torch.linalg.qr(torch.fft.fft2(x))
    torch.randn(8).softmax(0).sort()
    repr(x)  # also of a system that prints it
    torch.save(x, io.BytesIO())


def _serve(first: socket.socket, folder: Path) -> None:
    """Carry out the orders of all clients until the first one closes its socket. folder: for temporary files."""
    clients, known = [first], set[seal.Mapping]()
    while True:
        ready, _, _ = select.select(clients, [], [], 1.0)
        _reap()
        for client in ready:
            data, handles = _order(client)
            if not data:
                clients.remove(client)
                client.close()
                if client is first:
                    return
                continue
            order = json.loads(data)
            if order.get("client"):
                clients += [socket.socket(fileno=one) for one in handles]
                continue
            answer: dict[str, Any]
            import_ahead([order["module"]])
            try:
                if order["seal"]:  # its child would read these files for each call
                    known.update(_read_own(known))
                answer = {"pid": _fork(order, handles, clients, folder, known)}
            except OSError as error:  # no memory, or too many processes
                answer = {"error": error.strerror or str(error)}
            for one in handles:
                os.close(one)
            with contextlib.suppress(OSError):
                client.send(json.dumps(answer).encode())


def _order(client: socket.socket) -> tuple[bytes, list[int]]:
    handles = array.array("i")
    try:
        data, ancillary, _, _ = client.recvmsg(ORDER_BYTES, socket.CMSG_SPACE(4 * handles.itemsize))
    except OSError:
        return b"", []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            handles.frombytes(content[: len(content) - len(content) % handles.itemsize])
    return data, list(handles)


def _read_own(known: Collection[seal.Mapping]) -> list[seal.Mapping]:
    """Read the files that this process has mapped since it read those of `known`. Returns what was read."""
    new = [one for one in seal.mapped_files() if one not in known]
    with contextlib.suppress(seal.Refused):
        seal.read_files(new)
        return new
    return []


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(
    order: dict[str, Any],
    handles: list[int],
    clients: list[socket.socket],
    folder: Path,
    known: Collection[seal.Mapping],
) -> int:
    """Start A (see the top of the module). Returns its process id."""
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:  # this is A; from here on it must never return to the nursery's code
        for client in clients:
            client.close()
        os.setsid()
        confine.die_with_parent(nursery)
        left = confine.unshare() if order["confine"] else []
        parent, inner = os.getpid(), 0

        def end(*_: Any) -> None:
            if not inner:
                os._exit(0)
            # Without a PID namespace nothing ends C with B, so B must end it first.
            os.kill(inner, signal.SIGKILL if "pid" in left else signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        inner = os.fork()
        if inner:
            call, _, output = handles
            os.close(call)
            os.close(output)
            os.waitpid(inner, 0)  # of a PID namespace's first process: returns when all others have gone
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        confine.die_with_parent(None if "pid" in left else parent)
        _first_process(order, handles, folder, left, known)
    except BaseException:
        os._exit(70)
    os._exit(0)


def _first_process(
    order: dict[str, Any], handles: list[int], folder: Path, left: list[str], known: Collection[seal.Mapping]
) -> None:
    """B: mount the file systems of the call, start C, seal it when asked, wait for it, and write how it ended."""
    call, told, output = handles
    os.setsid()  # a process can signal its own group, also the members outside its PID namespace: A must not be one
    measures, private = list(left), folder / os.urandom(8).hex()
    if order["confine"]:
        needed, secret = (
            [Path(path) for path in paths] for paths in (order["read"] + order["listed"], order["secret"])
        )
        if "mount" in left and not confine.hide_files(folder, needed, secret):
            measures.remove("mount")
    if "mount" in measures:
        private = folder  # it is of this call alone
    else:
        private.mkdir(mode=0o700)
    # Some containers give no /proc of its own: then it would show all processes, under other numbers.
    sealable = order["seal"] and {"mount", "pid"} <= set(measures) and os.readlink("/proc/self") == str(os.getpid())
    sealable = sealable and seal.own_root(folder / "root")
    first, (wake, waker) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for one in (told, wake, waker):
                os.close(one)
            confine.die_with_parent(first)
            _run(order, call, output, private, measures)
        except BaseException:
            os._exit(70)
        os._exit(0)

    def end(*_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    own = [(found.st_dev, found.st_ino) for found in map(os.fstat, (call, output))]
    os.close(call)
    os.close(output)
    asked = [told]
    while (status := _ended(pid)) is None:
        ready, _, _ = select.select([wake, *asked], [], [])
        if wake in ready:
            os.read(wake, 1 << 10)
        elif told in ready:
            if not os.read(told, 1):
                asked.clear()  # the harness has ended: so will this process
                continue
            try:
                if sealable:
                    seal.seal(pid, private, known, own)
                _tell(told, {"sealed": sealable})
            except seal.Refused as error:
                _tell(told, {"refused": str(error)})
            except seal.Ended as error:
                status = error.status
                break
            except OSError as error:  # such as too few open files: it can set the limits of its parent
                _tell(told, {"refused": f"it cannot be looked at ({error.strerror})"})
    _tell(told, {"code": os.waitstatus_to_exitcode(status)})
    if private.exists():
        import shutil

        shutil.rmtree(private, ignore_errors=True)
    os._exit(0)


def _ended(pid: int) -> int | None:
    """Reap the processes that have ended. Returns the status of `pid` if it is among them, as `os.waitpid` gives it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == pid:
                return status
            if not ended:
                return None
    return None


def _tell(told: int, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(told, json.dumps(answer).encode() + b"\n")


def _run(order: dict[str, Any], call: int, output: int, private: Path, measures: list[str]) -> None:
    """C: confine this process further, then serve the system. It may write in the folder `private`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What it prints goes to a file of the machine, and a full disk would end the run of all systems.
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    most = confine.PRIVATE_BYTES if most == resource.RLIM_INFINITY else min(most, confine.PRIVATE_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    kept = {0, 1, 2, call}
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else map(str, range(3, 256)):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    sys.path[:] = order["path"]
    os.environ.clear()
    os.environ.update(order["environment"], OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    for name in _FOLDERS:
        os.environ[name] = str(private)
    tempfile.tempdir = None
    if order["confine"]:
        read, listed, write = ([Path(path) for path in order[key]] for key in ("read", "listed", "write"))
        own = [Path("/proc/self"), Path(f"/proc/{os.getpid()}"), Path("/proc/self/task")]
        os.chdir(private)
        if confine.landlock([*read, *own], listed, [private, *write]):
            measures.append("landlock")
        confine.drop_privileges()
        if confine.seccomp():
            measures.append("seccomp")
    from bench.measure.apart.child import serve

    hide_entry_points(order["module"].partition(".")[0])
    serve(socket.socket(fileno=call), measures)
