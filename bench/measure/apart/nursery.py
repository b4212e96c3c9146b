"""The process from which all processes of systems are forked. It has imported torch and systems of the bench, and
knows nothing else.

`nursery_client.Home` starts it as a fresh Python, so it never held a picture, a salt, or code of a third party. It
reads orders from its clients' sockets. An order is a JSON text with three file descriptors: the socket of the call, a
pipe for how the process ended, and a pipe for the output of the system. For each order:

    nursery -> A (leaves the namespaces) -> B (first process of the new tree) -> C (confined, runs the system)

C ends with its call. Then B ends, and all processes that C may have started end with B. SIGTERM to A ends all of them,
and A ends last: its end of the status pipe closes when no process of the call is left. (B and C close their files
before the kernel has taken back their memory. A process that is slow to die still holds locks on files, which the next
one could read.)
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure.apart import confine
from bench.measure.apart.ahead import import_ahead

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

    torch.set_num_threads(1)
    first = socket.socket(fileno=handle)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-apart-") as folder:
            os.chmod(folder, 0o700)
            _serve(first, Path(folder))
    except OSError as error:  # no place for temporary files: the harness says so, in one line
        with contextlib.suppress(OSError):
            first.send(json.dumps({"error": error.strerror or str(error)}).encode())
    os._exit(0)  # nothing is left to do, and a command that ends waits for this process


def _serve(first: socket.socket, folder: Path) -> None:
    """Carry out the orders of all clients until the first one closes its socket. folder: for temporary files."""
    clients = [first]
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
                answer = {"pid": _fork(order, handles, clients, folder)}
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


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(order: dict[str, Any], handles: list[int], clients: list[socket.socket], folder: Path) -> int:
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
        _first_process(order, handles, folder, left)
    except BaseException:
        os._exit(70)
    os._exit(0)


def _first_process(order: dict[str, Any], handles: list[int], folder: Path, left: list[str]) -> None:
    """B: start C, wait for it, and write how it ended."""
    call, status, output = handles
    private = folder / os.urandom(8).hex()  # of this call alone, where nothing is mounted over `folder`
    os.setsid()  # a process can signal its own group, also the members outside its PID namespace: A must not be one
    first = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(status)
            confine.die_with_parent(first)
            _run(order, call, output, folder, private, left)
        except BaseException:
            os._exit(70)
        os._exit(0)

    def end(*_: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    os.close(call)
    os.close(output)
    while True:
        try:
            ended, code = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        if ended == pid:
            with contextlib.suppress(OSError):
                os.write(status, json.dumps({"code": os.waitstatus_to_exitcode(code)}).encode())
            break
    if private.exists():
        import shutil

        shutil.rmtree(private, ignore_errors=True)
    os._exit(0)


def _run(order: dict[str, Any], call: int, output: int, folder: Path, private: Path, left: list[str]) -> None:
    """C: confine this process, then serve the system. It may write in `folder`, if a file system of its own can be
    mounted there, else in `private`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    measures = list(left)
    if order["confine"]:
        read, listed, write, secret = (
            [Path(path) for path in order[key]] for key in ("read", "listed", "write", "secret")
        )
        if "mount" in left and not confine.hide_files(folder, [*read, *listed], secret):
            measures.remove("mount")
    if "mount" in measures:
        private = folder
    else:
        private.mkdir(mode=0o700)
    for name in _FOLDERS:
        os.environ[name] = str(private)
    tempfile.tempdir = None
    if order["confine"]:
        own = [Path("/proc/self"), Path(f"/proc/{os.getpid()}"), Path("/proc/self/task")]
        os.chdir(private)
        if confine.landlock([*read, *own], listed, [private, *write]):
            measures.append("landlock")
        confine.drop_privileges()
        if confine.seccomp():
            measures.append("seccomp")
    from bench.measure.apart.child import serve

    serve(socket.socket(fileno=call), measures)
