"""Tests of the seal: a system that has been given a picture or symbols has no file in which it could leave a trace."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from harness import hostile
from safetensors.torch import save_file

from bench.measure.apart import Home, RemoteFailure, RemoteSystem, Sight, inspect, nursery_client
from bench.measure.apart.seal import Mapping, Refused, mapped_files, read_files
from bench.measure.audit import REPORT_COLUMNS
from bench.measure.channel import transmit
from systems.interface import Budget, Link

sys.path[:0] = [str(Path(__file__).parents[1] / "plugin"), str(Path(__file__).parents[2] / "example_plugin")]
from hostile_systems import INSTALLED, KEEPS  # noqa: E402
from pooled_pixels import PooledPixels  # noqa: E402

LINK = Link("reconstruction", 16, 16, Budget.from_cbr(1 / 6, 16, 16), "awgn", 10.0)
PICTURE = torch.linspace(0, 1, 3 * 16 * 16).view(1, 3, 16, 16)
HARMLESS = ("nothing", "a-map", "what-ends-with-it", "a-process-that-has-ended")  # of KEEPS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


@pytest.fixture(scope="module")
def home():
    nursery = Home.shared()
    if "seal" not in nursery.measures(seal=True):
        pytest.skip("the kernel gives no namespaces of mounts and processes")
    return nursery


def seen(one: RemoteSystem) -> list[str]:
    received = transmit(one.encode(PICTURE, LINK), LINK, [1])
    return one.decode(received, LINK).report["stop_reason"][0].split()


@pytest.mark.parametrize("kept", HARMLESS)
def test_a_sealed_system_has_no_files(home, kept):
    one = hostile(home, "Keeps", code_rate=kept)
    assert seen(one) == ["FileNotFoundError"] * 8 and one.sealed


def test_without_the_seal_it_has_files(home):
    """The control experiment."""
    one = hostile(home, "KeepsUnsealed")
    told = seen(one)
    assert "FileNotFoundError" not in told[:4] and told[-2:] != ["FileNotFoundError"] * 2 and not one.sealed


@pytest.mark.parametrize("kept", [kept for kept in KEEPS if kept not in (*HARMLESS, "traced")])
def test_a_system_that_keeps_a_file_is_given_nothing(home, kept):
    one = hostile(home, "Keeps", code_rate=kept)
    with pytest.raises(
        RemoteFailure,
        match=r"^it (keeps .* open|started another process|went on .*|cannot be looked at .*) \(before a system ",
    ):
        one.encode(PICTURE, LINK)


def _pages_in_memory(path: Path) -> tuple[int, int]:
    """How many pages of a file are in memory, and how many it has."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as mapped:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        place = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(place), ctypes.c_size_t(size), pages) == 0
        return sum(one & 1 for one in pages), len(pages)


