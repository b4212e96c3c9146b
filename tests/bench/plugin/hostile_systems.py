"""Systems that try to pass pictures around the channel or to spoil other systems' rows, and broken systems.

`STASHES` is a dict of name -> (put, get). A transmitter puts its picture somewhere, and the receiver looks there; where
it finds nothing, it decodes normally. Each way works between two calls in one process, or between two processes of one
user.
"""

import contextlib
import ctypes
import errno
import gc
import io
import json
import locale
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from pooled_pixels import PooledPixels

from bench.measure.apart import wire
from systems.errors import AuditError, UserError
from systems.interface import Decoded, System, Transmission

NOTE = "bench-hostile-note"
MEMORY = {}


def _file(folder):
    def put(data):
        (Path(folder()) / NOTE).write_bytes(data)

    def get():
        return (Path(folder()) / NOTE).read_bytes()

    return put, get


def _leave_behind(listen, data):
    """Start a process that outlives this one and sends `data` to everyone who connects to the socket that `listen`
    makes.
    """
    if os.fork() == 0:
        try:
            server = listen()
            server.settimeout(20)
            while True:
                server.accept()[0].sendall(data)
        finally:
            os._exit(0)
    time.sleep(0.2)


def _abstract_socket():
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0{NOTE}")
    server.listen()
    return server


def _put_socket(data):
    """Start a process that stays and answers on an abstract socket."""
    _leave_behind(_abstract_socket, data)


def _get_socket():
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"\0{NOTE}")
    return client.recv(1 << 20)


def _put_port(data):
    _leave_behind(lambda: socket.create_server(("127.0.0.1", 47113)), data)


def _get_port():
    return socket.create_connection(("127.0.0.1", 47113), timeout=2).recv(1 << 20)


def _segment(size, flags):
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    key = libc.shmget(0x5EED, size, flags)
    if key < 0:
        raise OSError
    return libc.shmat(key, None, 0)


def _put_segment(data):
    ctypes.memmove(_segment(1 << 16, 0o1666), len(data).to_bytes(4, "big") + data, len(data) + 4)


def _get_segment():
    place = _segment(0, 0)
    return ctypes.string_at(place + 4, int.from_bytes(ctypes.string_at(place, 4), "big"))


def _put_time(data):
    """Hide the first bytes in the time stamp of a file that both ends can read. A few bytes are enough to show that it
    works.
    """
    stamp = int.from_bytes(data[:6], "big")
    os.utime(__file__, ns=(stamp, stamp))


