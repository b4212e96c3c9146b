"""The harness's side of separate processes: the nursery (`Home`), and systems that run in its processes
(`RemoteSystem`).

`bench.sweep.worker` and `bench.spec.identity` call it.
"""

from __future__ import annotations

import array
import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.measure.apart import confine, wire
from bench.util.devices import THREAD_VARIABLES
from systems.errors import AuditError, UserError
from systems.interface import Decoded, Link, Received, System, Transmission

OUTPUT_BYTES = 100_000  # at most so much of what a process printed is kept
_START = (
    "import json, sys; handle, parent, path = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from bench.measure.apart.nursery import main; main(handle, parent)"
)
_SYSTEM_FILES = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/sys/devices/system", "/proc/cpuinfo",
    "/proc/meminfo", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom",
)  # fmt: skip
#: Folders of installed packages, wherever they are (a user's own, an environment below this one). All of their content
#: may be read, because shared libraries that packages need, such as pillow.libs, are beside the packages.
_INSTALLED = ("site-packages", "dist-packages")


class RemoteFailure(RuntimeError):
    """A system failed in its process. The message is one line. `traceback`: that of the process, or ""."""

    def __init__(self, line: str, trace: str = ""):
        super().__init__(line)
        self.traceback = trace


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
            raise UserError("systems of third parties run in processes of their own, which need Linux or macOS")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if _LINUX else socket.SOCK_DGRAM)
        told = json.dumps([theirs.fileno(), os.getpid(), [entry or os.getcwd() for entry in sys.path]])
        process = subprocess.Popen(
            [sys.executable, "-c", _START, told],
            executable=_interpreter(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
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
        _send(self.connection, {"client": True}, [theirs.fileno()])
        theirs.close()
        return ours

    def open(self, sight: Sight) -> Call:
        """Start a new confined process. Raises RemoteFailure if the nursery has ended."""
        ours, theirs = socket.socketpair()
        status_r, status_w = os.pipe()
        handle, name = tempfile.mkstemp(prefix="bench-output-")
        output_w = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.unlink(name)
        order = {
            "confine": _LINUX, "path": sight.path, "read": sight.read, "listed": sight.listed, "write": sight.write,
            "environment": dict(os.environ),
        }  # fmt: skip
        try:
            _send(self.connection, order, [theirs.fileno(), status_w, output_w])
            answer = self.connection.recv(1 << 16)
            if not answer:
                raise OSError
            return Call(ours, status_r, handle, json.loads(answer)["pid"])
        except (OSError, ValueError):
            ours.close()
            os.close(status_r)
            os.close(handle)
            raise RemoteFailure("the process that systems are forked from has ended") from None
        finally:
            theirs.close()
            os.close(status_w)
            os.close(output_w)

    def measures(self) -> list[str]:
        """The measures that confine systems' processes on this machine: names of `bench.measure.apart.confine`."""
        call = self.open(Sight([], [], [], ["/dev/null"]))
        try:
            return [str(name) for name in call.ask("measures", time.monotonic() + INSPECT_SECONDS)]
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


_LINUX = sys.platform == "linux"
_shared: dict[str, Any] = {}


def _send(connection: socket.socket, message: dict, handles: list[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))]
    connection.sendmsg([json.dumps(message).encode()], ancillary)


class Call:
    """One process of a system, from its start to its end."""

    def __init__(self, connection: socket.socket, status: int, output: int, pid: int):
        self.connection, self.status, self.output, self.pid = connection, status, output, pid
        self.open = True

    def ask(self, operation: str, deadline: float | None = None, **arguments: Any) -> Any:
        """Send one request and return the answer.

        deadline: a time of `time.monotonic`. Raises UserError, AuditError and RemoteFailure as the process reports
        them, TimeoutError after the deadline, and WireError for an answer that is no message.
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
            raise wire.WireError("its process answered with something that is no message")
        if "value" in answer:
            return answer["value"]
        told = answer["error"]
        line = str(told.get("line", "")) or "no message"
        if told.get("kind") == "user":
            raise UserError(line)
        if told.get("kind") == "audit":
            raise AuditError(line)
        if "PermissionError" in line or "Read-only file system" in line:
            line += " (a system's process reads installed packages, its own and --checkpoint, and writes nothing)"
        raise RemoteFailure(line, str(told.get("traceback", "")))

    def _post_mortem(self) -> str:
        ready, _, _ = select.select([self.status], [], [], 5)
        told = os.read(self.status, 1 << 10) if ready else b""
        try:
            code = int(json.loads(told)["code"])
        except (ValueError, KeyError, TypeError):
            return "its process ended without an answer"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"its process was killed by {name}"
        return f"its process ended with code {code}"

    def close(self) -> str:
        """End the process and everything that it started. Returns the last part of what it printed."""
        if not self.open:
            return ""
        self.open = False
        self.connection.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        select.select([self.status], [], [], 5)  # readable when all processes have ended
        os.close(self.status)
        printed = b""
        with contextlib.suppress(OSError):
            size = os.lseek(self.output, 0, os.SEEK_END)
            os.lseek(self.output, max(0, size - OUTPUT_BYTES), os.SEEK_SET)
            printed = os.read(self.output, OUTPUT_BYTES)
        os.close(self.output)
        return printed.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Sight:
    """The files that a system's process may open.

    path: `sys.path` of the process.
    read: paths that it may read, with everything below.
    listed: folders that it may only list.
    write: paths that it may write, with everything below.
    """

    path: list[str]
    read: list[str]
    listed: list[str]
    write: list[str]

    @classmethod
    def of(cls, target: str, options: dict[str, Any], secrets: Iterable[Path] = (), device: str = "cpu") -> Sight:
        """The files for the system `target`: installed packages, its own package and its weights, without `secrets`."""
        path = [entry or os.getcwd() for entry in sys.path]
        roots = [Path(sys.prefix), Path(sys.base_prefix), *(Path(one) for one in sysconfig.get_paths().values())]
        wanted = [Path(one) for one in _SYSTEM_FILES] + roots
        listed: list[Path] = []
        for entry in dict.fromkeys(map(Path, path)):
            if entry.is_file() or entry.name in _INSTALLED:
                wanted.append(entry)
            elif entry.is_dir() and not any(root == entry or root in entry.parents for root in roots):
                listed.append(entry)
                wanted += [child for child in entry.iterdir() if _is_code(child)]
        for package in ("bench", "systems", "baselines", "configs", target.partition(":")[0].partition(".")[0]):
            wanted += _files_of(package)
        checkpoint = options.get("checkpoint")
        if checkpoint not in (None, "shipped", "none"):
            wanted += [Path(str(checkpoint)), Path(str(checkpoint)).with_suffix(".json")]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        wanted += [Path(os.environ.get("HF_HOME") or cache / "huggingface"), cache / "torch"]
        write = [Path("/dev/null")]
        if device.startswith("cuda"):
            wanted += [Path("/proc"), Path("/sys")]
            write += list(Path("/dev").glob("nvidia*"))
        wanted = [one for one in wanted if one.exists()]
        known = {one.resolve() for one in wanted}
        hidden = [one for one in map(Path, secrets) if known.intersection([one.resolve(), *one.resolve().parents])]
        read, more = confine.without(wanted, hidden)
        listed += more
        return cls(path, [str(one) for one in read], [str(one) for one in listed], [str(one) for one in write])


def _is_code(path: Path) -> bool:
    return (
        path.suffix in (".py", ".so", ".zip", ".dist-info", ".egg-info", ".pyd", ".pth")
        or (path / "__init__.py").is_file()
    )


def _files_of(package: str) -> list[Path]:
    """The folder of a package, or the files beside a module. Nothing is imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(one) for one in spec.submodule_search_locations]
    if not spec.origin or not Path(spec.origin).is_file():
        return []
    return [child for child in Path(spec.origin).parent.iterdir() if child.is_file()]


