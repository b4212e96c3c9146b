"""Tests of encoder and decoder in processes that share nothing: attempts to pass data around the channel, and broken
systems.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from harness import hostile

import baselines  # noqa: F401  (registers its systems)
from bench.measure.apart import Home, RemoteFailure, RemoteSystem, Sight, child, inspect, wire
from bench.measure.apart.ahead import import_ahead
from bench.measure.apart.confine import without
from bench.measure.calls import LocalEnd
from bench.measure.channel import transmit
from systems import registry
from systems.errors import AuditError, UserError
from systems.interface import Budget, Decoded, Link, Received, Transmission
from systems.weight_files import seeded

PLUGINS = [str(Path(__file__).parents[1] / "plugin"), str(Path(__file__).parents[2] / "example_plugin")]
sys.path[:0] = PLUGINS
from hostile_systems import BROKEN, NOTE, STASHES, Stashes  # noqa: E402
from pooled_pixels import PooledPixels  # noqa: E402

LINK = Link("reconstruction", 16, 16, Budget.from_cbr(1 / 6, 16, 16), "awgn", 10.0)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and Landlock are Linux's")


@pytest.fixture(scope="module")
def home():
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        ctypes.CDLL(None).syscall(250, 1, None)  # a key ring for the session, as each login has one
    nursery = Home.start()
    yield nursery
    nursery.close()


def picture(seed=1) -> torch.Tensor:
    values = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(seed))
    return values.float() / 255


def test_packages_installed_for_one_user_are_read_with_their_libraries(tmp_path, monkeypatch):
    """A package as `pip install --user` places it, with its shared libraries beside it as wheels have them."""
    folder, beside = tmp_path / "site-packages", tmp_path / "pictures"
    (folder / "pillow.libs").mkdir(parents=True)
    beside.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(tmp_path)
    allowed = [Path(one) for one in Sight.of("hostile_systems:Stashes", {}).read]
    assert any(one in (folder / "pillow.libs").resolve().parents for one in allowed)
    assert not any(one in (beside.resolve(), *beside.resolve().parents) for one in allowed)


@LINUX
def test_a_folder_that_this_user_may_not_enter_holds_no_code(tmp_path, monkeypatch):
    """A script in /tmp has that folder in its `sys.path`, with the private folders of others in it."""
    locked = tmp_path / "locked"
    locked.mkdir()
    if os.getuid() == 0:  # root enters it, so the folder is another user's, and the process leaves root's rights
        os.chown(locked, 12345, 12345)
    locked.chmod(0)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(locked)
    process = os.fork()
    if process == 0:
        code = 1
        with contextlib.suppress(Exception):
            ctypes.CDLL(None).unshare(0x10000000)
            assert not os.access(locked, os.X_OK)
            Sight.of("hostile_systems:Reads", {})
            code = 0
        os._exit(code)
    assert os.waitpid(process, 0) == (process, 0)
    locked.chmod(0o700)


def test_a_namespace_does_not_open_the_folders_of_its_name(tmp_path, monkeypatch):
    """A package `data` without `__init__.py` also has the folder `data` beside which a command is started, where copies
    of the pictures may lie.
    """
    own, other = tmp_path / "site" / "t_data", tmp_path / "cwd" / "t_data"
    for folder in (own, other / "kodak"):
        folder.mkdir(parents=True)
    (own / "kodak.py").write_text("")
    (other / "kodak" / "p.png").write_text("")
    for folder in (own, other):
        monkeypatch.syspath_prepend(folder.parent)
    read = Sight.of("t_data.kodak:System", {}).read
    assert str(own.resolve()) in read and str(other.resolve()) not in read


@LINUX
def test_before_it_forks_the_nursery_imports_systems_of_the_bench_alone(tmp_path, monkeypatch):
    """numba, which the system of the bench imports, brings the shared library llvmlite; the stranger imports it too."""
    package = tmp_path / "strangers"
    package.mkdir()
    (package / "stranger.py").write_text("import numba\n")
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(package)])  # as if it were installed there
    monkeypatch.syspath_prepend(package)
    home = Home.start()
    try:
        maps, held = Path(f"/proc/{home.process.pid}/maps"), []
        for module in ("numba", "stranger", "baselines.stranger", "baselines.no_such", "", "baselines.linear_select"):
            home.open(Sight(sys.path, [], [], ["/dev/null"], module=module)).close()
            held.append("llvmlite" in maps.read_text())
        assert held == [False] * 5 + [True]
    finally:
        home.close()


def test_no_module_of_a_stranger_is_imported_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text("")
    import_ahead(["stranger", "baselines.stranger", "baselines.linear"])
    assert not {"stranger", "baselines.stranger"} & sys.modules.keys() and "baselines.linear" in sys.modules


# ---------------------------------------------------------------- nothing passes


def test_the_ways_would_work_in_one_process():
    """The control experiment: in one process, each attempt of the tests below does succeed."""
    for way in ("memory", "attribute", "environment", "temporary"):
        one, images = Stashes(code_rate=way), picture()
        received = transmit(one.encode(images, LINK), LINK, [1])
        assert torch.equal(one.decode(received, LINK).output, images), way
    (Path(tempfile.gettempdir()) / NOTE).unlink()
    del os.environ[NOTE], torch.bench_note


@LINUX
@pytest.mark.parametrize("way", STASHES)
def test_nothing_passes_from_encoder_to_decoder(home, way, monkeypatch):
    monkeypatch.setenv("BENCH_TEST_NAMES", str(time.time_ns()))
    one, images = hostile(home, "Stashes", code_rate=way), picture()
    stamp = os.stat(sys.modules["hostile_systems"].__file__).st_mtime_ns
    sent = one.encode(images, LINK)
    received = transmit(sent, LINK, [1])
    assert torch.equal(one.decode(received, LINK).output, PooledPixels().decode(received, LINK).output)
    assert os.stat(sys.modules["hostile_systems"].__file__).st_mtime_ns == stamp
    for folder in ("/tmp", "/dev/shm", "/var/tmp", str(Path.home()), PLUGINS[0]):
        assert not (Path(folder) / NOTE).exists()


@LINUX
@pytest.mark.parametrize("refused", ["hide_files = lambda *_: False", "unshare = lambda: []"])
def test_temporary_files_do_not_pass_where_the_kernel_mounts_nothing(monkeypatch, refused):
    """As in containers that allow a mount namespace and refuse every mount in it, or allow none."""
    from bench.measure.apart import nursery_client as module

    start = module._START.replace(
        "from bench", f"from bench.measure.apart import confine; confine.{refused}; from bench"
    )
    monkeypatch.setattr(module, "_START", start)
    other = Home.start()
    one, images = hostile(other, "Stashes", code_rate="temporary"), picture()
    received = transmit(one.encode(images, LINK), LINK, [1])
    assert "mount" not in one.measures
    assert torch.equal(one.decode(received, LINK).output, PooledPixels().decode(received, LINK).output)
    other.close()


@LINUX
def test_every_file_system_but_private_ones_is_read_only(home):
    """Landlock lets modes and time stamps be changed: those of files in /proc belong to root, and to all processes."""
    writable = "[one.split()[4] for one in open('/proc/self/mountinfo') if 'rw' in one.split()[5].split(',')]"
    one = hostile(home, "Says", code_rate=f"sorted({writable})")
    (told,) = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
    if "mount" not in one.measures:
        pytest.skip("the kernel gives no mount namespace")
    mounts = [place for place in eval(told) if "bench-apart-" not in place]
    assert set(mounts) <= {"/tmp", "/var/tmp", "/run", "/dev/shm"}


@LINUX
def test_a_system_cannot_kill_the_process_that_waits_for_its_end(monkeypatch):
    """Landlock refuses signals to others from Linux 6.12 on. Before, a namespace alone must: a process may signal its
    own group, also the members that it cannot see. While one that was killed dies, its locks would be read.
    """
    from bench.measure.apart import nursery_client as module

    old = "from bench.measure.apart import confine; confine.landlock_version = lambda: 5; from bench"
    monkeypatch.setattr(module, "_START", module._START.replace("from bench", old))
    other = Home.start()
    try:
        one, images = hostile(other, "Kills"), picture()
        received = transmit(one.encode(images, LINK), LINK, [1])
        if "pid" not in one.measures:
            pytest.skip("the kernel gives no PID namespace")
        assert torch.equal(one.decode(received, LINK).output, PooledPixels().decode(received, LINK).output)
    finally:
        other.close()


def test_a_waiting_encoder_has_ended_before_a_decoder_starts(home):
    one, images = hostile(home, "Stashes", code_rate="memory"), picture()
    send = one.prepare(images, LINK)
    first = send(LINK)
    waiting = one._encoder
    one.decode(transmit(first, LINK, [1]), LINK)
    assert not waiting.open
    assert torch.equal(send(LINK).symbols, first.symbols)  # the process starts again and gives the same result
    one.rest()


def test_a_decoder_remembers_nothing(home):
    one = hostile(home, "Remembers")
    received = transmit(one.encode(picture(), LINK), LINK, [1])
    assert [one.decode(received, LINK).report["stop_reason"] for _ in range(3)] == [["1"]] * 3


@LINUX
def test_pictures_salts_and_other_processes_cannot_be_read(home, tmp_path):
    secret = tmp_path / "run" / ".salt"
    secret.parent.mkdir()
    secret.write_text("secret")
    beside = Path(PLUGINS[0]) / "bench_test_systems.py"
    for file, secrets in (
        (secret, []),
        (f"/proc/{os.getpid()}/environ", []),
        (f"/proc/{os.getpid()}/maps", []),
        (beside, [beside]),  # a picture beside the system's own code
    ):
        one = hostile(home, "Reads", secrets, code_rate=str(file))
        told = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
        assert told in (["PermissionError"], ["FileNotFoundError"]), file
    one = hostile(home, "Reads", code_rate=str(beside))
    assert (
        one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"][0].startswith("read")
    )


@LINUX
def test_not_even_the_length_of_a_secret_file_can_be_asked(home, tmp_path, monkeypatch):
    """What an encoder prints goes to a file of the run: its length would be a message to the decoder."""
    log, code = tmp_path / "run" / "output" / "measures.log", tmp_path / "site" / "t_code_beside_a_run.py"
    for file in (log, code):
        file.parent.mkdir(parents=True)
        file.write_text("#" * 1234)
    monkeypatch.syspath_prepend(str(code.parent))  # code in the folder of temporary files: that folder stays to be seen
    link = tmp_path / "links" / "p.png"
    link.parent.mkdir()
    link.symlink_to(log)
    told = {}
    for name, secrets in (("seen", []), ("hidden", [tmp_path / "run"]), ("as a file", [log]), ("as a link", [link])):
        one = hostile(home, "Measures", secrets, code_rate=str(log))
        (told[name],) = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
        if "mount" not in one.measures:
            pytest.skip("the kernel gives no mount namespace: README, What the audit cannot see")
    assert told["seen"].split()[0] == "1234"  # the control: Landlock lets lengths be asked
    assert {told[name].split()[0] for name in ("hidden", "as a file", "as a link")} == {"FileNotFoundError"}


@LINUX
def test_sockets_in_the_folder_of_temporary_files_cannot_be_reached(home):
    """Of a terminal, a screen or a key agent: what answers there would keep a message, or run a command."""
    if any(Path(one).resolve().is_relative_to("/tmp") for one in [*sys.path, sys.prefix, __file__]):
        pytest.skip("code that a system needs is in /tmp, which stays as it is")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s")
        server.listen()
        one = hostile(home, "Connects", code_rate=f"{folder}/s")
        (told,) = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
        if "mount" not in one.measures:
            pytest.skip("the kernel gives no mount namespace")
        assert told == "FileNotFoundError"


#: Of x86-64, from its table of system calls, with their arguments: key rings, which pages are in memory (mincore,
#: fadvise64, readahead, cachestat, io_uring, io_setup), the kernel's log, inotify, fanotify, perf, bpf, setns, fsopen,
#: clone3, ptrace, sendmsg, sendmmsg; which names are in memory (openat2), pages that leave it or move there
#: (process_madvise, move_pages, migrate_pages, mbind with MPOL_MF_MOVE), flags of files (file_setattr); leases,
#: notices and hints of fcntl; sockets of AF_PACKET, AF_ALG and AF_VSOCK, of SCTP, DCCP and generic netlink, a pair of
#: AF_TIPC; a user namespace; flags, version and encryption keys of a file; the bridge and VLAN of a socket;
#: fallocate beyond the end of the file of what is printed.
REFUSED = (
    "248,249,250,27,221,187,451,425,206,103,253,294,300,298,321,308,430,435,101,46,307,437,440,279,256,237:0:0:0:0:0:2,469,"
    "72:0:1024,72:0:1026,72:0:1035,72:0:1036,72:0:1038,41:17:3,41:38:5,41:40:1,41:2:1:132,41:2:6,41:16:3:16,53:30:5,"
    "272:268435456,16:0:2148034049,16:0:2148038145,16:0:3226494487,16:0:35136,16:0:35202,"
    "285:1:1:0:4096"
)
#: getpid, F_GETFD and F_DUPFD_CLOEXEC, sockets of AF_UNIX, TCP, UDP and AF_NETLINK, unshare without a new namespace.
ALLOWED = "39,72:0:1,72:0:1030,41:1:1,41:2:1,41:2:1:6,41:2:2:17,41:10:1,41:16:3,272:1024"


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_what_the_kernel_keeps_or_tells_of_others_is_refused(home):
    one = hostile(home, "Asks", code_rate=f"{REFUSED},{ALLOWED}")
    (told,) = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
    assert "seccomp" in one.measures
    refused, allowed = (len(calls.split(",")) for calls in (REFUSED, ALLOWED))
    assert told.split() == ["ENOSYS"] * refused + ["done"] * allowed


@LINUX
def test_what_a_system_prints_cannot_fill_the_disk(home):
    one = hostile(home, "Says", code_rate="_or_error(lambda: os.ftruncate(1, (1 << 30) + 1))")
    told = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
    assert told == ["OSError"]  # EFBIG


def test_a_download_of_the_pictures_beside_a_command_cannot_be_read(tmp_path, monkeypatch):
    """The folder in which a command is started is in `sys.path`, and may hold archives of pictures."""
    for name in ("kodak.zip", "modules.zip", "code.py"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(tmp_path / "modules.zip"))
    read = Sight.of("hostile_systems:Reads", {}).read
    assert str(tmp_path.resolve() / "code.py") in read and str(tmp_path.resolve() / "modules.zip") in read
    assert str(tmp_path.resolve() / "kodak.zip") not in read


@LINUX
def test_data_sets_of_a_hub_s_cache_cannot_be_read(home, tmp_path, monkeypatch):
    """A store of models is read, one of data sets may hold the pictures."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("hub/models--a--b/model.bin", "hub/datasets--c--d/p.png", "datasets/p.png", "token"):
        (tmp_path / "hf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hf" / name).write_text("text")
    read = Sight.of("hostile_systems:Reads", {}).read
    assert str((tmp_path / "hf" / "hub" / "models--a--b").resolve()) in read
    hub = (tmp_path / "hf").resolve()
    assert not [one for one in map(Path, read) if one == hub or hub / "datasets" in (one, *one.parents)]
    assert not [one for one in map(Path, read) if "datasets--" in str(one) or one.name in ("token", "hub")]