def _get_time():
    stamp = os.stat(__file__).st_mtime_ns
    if stamp >= 1 << 48:
        raise OSError
    return stamp.to_bytes(6, "big") * (3 * 16 * 16 // 6)


def _put_environment(data):
    os.environ[NOTE] = data.hex()


def _put_process(data):
    """Start a process that stays, with the picture as its command line."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)", NOTE + data.hex()], start_new_session=True)
    time.sleep(0.2)


def _get_process():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/cmdline").read_bytes().decode("latin-1")
            except OSError:
                continue
            if NOTE in text:
                return bytes.fromhex(text.partition(NOTE)[2].rstrip("\0"))
    raise OSError


_ADD_KEY, _KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}.get(os.uname().machine, (-1, -1))
_SESSION = -3  # the key ring that all processes of a login share


def _called(number, *arguments):
    result = ctypes.CDLL(None).syscall(number, *arguments)
    if result < 0:
        raise OSError
    return result


def _put_key(data):
    _called(_ADD_KEY, b"user", NOTE.encode(), data, ctypes.c_size_t(len(data)), _SESSION)


def _get_key():
    key, buffer = _called(_KEYCTL, 10, _SESSION, b"user", NOTE.encode(), 0), ctypes.create_string_buffer(1 << 15)
    size = _called(_KEYCTL, 11, key, buffer, ctypes.c_size_t(len(buffer)))
    return buffer.raw[:size]


def _paged():
    """A file of the bench that everyone may read, of more than 256 pages."""
    import baselines

    file = os.open(Path(baselines.__file__).parent / "weights" / "linear-klt16.safetensors", os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # no page is read ahead
    return file


def _put_pages(data):
    """Hide the first 32 bytes in which pages of a file are in memory."""
    file = _paged()
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    for bit in range(256):
        if data[bit // 8] >> bit % 8 & 1:
            os.pread(file, 1, 4096 * bit)


def _get_pages():
    file, found = _paged(), bytearray(32)
    for bit in range(256):
        try:
            os.preadv(file, [bytearray(1)], 4096 * bit, os.RWF_NOWAIT)
            found[bit // 8] |= 1 << bit % 8
        except BlockingIOError:
            pass
    return bytes(found) * 24


_GET_HINT, _SET_HINT = 1035, 1036  # of fcntl


def _hinted(data=b""):
    """Set the hints of 32 installed files to the numbers of `data`, two bits each, and return the hints."""
    import baselines

    libc, found = ctypes.CDLL(None, use_errno=True), []
    for index, name in enumerate(sorted(Path(baselines.__file__).parent.rglob("*.py"))[:32]):
        file, value = os.open(name, os.O_RDONLY), ctypes.c_uint64(0)
        if data:
            value.value = 1 + (data[index // 4] >> 2 * (index % 4) & 3)
        if libc.fcntl(file, _SET_HINT if data else _GET_HINT, ctypes.byref(value)) < 0:
            raise OSError(ctypes.get_errno(), "no hint")
        os.close(file)
        found.append(value.value)
    return found


def _get_hints():
    """The first bytes of the picture, over and over: eight bytes are enough to show that it works."""
    hints = [value - 1 for value in _hinted()]
    if min(hints) < 0:
        raise OSError
    return bytes(sum(hints[4 * byte + k] << 2 * k for k in range(4)) for byte in range(8)) * 96


def _slow_to_die(times=4):
    """Memory that is mapped many times: the kernel takes long to take it back, and closes files after that."""
    import mmap

    size, libc = 1 << 28, ctypes.CDLL(None)
    libc.mremap.restype = ctypes.c_void_p
    pages = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    for _ in range(times):
        again = libc.mremap(ctypes.c_void_p(address), ctypes.c_size_t(0), ctypes.c_size_t(size), 1)
        torch.frombuffer((ctypes.c_char * size).from_address(again), dtype=torch.uint8)[:: mmap.PAGESIZE].sum()
    return pages


def _locked(data=b""):
    """Lock files of the bench by the bits of `data`, and take long to die. Or, without `data`, see which are locked.

    Memory that is mapped many times is slow to give back, and a dying process keeps its locks until that is done.
    """
    import fcntl

    import baselines

    found = []
    for index, name in enumerate(sorted(Path(baselines.__file__).parent.rglob("*.py"))[:32]):
        file = os.open(name, os.O_RDONLY)
        if not data:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(0)
            except BlockingIOError:
                found.append(1)
            os.close(file)
        elif data[index // 8] >> index % 8 & 1:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            MEMORY[name] = file
    if data:
        MEMORY["pages"] = _slow_to_die(64)
    return found


def _get_locks():
    """The first bytes of the picture, over and over."""
    bits = _locked()
    if not any(bits):
        raise OSError
    return bytes(sum(bits[8 * byte + k] << k for k in range(8)) for byte in range(4)) * 192


def _ranges(data=b""):
    """Lock places of an installed file that spell `data`, with a lock that no process holds: the open file is under way
    in a socket that is itself under way in the other, so the kernel keeps both. Without `data`, read the places.
    """
    import array
    import fcntl
    import struct

    import baselines

    file, found = os.open(baselines.__file__, os.O_RDONLY), []
    for index in range(16):
        start = 1 << 20 + index
        if data:
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, start + data[index], 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        else:
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, start, 256, 0)
            kind, _, place, _, _ = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, lock))
            if kind == fcntl.F_UNLCK:
                raise OSError
            found.append(place - start)
    if data:
        if os.fork() == 0:
            os.setsid()
            one, two = socket.socketpair()
            for end in (one, two):
                end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno(), file]))])
            for number in {*range(1024)} - {one.fileno(), two.fileno()}:
                with contextlib.suppress(OSError):
                    os.close(number)
            MEMORY["pages"] = _slow_to_die()  # it closes its sockets last: a socket that is closed has such files found
            time.sleep(20)  # it is killed with its call
        os.close(file)
        time.sleep(1.0)
    return bytes(found) * 48


_OPENAT2, _RESOLVE_CACHED = 437, 32


def _name_of(bit):
    """A name of no file, in a folder that everyone may search; of this call of the harness alone."""
    return f"/usr/lib/{NOTE}-{os.environ.get('BENCH_TEST_NAMES', '')}-{bit}"


def _put_names(data):
    """Ask for names that no file has, by the bits of `data`: the kernel remembers that they do not exist."""
    for bit in range(256):
        if data[bit // 8] >> bit % 8 & 1:
            os.path.exists(_name_of(bit))


def _get_names():
    """The first bytes of the picture, over and over: which names the kernel knows, without asking the disk."""
    import struct

    libc, found = ctypes.CDLL(None, use_errno=True), bytearray(32)
    how = ctypes.create_string_buffer(struct.pack("QQQ", os.O_PATH, 0, _RESOLVE_CACHED))
    for bit in range(256):
        libc.syscall(_OPENAT2, -100, _name_of(bit).encode(), how, ctypes.c_size_t(24))
        if ctypes.get_errno() not in (errno.ENOENT, errno.EAGAIN):
            raise OSError
        found[bit // 8] |= (ctypes.get_errno() == errno.ENOENT) << bit % 8
    return bytes(found) * 24


STASHES = {
    "memory": (lambda data: MEMORY.update({NOTE: data}), lambda: MEMORY[NOTE]),
    "attribute": (lambda data: setattr(torch, "bench_note", data), lambda: torch.bench_note),
    "environment": (_put_environment, lambda: bytes.fromhex(os.environ[NOTE])),
    "temporary": _file(tempfile.gettempdir),
    "shared-memory": _file(lambda: "/dev/shm"),
    "home": _file(Path.home),
    "beside-the-code": _file(lambda: Path(__file__).parent),
    "var-tmp": _file(lambda: "/var/tmp"),
    "abstract-socket": (_put_socket, _get_socket),
    "port": (_put_port, _get_port),
    "segment": (_put_segment, _get_segment),
    "time-stamp": (_put_time, _get_time),
    "process": (_put_process, _get_process),
    "key-ring": (_put_key, _get_key),
    "pages": (_put_pages, _get_pages),
    "hints-of-files": (_hinted, _get_hints),
    "locks-of-the-dying": (_locked, _get_locks),
    "locks-under-way": (_ranges, _ranges),
    "names": (_put_names, _get_names),
}


class Stashes(PooledPixels):
    """Uses one way of STASHES. The option `code_rate`, which every class takes, names the way."""

    options = ("code_rate",)
    opens_files = True  # so that what refuses each way is tested, not the seal

    def __init__(self, name="stashes", code_rate="memory"):
        super().__init__(name)
        self.put, self.get = STASHES[code_rate]

    def encode(self, images, link):
        try:
            self.put((images[0] * 255).round().to(torch.uint8).numpy().tobytes())
        except OSError:
            print("refused", file=sys.stderr)
        return super().encode(images, link)

    def decode(self, received, link):
        try:
            data = self.get()
            picture = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(1, 3, link.height, link.width)
            return Decoded(picture.float() / 255)
        except (OSError, KeyError, AttributeError, ValueError, RuntimeError):
            return super().decode(received, link)


class Remembers(PooledPixels):
    """Averages what it has received before: its receiver has a memory of its own."""

    def decode(self, received, link):
        MEMORY.setdefault("received", []).append(received.symbols)
        decoded = super().decode(received, link)
        decoded.report["stop_reason"] = [str(len(MEMORY["received"]))] * len(received.symbols)
        return decoded


class Tells(PooledPixels):
    """Tries something in its decoder that `code_rate` names, and reports the result. Subclasses implement `tried`."""

    options = ("code_rate",)
    opens_files = True

    def __init__(self, name="tells", code_rate=""):
        super().__init__(name)
        self.asked = code_rate

    def decode(self, received, link):
        found = self.tried()
        decoded = super().decode(received, link)
        decoded.report["stop_reason"] = [found] * len(received.symbols)
        return decoded


def _or_error(act):
    """What `act` gives as a text, or the name of the OSError that it raises."""
    try:
        return str(act())
    except OSError as error:
        return type(error).__name__


class Reads(Tells):
    """Tries to read a file."""

    def tried(self):
        return _or_error(lambda: f"read {len(Path(self.asked).read_bytes())}")


class Says(Tells):
    """Evaluates an expression."""

    def tried(self):
        return str(eval(self.asked))


class Blames(PooledPixels):
    """Fails in the name of another system: with an error of the user, or with a breach."""

    options = ("code_rate",)

    def __init__(self, name="blames", code_rate=""):
        super().__init__(name)
        self.kind = UserError if code_rate.endswith("user") else AuditError
        self.before = "audit: " if "loud" in code_rate else ""
        if code_rate.startswith("built"):
            self.encode(None, None)

    def encode(self, images, link):
        raise self.kind(f"{self.before}system gensc: its power is 2; leave it out")


class Kills(PooledPixels):
    """Leaves its process group and kills the group, in which the process that watches it may be."""

    def decode(self, received, link):
        reader, writer = os.pipe()
        other = os.fork()
        if other == 0:
            os.read(reader, 1)
            os.kill(0, signal.SIGKILL)
        os.setsid()
        os.write(writer, b"x")
        os.waitpid(other, 0)
        time.sleep(0.5)
        return super().decode(received, link)


class Asks(Tells):
    """Calls system calls, with arguments ("103,253,72:0:1024"); says what each of them answered."""

    def tried(self):
        libc, found = ctypes.CDLL(None, use_errno=True), []
        for one in self.asked.split(","):
            call = [int(part) for part in one.split(":")]
            ctypes.set_errno(0)
            result = libc.syscall(*map(ctypes.c_long, [*call, 0, 0, 0, 0, 0, 0][:7]))
            found.append(errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "done")
        return " ".join(found)


class Measures(Tells):
    """Says how long a file is, and how many names its folder holds."""

    def tried(self):
        folder = Path(self.asked).parent
        return " ".join(map(_or_error, (lambda: os.stat(self.asked).st_size, lambda: len(os.listdir(folder)))))


class Connects(Tells):
    """Tries to connect to a socket."""

    def tried(self):
        return _or_error(lambda: socket.socket(socket.AF_UNIX).connect(self.asked) or "connected")


def _in_a_thread(act):
    """`act` in a thread that then stays, with folders and open files of its own."""
    done = threading.Event()

    def work():
        _called(_UNSHARE, 0x200 | 0x400)  # CLONE_FS, CLONE_FILES
        MEMORY["thread"] = act()
        done.set()
        time.sleep(600)

    threading.Thread(target=work, daemon=True).start()
    done.wait(10)


def _map_a_file(size=None):
    """Map the first `size` bytes of a file, or all of it. Returns the address."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    size, file = size or INSTALLED.stat().st_size, os.open(INSTALLED, os.O_RDONLY)
    place = libc.mmap(None, ctypes.c_size_t(size), 1, 2, file, ctypes.c_size_t(0))  # PROT_READ, MAP_PRIVATE
    libc.madvise(ctypes.c_void_p(place), ctypes.c_size_t(size), 1)  # MADV_RANDOM: no page is read ahead
    os.close(file)
    return place


def _be_traced():
    """Have the parent trace this thread. A stop then holds this thread alone, while another one goes on and, after the
    check of open files, opens a folder. Where tracing is refused, nothing is left to do.
    """
    me = os.getpid()

    def work():
        for _ in range(10_000):
            time.sleep(0.0005)
            if ") t " in Path(f"/proc/self/task/{me}/stat").read_text():
                break
        time.sleep(0.004)
        MEMORY["kept"] = os.open("/usr", os.O_PATH)

    if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0:  # PTRACE_TRACEME
        threading.Thread(target=work, daemon=True).start()


def _go_on(timers=200, nanoseconds=50_000_000):
    """Continue this process again and again, by timers of the kernel. Each fires at its own time, every 50 ms."""
    import struct

    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGCONT, libc.getpid)  # a handler that does nothing: an ignored signal stops its timer
    event = ctypes.create_string_buffer(struct.pack("qii", 0, signal.SIGCONT, 0), 64)
    for index in range(1, timers + 1):
        timer, first = ctypes.c_void_p(), nanoseconds * index // timers
        assert libc.timer_create(1, event, ctypes.byref(timer)) == 0
        assert libc.timer_settime(timer, 0, struct.pack("qqqq", 0, nanoseconds, 0, first), None) == 0