class RemoteSystem(System):
    """A system whose every encoding and decoding runs in a new confined process.

    facts: as `inspect` returns them.
    columns: the columns of a report that the table has.
    printed: called with the text that a process printed. The attribute `deadline` is a time of `time.monotonic`; the
    worker sets it for each cell. At most one process of a system exists at a time: the encoder's ends before a
    decoder's starts.
    """

    joins_snr = False  # no batch may hold several observations of a picture: a real receiver has only one

    def __init__(
        self,
        home: Home,
        name: str,
        target: str,
        options: dict[str, Any],
        facts: dict[str, Any],
        sight: Sight,
        columns: Sequence[str],
        device: str = "cpu",
        printed: Callable[[str], None] = lambda text: None,
    ):
        super().__init__(name)
        self.home, self.target, self.given, self.sight = home, target, options, sight
        self.columns, self.device, self.printed = list(columns), device, printed
        self.variant, self.bits_per_use = facts["variant"], facts["bits_per_use"]
        self.encoder_sees_snr = bool(facts["encoder_sees_snr"])
        self.genie = bool(facts.get("genie"))
        self.deadline: float | None = None
        self.measures: list[str] = []
        self._encoder: Call | None = None
        self._overhead = 0.0

    def prepare(self, images: Tensor, link: Link) -> Callable[[Link], Transmission]:
        """See `System.prepare`. images: float32 (B, 3, H, W) in [0, 1].

        The process of the first step waits for the second step, unless a decoding comes in between.
        """
        seed = _seed()
        self._prepare(images, link, seed)
        mine = self._encoder

        def send(at: Link) -> Transmission:
            nonlocal mine
            if mine is None or not mine.open or mine is not self._encoder:
                self._prepare(images, link, seed)
                mine = self._encoder
            assert mine is not None  # `_prepare` made it
            return self._transmission(self._asked(mine, "send", link=at, seed=_seed()), len(images))

        return send

    def encode(self, images: Tensor, link: Link) -> Transmission:
        """See `System.encode`. images: float32 (B, 3, H, W) in [0, 1]. Raises RemoteFailure and WireError."""
        self.rest()
        call = self._open()
        try:
            return self._transmission(self._asked(call, "encode", images=images, link=link, seed=_seed()), len(images))
        finally:
            self._close(call)

    def decode(self, received: Received, link: Link) -> Decoded:
        """See `System.decode`. Symbols (B, n) -> pictures (B, 3, H, W) or logits (B, 21, H, W). Raises RemoteFailure
        and WireError.
        """
        self.rest()
        call = self._open()
        try:
            told = self._asked(call, "decode", received=received, link=link, seed=_seed())
            _note_draws(told)
            return Decoded(told["output"].to(received.symbols.device), _report(told, len(received.symbols)))
        except (KeyError, AttributeError, TypeError):
            raise wire.WireError("its process answered with something that is no message") from None
        finally:
            self._close(call)

    def rest(self) -> None:
        """End the encoder's process, if one is waiting."""
        if self._encoder is not None:
            self._close(self._encoder)
            self._encoder = None

    def take_overhead(self) -> float:
        """Seconds that starting processes and building systems took since the last call: no cost of the system's."""
        taken, self._overhead = self._overhead, 0.0
        return taken

    def _prepare(self, images: Tensor, link: Link, seed: int) -> None:
        self.rest()
        self._encoder = self._open()
        _note_draws(self._asked(self._encoder, "prepare", images=images, link=link, seed=seed))

    def _open(self) -> Call:
        start = time.perf_counter()
        call = self.home.open(self.sight)
        try:
            told = self._asked(call, "build", target=self.target, name=self.name, options=self.given,
                               device=self.device, columns=self.columns)  # fmt: skip
        except BaseException:
            self._close(call)
            raise
        self.measures = list(told["measures"])
        self._overhead += time.perf_counter() - start
        return call

    def _asked(self, call: Call, operation: str, **arguments: Any) -> Any:
        try:
            return call.ask(operation, self.deadline, **arguments)
        except TimeoutError:
            raise RemoteFailure("no answer within the time limit of a cell (--cell-timeout)") from None

    def _close(self, call: Call) -> None:
        printed = call.close()
        if printed:
            self.printed(printed)

    def _transmission(self, told: Any, batch: int) -> Transmission:
        try:
            _note_draws(told)
            return Transmission(
                told["symbols"], told["side_info"], _report(told, batch), side_info_snr_db=told["side_info_snr_db"]
            )
        except (KeyError, AttributeError, TypeError):
            raise wire.WireError("its process answered with something that is no message") from None


