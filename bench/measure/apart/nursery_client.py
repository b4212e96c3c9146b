"""The nursery of this process (`Home`), and the processes that it starts (`Call`), as the harness sees them.

`bench.measure.apart.remote` sends its requests through it. `nursery` is the program of the nursery, `child` that of a
system's process.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from bench.measure.apart import wire
from bench.measure.apart.readable_files import Sight
from bench.measure.apart.variables import passed
from bench.util.devices import THREAD_VARIABLES
from bench.util.files import shown
from systems.errors import AuditError, UserError

OUTPUT_BYTES = 100_000  # of the output of a process, at most, that are kept
END_SECONDS = 600.0  # the longest wait for the end of a process, whose memory the kernel takes back
_START = (
    "import json, sys; handle, parent, path = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from bench.measure.apart.nursery import main; main(handle, parent)"
)
#: Seconds in which a system must be imported and built when it describes itself. The variable gives another limit.
BUILD_SECONDS, BUILD_VARIABLE = 60.0, "BENCH_BUILD_SECONDS"
#: The advice if a system lacks a file that was taken away. Errors about such a file begin with one of `_NO_FILE`.
SEALED = (
    "before a system is given data, all files are taken away from its process: read files and import modules in "
    "__init__, or set opens_files = True"
)
_NO_FILE = (
    "FileNotFoundError",
    "PermissionError",
    "OSError",
    "ModuleNotFoundError",
    "ImportError",
    "NotADirectoryError",
)
_LONGEST = 86_400.0  # of build_seconds: a day
_LINUX = sys.platform == "linux"
_shared: dict[str, Any] = {}


class RemoteFailure(RuntimeError):
    """A system failed in its process. The message is one line. `traceback`: that of the process, or ""."""

    def __init__(self, line: str, trace: str = ""):
        super().__init__(line)
        self.traceback = trace


class TooLate(RemoteFailure):
    """A system gave no answer before the deadline of its cell."""


def build_seconds() -> float:
    """Seconds that a system may take to be imported and built. Raises UserError if the variable holds none."""
    text = os.environ.get(BUILD_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else BUILD_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise UserError(f"{BUILD_VARIABLE} is {text[:60]!a}: give seconds above 0, at most {_LONGEST:.0f}, or unset it")
    return seconds


def _interpreter() -> str:
    """The program that starts Python again, even if its path leads through a folder that this user may not enter."""
    reachable = os.access(sys.executable, os.X_OK) or not os.path.exists("/proc/self/exe")
    return sys.executable if reachable else "/proc/self/exe"


class Home:
    """A nursery, or another socket to one. It needs `os.fork` and descriptors sent over sockets: Linux or macOS."""

    def __init__(self, connection: socket.socket, process: subprocess.Popen | None = None):
        self.connection, self.process = connection, process

    @classmethod
    def start(cls) -> Home:
        """Start a new nursery. It ends when its first socket closes. Raises UserError on other operating systems."""
        if not hasattr(os, "fork"):
            raise UserError(
                "systems of third parties run in confined processes, which need Linux or macOS; use one of these"
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if _LINUX else socket.SOCK_DGRAM)
        told = json.dumps([theirs.fileno(), os.getpid(), [entry or os.getcwd() for entry in sys.path]])
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, told],  # -P: no module of the working folder
            executable=_interpreter(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**passed(os.environ), **dict.fromkeys(THREAD_VARIABLES, "1")},
        )
        theirs.close()
        return cls(ours, process)

    @classmethod
    def shared(cls) -> Home:
        """The nursery of this process. It is started when it is first needed."""
        if _shared.get("process") != os.getpid():  # a forked worker must not use its parent's socket
            cls.share(cls.start())
        return _shared["home"]

    @classmethod
    def share(cls, home: Home) -> None:
        """Make `home` the nursery of this process."""
        _shared.update(process=os.getpid(), home=home)

    def client(self) -> socket.socket:
        """Another socket to the same nursery, for another process of the harness."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if _LINUX else socket.SOCK_DGRAM)
        with theirs:
            self._surely(lambda: _send(self.connection, {"client": True}, [theirs.fileno()]))
        return ours

    def open(self, sight: Sight, seal: bool = False) -> Call:
        """Start a new confined process. seal: it can be sealed later. Raises UserError if no nursery can be started."""
        return self._surely(lambda: self._open(sight, seal))

    def _surely(self, work: Callable[[], Any]) -> Any:
        """Do `work`, and if the nursery has ended (killed, out of memory), once more with a new one.

        Raises UserError if the new one has ended too.
        """
        try:
            return work()
        except ConnectionError:
            self.restart()
        try:
            return work()
        except ConnectionError as error:
            raise UserError(
                f"the process that systems' processes are forked from ends at once ({error.strerror}); "
                "free some memory, or take fewer --workers"
            ) from None

    def restart(self) -> None:
        """Start a new nursery, owned by this process, in the place of one that has ended."""
        self.close()
        new = type(self).start()
        self.connection, self.process = new.connection, new.process

    def _open(self, sight: Sight, seal: bool) -> Call:
        """Start a new confined process. Raises ConnectionError if the nursery has ended."""
        try:
            handle, name = tempfile.mkstemp(prefix="bench-output-")
        except OSError as error:
            raise UserError(
                f"no temporary file can be made for the output of a system ({error.strerror or error}); free some "
                "space, or set TMPDIR to a folder that can be written"
            ) from None
        output_w = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.unlink(name)
        ours, theirs = socket.socketpair()
        first, first_theirs = socket.socketpair()
        order = {
            "confine": _LINUX, "path": sight.path, "read": sight.read, "listed": sight.listed, "write": sight.write,
            "secret": sight.secret, "module": sight.module, "seal": seal and _LINUX, "environment": passed(os.environ),
        }  # fmt: skip
        try:
            _send(self.connection, order, [theirs.fileno(), first_theirs.fileno(), output_w])
            answer = self.connection.recv(1 << 16)
            if not answer:
                raise ConnectionResetError(errno.ECONNRESET, "its socket is closed")
            told = json.loads(answer)
            if "error" in told:
                raise UserError(
                    f"no process for a system can be started ({told['error']}); free memory or temporary space, or "
                    "take fewer --workers"
                )
            return Call(ours, first, handle, told["pid"])
        except BaseException:
            ours.close()
            first.close()
            os.close(handle)
            raise
        finally:
            theirs.close()
            first_theirs.close()
            os.close(output_w)

    def measures(self, seal: bool = False) -> list[str]:
        """The measures that confine systems' processes on this machine: names of `bench.measure.apart.confine`.

        seal: also "seal" if processes can be sealed. To try it, all libraries are read, which may take seconds.
        """
        call = self.open(Sight([], [], [], ["/dev/null"]), seal)
        try:
            deadline = time.monotonic() + build_seconds()
            names = [str(name) for name in call.ask("measures", deadline)]
            return [*names, "seal"] if seal and call.seal(deadline) else names
        except (RemoteFailure, TimeoutError, wire.WireError) as error:
            raise UserError(
                f"no process for systems can be started on this machine ({error or 'no answer'}); free memory or "
                "temporary space"
            ) from None
        finally:
            call.close()

    def close(self) -> None:
        """Close the socket, and end the nursery if this object started it."""
        self.connection.close()
        if self.process is not None:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def _close_shared() -> None:
    """Close this process's nursery, which then removes its temporary folder. A forked process leaves its parent's."""
    if _shared.get("process") == os.getpid():
        with contextlib.suppress(KeyboardInterrupt, OSError):
            _shared["home"].close()
        _shared.clear()