#: A file of the bench that every system may read.
INSTALLED = Path(sys.modules["systems.interface"].__file__).parents[1] / "baselines/weights/linear-klt16.safetensors"
_UNSHARE = {"x86_64": 272, "aarch64": 97}.get(os.uname().machine, -1)
#: name -> what a system keeps from the time when it was built.
KEEPS = {
    "nothing": lambda: None,
    "a-map": _map_a_file,
    "a-process-that-has-ended": lambda: (MEMORY.update(kept=subprocess.Popen(["/bin/true"])), time.sleep(0.5)),
    "traced": _be_traced,
    "what-ends-with-it": lambda: MEMORY.update(kept=[os.pipe(), os.memfd_create("x"), open("/dev/zero"),
                                                     tempfile.TemporaryFile(), threading.Thread(target=print)]),
    "a-file": lambda: MEMORY.update(kept=open(INSTALLED, "rb")),
    "a-folder": lambda: MEMORY.update(kept=os.open("/usr", os.O_PATH)),
    "the-root": lambda: MEMORY.update(kept=os.open("/", os.O_PATH)),
    "a-working-folder": lambda: os.chdir("/usr/lib"),
    "a-thread-s-working-folder": lambda: _in_a_thread(lambda: os.chdir("/usr/lib")),
    "a-thread-s-file": lambda: _in_a_thread(lambda: os.open(INSTALLED, os.O_RDONLY)),
    "a-socket": lambda: MEMORY.update(kept=socket.socket(socket.AF_UNIX)),
    "a-process": lambda: os.fork() or time.sleep(600),
    "a-timer": _go_on,
    "its-parent-s-limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0)),
}  # fmt: skip