def _forget(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if _pages_in_memory(path)[0]:
        pytest.skip("this file system keeps all pages in memory")


@pytest.mark.parametrize("kind", ["Keeps", "KeepsUnsealed"])
def test_it_makes_no_difference_which_pages_of_a_mapped_file_are_touched(home, kind):
    _forget(INSTALLED)
    hostile(home, kind, code_rate="a-map").encode(PICTURE, LINK)
    found, pages = _pages_in_memory(INSTALLED)
    assert found == (pages if kind == "Keeps" else 0)


def test_a_file_is_read_whole_of_which_one_page_is_mapped(home):
    """A mapping can grow when the process has no file any more."""
    _forget(INSTALLED)
    hostile(home, "Grows").encode(PICTURE, LINK)
    found, pages = _pages_in_memory(INSTALLED)
    assert found == pages > 100


def _home_where(change: str) -> Home:
    """A nursery that makes a change first. The caller closes it."""
    start = nursery_client._START.replace("from bench", f"{change}; from bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nursery_client, "_START", start)
        return Home.start()


def test_a_thread_that_is_traced_is_not_taken_for_a_process_that_is_stopped(home):
    """Where the kernel has no filter of system calls, which refuses to be traced."""
    other = _home_where("from bench.measure.apart import confine; confine.seccomp = lambda: False")
    try:
        one = hostile(other, "Keeps", code_rate="traced")
        one.deadline = time.monotonic() + 100  # else it would wait for ever for the thread that stays stopped
        with pytest.raises(RemoteFailure, match="^it went on when it had to wait "):
            one.encode(PICTURE, LINK)
    finally:
        other.close()
    assert seen(hostile(home, "Keeps", code_rate="traced")) == ["FileNotFoundError"] * 8


def test_no_call_is_sealed_less_than_the_one_before(home):
    one = hostile(home, "Keeps")
    one.encode(PICTURE, LINK)
    assert one.sealed
    one.home = _home_where("from bench.measure.apart import seal; seal.own_root = lambda _: False")
    try:
        with pytest.raises(RemoteFailure, match="could not be sealed, and was sealed before"):
            one.encode(PICTURE, LINK)
        assert "seal" not in one.home.measures(seal=True)
        hostile(one.home, "Keeps").encode(PICTURE, LINK)
    finally:
        one.home.close()


def test_a_folder_that_is_not_taken_away_leaves_nothing_unsealed(home):
    other = _home_where("from bench.measure.apart import seal; seal._detach = lambda path: path != '/usr'")
    try:
        with pytest.raises(RemoteFailure, match="^the kernel does not take all folders away from it "):
            hostile(other, "Keeps").encode(PICTURE, LINK)
    finally:
        other.close()


def test_where_the_kernel_gives_no_proc_of_its_own_nothing_is_sealed_and_all_works(home):
    """As in containers that hide parts of /proc. It then shows the processes of the whole machine."""
    other = _home_where(
        "from bench.measure.apart import confine as c; hide = c.hide_files; "
        "c.hide_files = lambda *given: hide(*given) and c.libc().umount2(b'/proc', 2) == 0"
    )
    try:
        assert "mount" in other.measures() and "seal" not in other.measures(seal=True)
        hostile(other, "Keeps").encode(PICTURE, LINK)
    finally:
        other.close()


def test_what_is_mapped_is_read_whole_and_what_is_no_file_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", (16 << 30) + 1)  # a hole, which takes no space
    (tmp_path / "line\\012").touch()  # looks like a name with a line break
    read_files([Mapping(str(file), 1)])
    for wrong in (tmp_path, tmp_path / "gone", tmp_path / "large", tmp_path / "line\\012"):
        with pytest.raises(Refused, match="^it maps "):
            read_files([Mapping(str(wrong), 1)])
    assert any(one.path.endswith(".so") or ".so." in one.path for one in mapped_files())


def test_a_file_is_not_forgotten_because_it_is_named_as_one_that_is_gone(tmp_path):
    """Other signs that end a line in Python's eyes do not end one there."""
    maps = []
    for name in ("here (deleted)", "two\x0b0 0 0 0 0", "gone"):
        (tmp_path / name).write_bytes(b"x" * 5000)
        with (tmp_path / name).open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    (tmp_path / "gone").unlink()
    found = [one for one in mapped_files() if one.path.startswith(str(tmp_path))]
    assert sorted(Path(one.path).name for one in found) == ["here (deleted)", "two\x0b0 0 0 0 0"] and len(maps) == 3


def test_a_system_that_needs_a_file_is_told_what_to_do(home):
    with pytest.raises(RemoteFailure, match=r"^ModuleNotFoundError: .*in __init__, or set opens_files = True\)$"):
        hostile(home, "ImportsLate").encode(PICTURE, LINK)


def test_what_a_library_imports_when_it_is_first_used_is_imported_before(home):
    one = hostile(home, "Shows")
    assert len(one.encode(PICTURE, LINK).symbols) == 1 and one.sealed


def test_the_traceback_of_a_sealed_system_shows_its_lines(home):
    one = hostile(home, "ImportsLate")
    with pytest.raises(RemoteFailure) as failure:
        one.encode(PICTURE, LINK)
    assert "import wave" in failure.value.traceback


def test_a_sealed_system_gives_what_the_system_gives(home):
    target = "pooled_pixels:PooledPixels"
    facts = inspect(home, "honest", target, {})
    one = RemoteSystem(home, "honest", target, {}, facts, Sight.of(target, {}), sorted(REPORT_COLUMNS))
    received = transmit(one.encode(PICTURE, LINK), LINK, [1])
    assert one.sealed
    assert torch.equal(one.decode(received, LINK).output, PooledPixels().decode(received, LINK).output)


@pytest.mark.parametrize("per_snr", [False, True])
def test_a_sealed_system_has_the_weights_of_its_checkpoint(home, tmp_path, per_snr):
    """Also one checkpoint per SNR, each beside its sidecar. Their folder lies in that of temporary files."""
    for level in (0.25, 0.75):
        save_file({"level": torch.tensor(level)}, tmp_path / f"{level}.safetensors")
        (tmp_path / f"{level}.json").write_text(json.dumps({"variant": f"v{level}"}))
    low, high = (str(tmp_path / f"{level}.safetensors") for level in (0.25, 0.75))
    one = hostile(home, "Weighted", checkpoint=f"0={low},10={high}" if per_snr else low)
    assert one.variant == ("v0.25@0+v0.75@10" if per_snr else "v0.25")
    for snr, level in ((10.0, 0.75 if per_snr else 0.25), (0.0, 0.25)):
        link = Link("reconstruction", 16, 16, LINK.budget, "awgn", snr)
        received = transmit(one.encode(PICTURE, link), link, [1])
        assert one.sealed and torch.equal(one.decode(received, link).output, torch.full((1, 3, 16, 16), level))