def inspect(home: Home, name: str, target: str, options: dict[str, Any], build: bool = True) -> dict[str, Any]:
    """Ask a system about itself in a confined process.

    build: True: build the system and return what it says. False: only look at its class (tasks, options, learned).
    Raises UserError if the system cannot be loaded or built.
    """
    call = home.open(Sight.of(target, options))
    deadline = time.monotonic() + INSPECT_SECONDS
    try:
        if not build:
            return call.ask("look", deadline, target=target)
        return call.ask("build", deadline, target=target, name=name, options=options, device="cpu", columns=[])
    except TimeoutError:
        raise UserError(f"system {name!r}: {target} is not built after {INSPECT_SECONDS:.0f} s") from None
    except RemoteFailure as error:
        raise UserError(f"system {name!r}: cannot use {target} ({error})") from None
    finally:
        call.close()


INSPECT_SECONDS = 600.0


def _seed() -> int:
    """The seed that the harness set for this call. The system's process draws the same numbers
    as it would draw here.
    """
    return torch.initial_seed() % 2**63


def _note_draws(told: Any) -> None:
    """Count the draws of the process as draws here. `bench.measure.ends` then repeats the call,
    one picture at a time.
    """
    if isinstance(told, dict) and told.get("drew"):
        torch.rand(1)


def _report(told: dict[str, Any], batch: int) -> dict[str, list]:
    report = told["report"]
    if not isinstance(report, dict):
        raise TypeError
    for key, values in report.items():
        if not isinstance(values, list) or any(isinstance(value, (list, dict, Tensor)) for value in values):
            raise RemoteFailure(f"report {key!r} must be a list with one number or text per picture")
        if len(values) != batch:
            raise RemoteFailure(f"report {key!r} has {len(values)} values for {batch} pictures")
    return report