class Keeps(PooledPixels):
    """Keeps something from the time when it was built; its decoder says what it sees of all files."""

    options = ("code_rate",)

    def __init__(self, name="keeps", code_rate="nothing"):
        super().__init__(name)
        KEEPS[code_rate]()

    def decode(self, received, link):
        places = (
            "/usr/lib",
            "/etc/passwd",
            "/proc/self/maps",
            __file__,
            f"..{__file__}",
            f"../..{__file__}",
            "/dev/zero",
        )
        seen = [_or_error(lambda place=place: os.stat(place).st_mode) for place in places]
        seen.append(_or_error(lambda: subprocess.run(["/bin/true"], check=True).returncode))
        decoded = super().decode(received, link)
        decoded.report["stop_reason"] = [" ".join(seen)] * len(received.symbols)
        return decoded


class Shows(PooledPixels):
    """Honest: prints a tensor, and keeps it in a file that is none."""

    def encode(self, images, link):
        print(images)
        torch.save(images, io.BytesIO())
        return super().encode(images, link)


class Grows(PooledPixels):
    """Maps one page of a file. When it encodes, it maps the others, for which it needs no file, and reads some."""

    def __init__(self, name="grows"):
        super().__init__(name)
        self.place, self.size = _map_a_file(4096), INSTALLED.stat().st_size

    def encode(self, images, link):
        libc, size = ctypes.CDLL(None), self.size
        libc.mremap.restype = ctypes.c_void_p
        place = libc.mremap(ctypes.c_void_p(self.place), ctypes.c_size_t(4096), ctypes.c_size_t(size), 1)
        for start in range(0, size, 4 * 4096):
            ctypes.string_at(place + start, 1)
        return super().encode(images, link)