atexit.register(_close_shared)


def _send(connection: socket.socket, message: dict, handles: list[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))]
    connection.sendmsg([json.dumps(message).encode()], ancillary)


class Call:
    """One process of a system, from its start to its end.

    connection: to the process. first: to the first process of the call, which seals it and tells how it ended (see
    `nursery`). output: the file of what it prints. pid: of the process that ends last.
    """

    def __init__(self, connection: socket.socket, first: socket.socket, output: int, pid: int):
        self.connection, self.first, self.output, self.pid = connection, first, output, pid
        self.open, self.sealed = True, False

    def ask(self, operation: str, deadline: float | None = None, **arguments: Any) -> Any:
        """Send one request and return the answer.

        deadline: a time of `time.monotonic`. Raises UserError, AuditError and RemoteFailure as the process reports
        them, TimeoutError after the deadline, and WireError for an answer that is no message. Control characters in
        their texts become escapes: on a terminal they could write over the results above.
        """
        try:
            wire.send(self.connection, wire.pack({"op": operation, **arguments}))
            body = wire.receive(self.connection, deadline)
        except TimeoutError:
            self.close()
            raise
        except OSError:
            body = None
        if body is None:
            raise RemoteFailure(self._post_mortem())
        answer = wire.unpack(body)
        if not isinstance(answer, dict) or not answer.keys() & {"value", "error"}:
            raise wire.WireError(wire.NO_MESSAGE)
        if "value" in answer:
            return answer["value"]
        told = answer["error"]
        if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
            raise wire.WireError(wire.NO_MESSAGE)
        line = shown(told.get("line", ""), 500) or "no message"
        if told.get("kind") == "user":
            raise UserError(line)
        if told.get("kind") == "audit":
            raise AuditError(line)
        if self.sealed and line.startswith(_NO_FILE):
            line += f" ({SEALED})"
        elif "PermissionError" in line or "Read-only file system" in line:
            line += " (a system may read installed packages, its own package and --checkpoint, and may write no file)"
        raise RemoteFailure(line, "\n".join(shown(one, 2000) for one in told.get("traceback", "").split("\n")))

    def seal(self, deadline: float | None = None) -> bool:
        """Take all files away from the process, for good. Returns False if the kernel cannot do this.

        deadline: a time of `time.monotonic`. Raises RemoteFailure if the process holds a file, or has ended, and
        TimeoutError after the deadline.
        """
        with contextlib.suppress(OSError):  # it has ended, which its answer tells
            self.first.send(b"s")
        told = self._told(deadline)
        if "refused" in told:
            raise RemoteFailure(f"{shown(str(told['refused']), 300)} ({SEALED})")
        if "sealed" not in told:
            raise RemoteFailure(_end(told))
        self.sealed = bool(told["sealed"])
        return self.sealed

    def _told(self, deadline: float | None) -> dict[str, Any]:
        """The next line of the first process. {}: it has ended without one. Raises TimeoutError."""
        line = b""
        while not line.endswith(b"\n"):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self.first], [], [], left)[0]:
                raise TimeoutError
            one = self.first.recv(1)
            if not one:
                return {}
            line += one
        told = json.loads(line)
        return told if isinstance(told, dict) else {}

    def _post_mortem(self) -> str:
        try:
            return _end(self._told(time.monotonic() + 5))
        except TimeoutError:
            return _end({})

    def close(self) -> str:
        """End the process and everything that it started, and wait for it. Returns the last part of its output, with
        control characters as escapes.

        Raises TooLate after `END_SECONDS`.
        """
        if not self.open:
            return ""
        self.open = False
        self.connection.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)
        ended = self._ended()
        self.first.close()
        printed = b""
        with contextlib.suppress(OSError):
            size = os.lseek(self.output, 0, os.SEEK_END)
            os.lseek(self.output, max(0, size - OUTPUT_BYTES), os.SEEK_SET)
            printed = os.read(self.output, OUTPUT_BYTES)
        os.close(self.output)
        if not ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)
            raise TooLate(f"the system's process has not ended after {END_SECONDS:g} s")
        lines = printed.decode("utf-8", "backslashreplace").expandtabs().split("\n")
        return "\n".join(shown(line, OUTPUT_BYTES) for line in lines)  # a terminal may show them

    def _ended(self) -> bool:
        """Wait until all processes of the call have ended. Until then, others can see what they hold, such as locks."""
        deadline = time.monotonic() + END_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self.first], [], [], left)
            if ready and not self._rest():
                return True
        return False

    def _rest(self) -> bytes:
        try:
            return self.first.recv(1 << 10)
        except OSError:
            return b""


def _end(told: dict[str, Any]) -> str:
    """How a process ended, in words. told: the line of the first process."""
    try:
        code = int(told["code"])
    except (KeyError, TypeError, ValueError):
        return "the system's process ended without an answer"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"the system's process was killed by {name}"
    return f"the system's process ended with code {code}"