def test_folders_without_a_secret_stay_readable(tmp_path):
    for name in ("a/b/secret.png", "a/b/code.py", "a/c/more.py", "d/other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path.resolve()
    readable, listed = without([root], [tmp_path / "a" / "b" / "secret.png"])
    assert set(readable) == {root / "a" / "b" / "code.py", root / "a" / "c", root / "d"}
    assert set(listed) == {root, root / "a", root / "a" / "b"}
    assert without([root / "a" / "b" / "secret.png", root / "d"], [root / "a"]) == ([root / "d"], [])


@LINUX
@pytest.mark.parametrize("by", ["its owner", "a worker"])
def test_a_nursery_that_was_killed_is_replaced(by):
    """As by the kernel, for memory: the next call gets a new one, also over a worker's own socket."""
    import signal

    owner = Home.start()
    user = owner if by == "its owner" else Home(owner.client())
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.process.wait()
    assert len(hostile(user, "Broken", code_rate="none").encode(picture(), LINK).symbols) == 1
    client = Home(owner.client())  # replaced for the owner as well
    assert client.measures() == user.measures()
    for one in {id(one): one for one in (client, user, owner)}.values():
        one.close()


def test_the_nursery_of_a_command_ends_with_it_and_leaves_nothing(tmp_path):
    """Python is told to make an error of each warning, also of a process that still runs at its end. A forked process
    that ends in the usual way leaves the nursery of its parent alone.
    """
    script = (
        "import atexit, os\n"
        "from bench.measure.apart import Home\n"
        "home = Home.shared()\n"
        "home.measures()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    atexit._run_exitfuncs()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "home.client().close()\n"
        "print(home.process.pid, home.process.poll())\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=root, capture_output=True, text=True, check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=200,
    )  # fmt: skip
    assert done.stderr == "" and done.returncode == 0
    pid, code = done.stdout.split()
    assert code == "None"  # it was not replaced, and ran until the end
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert not list(tmp_path.iterdir())


def test_a_nursery_that_cannot_start_is_one_line(monkeypatch):
    from bench.measure.apart import nursery_client as module

    monkeypatch.setattr(module, "_START", "raise SystemExit(1)")
    home = Home.start()
    with pytest.raises(UserError, match="forked from ends at once") as caught:
        home.measures()
    assert "\n" not in str(caught.value)
    home.close()


def test_no_place_for_what_a_system_prints_is_one_line(home, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(UserError, match="TMPDIR"):
        home.measures()


def test_a_nursery_without_a_place_for_temporary_files_says_so(monkeypatch, capfd):
    """In one line of the harness, without a traceback of its own."""
    from bench.measure.apart import nursery_client as module

    nowhere = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']; "
    monkeypatch.setattr(module, "_START", nowhere + module._START)
    home = Home.start()
    with pytest.raises(UserError, match="no process for a system can be started"):
        home.measures()
    home.close()
    assert "Traceback" not in capfd.readouterr().err


def test_the_measures_are_named(home):
    one = hostile(home, "Stashes")
    one.encode(picture(), LINK)
    assert {"user", "mount", "pid", "net", "ipc", "landlock", "seccomp"} >= set(one.measures) >= {"landlock"}


# ---------------------------------------------------------------- the same rows


def test_a_remote_system_gives_what_the_system_gives(home):
    one, here, images = hostile(home, "Stashes", code_rate="memory"), Stashes(code_rate="temporary"), picture(2)
    here.put = here.get = lambda *data: (_ for _ in ()).throw(OSError)
    sent, own = one.encode(images, LINK), here.encode(images, LINK)
    assert torch.equal(sent.symbols, own.symbols) and torch.equal(sent.side_info, own.side_info)
    received = transmit(sent, LINK, [3])
    assert torch.equal(one.decode(received, LINK).output, here.decode(received, LINK).output)


def test_each_picture_of_a_call_has_one_row(home):
    """Of two pictures that are sent alone, one would take two rows and the other none: two in all, as there should
    be. So would two outputs.
    """
    pictures, end = torch.cat([torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)]), LocalEnd(hostile(home, "Shares"))
    send, _ = end.prepare(pictures, LINK, [1, 2])
    with pytest.raises(AuditError, match="0 rows of symbols for 1 pictures"):
        send(LINK, [1, 2])
    honest = PooledPixels()
    with pytest.raises(AuditError, match="0 rows of output for 1 pictures"):
        end.decode(transmit(honest.encode(pictures, LINK), LINK, [1, 2]), LINK, [1, 2])
    told = {"symbols": torch.ones(1, 4), "side_info": torch.zeros(2, 1), "side_info_snr_db": None, "report": {}}
    with pytest.raises(AuditError, match="2 rows of side information for 1 pictures"):
        hostile(home, "Shares")._transmission(told, 1)


def test_what_is_global_here_stays(home):
    def state():
        return (
            torch.get_num_threads(), torch.get_default_dtype(), torch.backends.mkldnn.enabled, torch.Tensor.clamp,
            torch.get_float32_matmul_precision(), os.environ.get("OMP_NUM_THREADS"),
        )  # fmt: skip

    before, images = state(), picture()
    honest = hostile(home, "Remembers")
    first = honest.decode(transmit(honest.encode(images, LINK), LINK, [1]), LINK).output
    spoils = hostile(home, "Spoils")
    with pytest.raises((RemoteFailure, UserError, AssertionError)):
        assert spoils.encode(images, LINK).symbols.dtype == torch.complex128  # it affects itself only
    assert state() == before
    again = honest.decode(transmit(honest.encode(images, LINK), LINK, [1]), LINK).output
    assert torch.equal(first, again)


# ---------------------------------------------------------------- broken systems


@pytest.mark.parametrize("way", [way for way in BROKEN if way not in ("a-shape", "one-too-few", "integers", "nan",
                                                                      "report-texts", "report-infinite",
                                                                      "report-status")])  # fmt: skip
def test_a_broken_system_is_one_line(home, way):
    """The ways left out here send a valid message, which the audit and the table refuse."""
    printed = []
    one = hostile(home, "Broken", printed=printed, code_rate=way)
    received = transmit(one.encode(picture(), LINK), LINK, [1])
    one.deadline = time.monotonic() + 60
    with pytest.raises(RuntimeError) as caught:
        one.decode(received, LINK)
    text = str(caught.value)
    assert text and "\n" not in text and text.encode("utf-8")
    if way == "prints":
        assert printed and printed[-1].startswith("x") and len(printed[-1]) <= 100_000
    words = {"killed": "SIGKILL", "aborts": "SIGABRT", "os-exit": "code 0", "exit-0": "SystemExit", "lines": "first"}
    assert words.get(way, "") in text
    # The next call works.
    assert torch.isfinite(one.encode(picture(), LINK).symbols.abs()).all()


def test_a_system_that_never_ends_is_given_up(home):
    one = hostile(home, "Sleeps")
    received = transmit(one.encode(picture(), LINK), LINK, [1])
    one.deadline, start = time.monotonic() + 2, time.monotonic()
    with pytest.raises(RemoteFailure, match="--cell-timeout"):
        one.decode(received, LINK)
    assert time.monotonic() - start < 30


def test_what_cannot_be_built_is_the_users_to_mend(home):
    for target in ("no_such_module:A", "hostile_systems:NoSuchClass", "hostile_systems:NOTE"):
        with pytest.raises(UserError, match="cannot use"):
            inspect(home, "x", target, {})


@pytest.mark.parametrize("change", ["", "'variant': 'a\\x1b[2J'", "'variant': 7", "'variant': '=1+1'", "'genie': 0",
                                    "'more': 1",
                                    "'bits_per_use': '1'", "'bits_per_use': float('inf')", "'bits_per_use': 5e-324",
                                    "'bits_per_use': 4.0", "'bits_per_use': True", "'bits_per_use': 0",
                                    "'bits_per_use': 17", "'bits_per_use': 10 ** 400",
                                    "'label': '=1+1'", "'label': 'x' * 101", "'colour': 'C' + '9' * 5000",
                                    "'description': {'a': torch.zeros(2)}",
                                    "'description': {'a': 'x' * (1 << 22)}"])  # fmt: skip
def test_facts_that_a_system_writes_past_the_checks_are_checked(home, change):
    """`child` checks the facts in the system's own process, where nothing holds the system to it."""
    honest = (
        "{'value': {'measures': [], **__import__('bench.measure.apart.child').measure.apart.child._facts(self), %s}}"
    )
    if not change:  # the control
        forged = {"code_rate": honest % "'variant': 'forged'"}
        assert inspect(home, "x", "hostile_systems:Forges", forged)["variant"] == "forged"
        return
    with pytest.raises(UserError, match="what no system can be"):
        inspect(home, "x", "hostile_systems:Forges", {"code_rate": honest % change})


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("bits_per_use", 5e-324, "bits_per_use is 5e-324; it must be None or a whole number from 1 to 16"),
        ("bits_per_use", 2.0, "bits_per_use is 2.0; it must be"),
        ("bits_per_use", True, "bits_per_use is True; it must be"),
        ("bits_per_use", 10**400, "bits_per_use is 1000"),
        ("label", "=1+1", "label is '=1\\+1'; it must be no formula of a sheet"),
        ("label", " ;-A1", "it must be no formula"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_facts_that_the_plan_or_a_table_cannot_use_are_refused(attribute, value, words):
    """A plan divides a budget by the bits per use: a dry run promised infinitely many."""
    one = PooledPixels("mine")
    assert child._facts(one)["bits_per_use"] is None
    setattr(one, attribute, value)
    with pytest.raises(TypeError, match=words):
        child._facts(one)
    one.bits_per_use, one.label = 4, "Mine"
    assert child._facts(one)["bits_per_use"] == 4 and child._facts(one)["label"] == "Mine"


@pytest.mark.parametrize(
    "body", ["{'error': 'no dict'}", "{'error': None}", "{'error': {'kind': 'other', 'line': ['x']}}", "{'error': {}}",
             "{'error': {'kind': 'other', 'line': 'x', 'traceback': 7}}", "{}", "['error']", "7"],
)  # fmt: skip
def test_an_error_that_is_no_message_is_one_line(home, body):
    words = "cannot use .* \\(no message\\)" if body == "{'error': {}}" else "not a message of the bench"
    with pytest.raises(UserError, match=words):
        inspect(home, "x", "hostile_systems:Forges", {"code_rate": body})


@pytest.mark.parametrize("built", ["7", "{'measures': 7}", "{'measures': [7]}", "{}"])
def test_an_answer_without_facts_is_no_answer(home, built):
    """Here a run opens the process of a system, which was honest when the run was planned."""
    target, options = "hostile_systems:Forges", {"code_rate": f"{{'value': {built}}}"}
    facts = child._facts(PooledPixels("mine"))
    one = RemoteSystem(home, "mine", target, options, facts, Sight.of(target, options), [])
    with pytest.raises(wire.WireError, match="not a message of the bench"):
        one.encode(picture(), LINK)


@pytest.mark.parametrize("body", [
    "{'tasks': ['reconstruction', 'a\\x1b[2J'], 'options': [], 'learned': False}",
    "{'tasks': ['reconstruction', 7], 'options': [], 'learned': False}",
    "{'tasks': ['reconstruction'], 'options': 'size', 'learned': False}",
    "{'tasks': ['reconstruction'], 'options': [], 'learned': 'yes'}", "{'tasks': ['reconstruction']}", "5",
])  # fmt: skip
def test_what_a_class_writes_of_itself_past_the_checks_is_checked(home, tmp_path, monkeypatch, body):
    """`list` and the plan of a run ask for it, and print it."""
    frame = f"wire.pack({{'value': {body}}})" if body != "5" else "b'no message'"
    (tmp_path / "t_writes.py").write_text(
        "import os, socket, stat\nfrom bench.measure.apart import wire\n\nfor fd in range(3, 64):\n"
        "    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
        f"            wire.send(socket.socket(fileno=os.dup(fd)), {frame})\n    except OSError:\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="what no system can be|not a message of the bench"):
        inspect(home, "x", "t_writes:One", {}, build=False)


def test_a_link_opens_nothing_that_the_user_did_not_name(home, tmp_path, monkeypatch):
    """Who made a checkpoint or a package could have it lead to a copy of the pictures, or to the whole disk."""
    for name in ("copies", "model", "site", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "copies" / "kodak.zip").write_text("pictures")
    for name in ("helper.py", "data.so", "kodak.dist-info"):
        (tmp_path / "site" / name).symlink_to(tmp_path / "copies")
    (tmp_path / "site" / "beside.txt").symlink_to(tmp_path / "copies" / "kodak.zip")
    (tmp_path / "site" / "t_linked.py").write_text("class One: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in ("w.bin", "folder/w.bin", "blob"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("weights")
    (tmp_path / "model" / "hub.bin").symlink_to(tmp_path / "model" / "blob")  # as a hub's cache has them
    for checkpoint in ("", "w.bin", "folder", "hub.bin"):
        sight = Sight.of("t_linked:One", {"checkpoint": str(tmp_path / "model" / checkpoint)} if checkpoint else {})
        assert str(tmp_path / "site" / "t_linked.py") in sight.read
        assert not any("copies" in path for path in sight.read + sight.listed)
    (tmp_path / "model" / "w.json").symlink_to(tmp_path / "copies" / "kodak.zip")
    (tmp_path / "model" / "all").symlink_to(tmp_path / "copies")
    for checkpoint in ("w.bin", "all"):
        with pytest.raises(UserError, match="is a link to .*copies"):
            Sight.of("t_linked:One", {"checkpoint": str(tmp_path / "model" / checkpoint)})


def test_no_text_of_a_system_can_write_over_a_terminal(home):
    """Such as the table of results above the error."""
    forged = "{'error': {'kind': 'other', 'line': 'a\\x1b[9Ab\\n', 'traceback': 'c\\rd\\ne'}}"
    with pytest.raises(UserError, match=r"\(a\\x1b\[9Ab\\n\)"):
        inspect(home, "x", "hostile_systems:Forges", {"code_rate": forged})
    printed = []
    one = hostile(home, "Broken", printed=printed, code_rate="escapes")
    with pytest.raises(RemoteFailure) as caught:
        one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK)
    assert str(caught.value).isprintable() and all(map(str.isprintable, caught.value.traceback.split("\n")))
    assert printed[-1].startswith("\\x1b[9A 40.00 dB") and all(map(str.isprintable, printed[-1].split("\n")))


def test_no_system_speaks_in_the_name_of_another(home):
    for asked, kind in (("user", UserError), ("audit", AuditError)):
        with pytest.raises(kind, match="^system 'hostile': system gensc: its power is 2"):
            hostile(home, "Blames", code_rate=asked).encode(picture(), LINK)
        with pytest.raises(UserError, match="^system 'x': .*gensc: its power is 2"):
            inspect(home, "x", "hostile_systems:Blames", {"code_rate": f"built {asked}"})
    with pytest.raises(UserError, match="^system 'audit': audit: system gensc: its power is 2"):
        inspect(home, "audit", "hostile_systems:Blames", {"code_rate": "built loud user"})


@LINUX
def test_a_process_has_only_the_variables_that_libraries_read(monkeypatch):
    """Others may hold the user's tokens; a system's words are kept in the run, which may be published."""
    for name in ("MY_CLOUD_TOKEN", "HF_TOKEN", "GITHUB_SOMETHING", "PYTHON_API_KEY", "HF_APIKEY", "TORCH_PASSPHRASE"):
        monkeypatch.setenv(name, "a-secret-of-the-user")
    monkeypatch.setenv("HF_ENDPOINT", "https://me:a-secret-of-the-user@mirror")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # a worker's
    kept = ("TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "LC_TIME", "BENCH_X", "PYTHONHASHSEED")
    for name in kept:
        monkeypatch.setenv(name, "0")
    other = Home.start()
    try:
        asked = "str(dict(os.environ)) + open('/proc/self/environ').read()"
        found = []
        passed = (f"'a-secret-of-the-user' in {asked}", "'PYTHONSAFEPATH' in os.environ")
        for what in (*passed, f"[os.environ.get(name) for name in {kept!r}]"):
            one = hostile(other, "Says", code_rate=what)
            found += one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
        assert found == ["False", "False", str(["0"] * len(kept))]
    finally:
        other.close()


def test_a_system_finds_entry_points_of_its_own_package_alone(home, monkeypatch, tmp_path):
    """Else a library that it imports would run code of another package beside it."""
    info = tmp_path / "t_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: t-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[t.parts]\nmine = hostile_systems:X\ntheirs = t_other:X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = "[one.name for one in __import__('importlib.metadata').metadata.entry_points(group='t.parts')]"
    one = hostile(home, "Says", code_rate=asked)
    found = one.decode(transmit(one.encode(picture(), LINK), LINK, [1]), LINK).report["stop_reason"]
    assert found == ["['mine']"]


def test_no_module_of_the_working_folder_runs_in_the_nursery(monkeypatch, tmp_path):
    """`python -c` looks for modules there first, also where the installed command does not."""
    (tmp_path / "json.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    other = Home.start()
    try:
        other.measures()
        assert not Path("ran").exists()
    finally:
        other.close()


# ---------------------------------------------------------------- messages


def test_messages_are_made_anew():
    symbols = torch.arange(6, dtype=torch.float32).view(torch.float32).reshape(1, 6)[:, ::2].to(torch.complex64)
    symbols.secret = "picture"
    side = torch.zeros(100, dtype=torch.uint8)[10:18].reshape(1, 8)
    sent = Transmission(symbols, side, {"mcs": ["a\udcff"], "n_bits": [3]})
    got = wire.unpack(wire.pack({"sent": sent, "link": LINK, "nothing": None, "nan": float("nan")}))
    assert torch.equal(got["sent"].symbols, symbols) and not hasattr(got["sent"].symbols, "secret")
    assert got["sent"].side_info.untyped_storage().nbytes() == 8
    assert got["link"] == LINK and got["link"] is not LINK and got["nan"] != got["nan"]
    assert got["sent"].report == {"mcs": ["a\\udcff"], "n_bits": [3]}
    both = Received(symbols, symbols, torch.ones(1), side)
    assert torch.equal(wire.unpack(wire.pack(both)).csi, symbols)
    assert wire.unpack(wire.pack(Decoded(torch.zeros(0, 3)))).output.shape == (0, 3)


@pytest.mark.parametrize("body", [
    b"", b"\0\0\0\1", b"\xff\xff\xff\xff{}", b'\0\0\0\x05"abc', b"\0\0\0\x02{}",
    b'\0\0\0\x40{"tensor": "float32", "shape": [1000000000], "start": 0, "bytes": 4}....',
    b'\0\0\0\x3d{"tensor": "float32", "shape": [-1, -1], "start": 0, "bytes": 4}',
    b'\0\0\0\x25{"object": "Worker", "fields": {}}   ', b"\0\0\x20\0" + b"[" * 8192,
])  # fmt: skip
def test_what_is_no_message_is_refused(body):
    with pytest.raises(wire.WireError):
        wire.unpack(body)


def test_an_object_of_a_system_does_not_pass():
    for value in (object(), {"a": [{1, 2}]}, torch.zeros(2, device="meta"), torch.eye(2).to_sparse()):
        with pytest.raises((TypeError, NotImplementedError, RuntimeError)):
            wire.pack(value)


# ---------------------------------------------------------------- the bench's own systems

SIZE = (48, 64)
OURS = [(name, task) for name in registry.names() if registry.is_ours(name) for task in registry.tasks_of(name)]


@pytest.mark.parametrize(
    ("name", "task"), [case if case[0] == "linear" else pytest.param(*case, marks=pytest.mark.slow) for case in OURS]
)
def test_a_receiver_of_ours_makes_the_same_in_a_process_that_never_saw_the_pictures(home, name, task):
    entry = registry.find(name)
    options = {"checkpoint": "none"} if entry.learned else {}
    here = registry.create(name, **options)
    if here.genie:
        pytest.skip("a bound is no receiver")
    cbr = 1 / 16 if entry.learned else 1 / 3
    budget = Budget.from_cbr(cbr, *SIZE) if task == "reconstruction" else Budget(bits=20_000)
    link = Link(task, *SIZE, budget, "awgn", 20.0)
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        received = transmit(here.encode(images, link), link, [1, 2])
        facts = inspect(home, name, entry.target, options)
        there = RemoteSystem(home, name, entry.target, options, facts, Sight.of(entry.target, options), [])
        with seeded(5):
            wanted = here.decode(received, link).output
        with seeded(5):
            found = there.decode(received, link).output
    assert torch.allclose(wanted, found, rtol=1e-4, atol=1e-4)