class KeepsUnsealed(Keeps):
    """The same, but not sealed."""

    opens_files = True


class ImportsLate(PooledPixels):
    """Imports a module when it encodes."""

    def encode(self, images, link):
        import wave  # noqa: F401

        return super().encode(images, link)


class Spoils(PooledPixels):
    """Changes everything that is global in its process."""

    def encode(self, images, link):
        torch.set_num_threads(2)
        torch.set_flush_denormal(True)
        torch.set_default_dtype(torch.float64)
        torch.backends.mkldnn.enabled = False
        torch.set_float32_matmul_precision("medium")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.environ["OMP_NUM_THREADS"] = "7"
        torch.Tensor.clamp = lambda self, *a, **k: self * 0
        return super().encode(images, link)


def _raises(error):
    raise error


class Odd:
    def __repr__(self):
        raise ValueError("no text")


#: name -> what `decode` does instead of decoding; it gets the link and the correct result.
BROKEN = {
    "exit-0": lambda link, honest: sys.exit(0),
    "exit-text": lambda link, honest: sys.exit("gone"),
    "os-exit": lambda link, honest: os._exit(0),
    "killed": lambda link, honest: os.kill(os.getpid(), signal.SIGKILL),
    "interrupt": lambda link, honest: _raises(KeyboardInterrupt()),
    "aborts": lambda link, honest: os.abort(),
    "none": lambda link, honest: None,
    "a-tensor": lambda link, honest: honest.output,
    "a-list": lambda link, honest: Decoded([1, 2, 3]),
    "a-shape": lambda link, honest: Decoded(honest.output[:, :, :3]),
    "one-too-few": lambda link, honest: Decoded(honest.output[:0]),
    "integers": lambda link, honest: Decoded((honest.output * 255).long()),
    "nan": lambda link, honest: Decoded(honest.output * float("nan")),
    "sparse": lambda link, honest: Decoded(honest.output.to_sparse()),
    "meta": lambda link, honest: Decoded(torch.empty(honest.output.shape, device="meta")),
    "report-a-list": lambda link, honest: Decoded(honest.output, ["ok"]),
    "report-a-text": lambda link, honest: Decoded(honest.output, {"n_bits": "abc"}),
    "report-texts": lambda link, honest: Decoded(honest.output, {"n_bits": ["abc"] * len(honest.output)}),
    "report-lists": lambda link, honest: Decoded(honest.output, {"n_bits": [[1]] * len(honest.output)}),
    "report-objects": lambda link, honest: Decoded(honest.output, {"mcs": [Odd()] * len(honest.output)}),
    "report-short": lambda link, honest: Decoded(honest.output, {"n_bits": []}),
    "report-infinite": lambda link, honest: Decoded(honest.output, {"n_bits": [float("inf")] * len(honest.output)}),
    "report-status": lambda link, honest: Decoded(honest.output, {"status": ["fine"] * len(honest.output)}),
    "no-utf8": lambda link, honest: _raises(RuntimeError("a text \udcff that UTF-8 cannot hold")),
    "escapes": lambda link, honest: print("\x1b[9A 40.00 dB") or _raises(RuntimeError("\x1b[2J\x1b[9A 40.00 dB")),
    "empty-error": lambda link, honest: _raises(RuntimeError()),
    "lines": lambda link, honest: _raises(RuntimeError("first\nsecond\r\nthird")),
    "no-str": lambda link, honest: _raises(type("Odd", (Exception,), {"__str__": lambda self: 1 / 0})()),
    "base": lambda link, honest: _raises(BaseException("base")),
    "deep": lambda link, honest: (lambda f: f(f))(lambda f: f(f)),
    "closes": lambda link, honest: [os.close(one) for one in range(3, 20)],
    "prints": lambda link, honest: (print("x" * 1_000_000), honest)[1] and _raises(RuntimeError("after much")),
}


class Broken(PooledPixels):
    """Fails in one way of BROKEN, which `code_rate` names."""

    options = ("code_rate",)

    def __init__(self, name="broken", code_rate="none"):
        super().__init__(name)
        self.way = BROKEN[code_rate]

    def decode(self, received, link):
        return self.way(link, super().decode(received, link))


class Sleeps(PooledPixels):
    """Never ends, and ignores SIGTERM."""

    def decode(self, received, link):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)


class Forges(PooledPixels):
    """Answers in the place of `child`, on its socket, with the message that `code_rate` holds as an expression."""

    options = ("code_rate",)

    def __init__(self, name="forges", code_rate=""):
        super().__init__(name)
        answer = eval(code_rate)
        if answer is not None:
            channel = next(one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0)
            wire.send(channel, wire.pack(answer))
            os._exit(0)


class BadEncoder(PooledPixels):
    """Sends `None`."""

    def encode(self, images, link):
        return Transmission(None, torch.zeros(len(images), 0, dtype=torch.uint8))


class Shares(PooledPixels):
    """Draws random numbers, so that it is given single pictures. Of these, a bright one takes two rows, a dark one
    none.
    """

    def encode(self, images, link):
        sent, rows = super().encode(images, link), self.rows(images)
        return Transmission(sent.symbols[rows], sent.side_info[rows])

    def decode(self, received, link):
        output = super().decode(received, link).output
        return Decoded(output[self.rows(output)])

    def rows(self, pictures):
        torch.rand(1)
        return list(range(len(pictures))) if len(pictures) > 1 else [0] * (2 if pictures.mean() > 0.5 else 0)


class Weighted(PooledPixels):
    """Learned, as far as files go: `checkpoint` is a file of weights, which it maps, with a sidecar beside it."""

    options = ("checkpoint",)

    def __init__(self, name="weighted", checkpoint=""):
        from safetensors.torch import load_file

        super().__init__(name)
        self.level = load_file(checkpoint)["level"]
        self.variant = json.loads(Path(checkpoint).with_suffix(".json").read_text())["variant"]

    def decode(self, received, link):
        return Decoded(super().decode(received, link).output * 0 + self.level)


# ---------------------------------------------------------------- one hook at a time


def _changed(change):
    """A deed that changes the main tensor of what a hook gives: the symbols, or the output."""

    def deed(honest):
        if isinstance(honest, Transmission):
            honest.symbols = change(honest.symbols)
        else:
            honest.output = change(honest.output)
        return honest

    return deed


def _with_a_gradient(tensor):
    with torch.inference_mode(False):
        return torch.tensor(tensor.tolist(), dtype=tensor.dtype).requires_grad_()


class Tagged(torch.Tensor):
    """A tensor of another class."""


#: name -> what a hook returns instead of its honest result.
RETURNS = {
    "none": lambda honest: None,
    "a-text": lambda honest: "text",
    "a-number": lambda honest: float("nan"),
    "a-generator": lambda honest: (one for one in ()),
    "an-object": lambda honest: Odd(),
    "a-tensor": lambda honest: torch.full((2, 2), float("nan")),
    "a-class": lambda honest: System,
    "lines": lambda honest: "two\nlines",
    "long": lambda honest: "x" * 1000,
    "facts": lambda honest: {"parameters": float("nan"), "of": [{"depth": float("inf")}]},
    "many-facts": lambda honest: {"text": "x" * (1 << 21)},
}
RAISES = {
    f"raises-{kind.__name__}": lambda honest, kind=kind: _raises(kind())
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, RecursionError, StopIteration, Warning)
}
TENSORS = {
    name: _changed(change)
    for name, change in {
        "nan": lambda tensor: tensor * float("nan"),
        "infinite": lambda tensor: tensor / 0,
        "a-shape": lambda tensor: tensor[None],
        "a-number-of-none": lambda tensor: tensor.sum(),
        "too-few-rows": lambda tensor: tensor[:1],
        "too-many-rows": lambda tensor: tensor.repeat_interleave(2, 0),
        "integers": lambda tensor: tensor.real.to(torch.int16),
        "another-type": lambda tensor: tensor.to(torch.complex128 if tensor.is_complex() else torch.bool),
        "meta": lambda tensor: tensor.to("meta"),
        "sparse": lambda tensor: tensor.to_sparse(),
        "a-list": lambda tensor: tensor.tolist(),
        "numpy": lambda tensor: tensor.numpy(),
        "a-gradient": _with_a_gradient,
        "tagged": lambda tensor: tensor.as_subclass(Tagged),
        "strided": lambda tensor: tensor.repeat_interleave(2, 1)[:, ::2],
    }.items()
}
DEEDS = {**RETURNS, **RAISES, **TENSORS}
DECLARED = ("variant", "bits_per_use", "encoder_sees_snr", "label")
HOOKS = ("constructor", "describe", "to", "prepare", "send", "encode", "decode", *DECLARED)


class Misbehaves(PooledPixels):
    """Honest but for one hook and one deed: `code_rate` names both ("decode nan"), or the hook alone."""

    options = ("code_rate",)

    def __init__(self, name="misbehaves", code_rate=""):
        super().__init__(name)
        hook, _, deed = code_rate.partition(" ")
        do = DEEDS.get(deed) or ACTS.get(deed, lambda honest: honest)
        if hook == "constructor":
            do(None)
        elif hook in DECLARED:
            self.__dict__.pop(hook, None)
            self.__class__ = type("Declares", (Misbehaves,), {hook: property(lambda own: do(None))})
        elif hook == "send":
            self.prepare = lambda images, link: lambda at: do(self.encode(images, at))
        elif hook:
            honest = getattr(self, hook)
            setattr(self, hook, lambda *given: do(honest(*given)))


def _remove_all_here():
    for path in Path(".").rglob("*"):
        if path.is_file():
            path.unlink()


def _for_ever():
    while True:
        time.sleep(1)


#: name -> what a system does to its process, beside its honest work.
ACTS = {
    name: lambda honest, act=act: (act(), honest)[1]
    for name, act in {
        "removes-files": _remove_all_here,
        "closes-output": lambda: os.closerange(0, 3),
        "closes-streams": lambda: [one.close() for one in (sys.stdout, sys.stderr)],
        "no-output": lambda: setattr(sys, "stdout", None),
        "moves": lambda: os.chdir("/"),
        "forks": os.fork,
        "threads": lambda: [threading.Thread(target=_for_ever).start() for _ in range(3)],
        "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
        "recursion": lambda: sys.setrecursionlimit(120),
        "patches-torch": lambda: setattr(torch.Tensor, "detach", lambda self: None),
        "patches-json": lambda: setattr(json, "dumps", None),
        "handles-signals": lambda: [signal.signal(one, signal.SIG_IGN) for one in (signal.SIGTERM, signal.SIGINT)],
    }.items()
}
