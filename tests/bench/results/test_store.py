"""Tests of the store: files are complete or absent, a folder belongs to one run, a lock ends with its process."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from harness import ROOT

from bench.results.csv_tables import field_text, read_rows, table_text
from bench.results.schema import CELL_COLUMNS, SAMPLE_COLUMNS
from bench.results.store import RunStore
from bench.util.files import StorageError, slug, write_atomic
from systems.errors import UserError

MANIFEST = {"config_sha256": "aaa", "config": {"figures": []}}


def test_numbers_keep_every_digit(tmp_path):
    values = [0.1 + 0.2, 1 / 3, 5e-324, -0.0, 1e300, np.float64(2) / 3, math.pi]
    write_atomic(tmp_path / "t.csv", table_text(["x"], [{"x": value} for value in values]).encode())
    assert [float(row["x"]) for row in read_rows(tmp_path / "t.csv")] == [float(value) for value in values]
    assert [field_text(value) for value in (None, math.nan, np.float32("nan"), 0, 0.0, True, "a")] == [
        "", "", "", "0", "0.0", "true", "a"]  # fmt: skip


def test_odd_texts_survive(tmp_path):
    values = ['a,b"c', "line\nbreak", "æ", ";:'"]
    write_atomic(tmp_path / "t.csv", table_text(["x"], [{"x": value} for value in values]).encode())
    assert [row["x"] for row in read_rows(tmp_path / "t.csv")] == values


def test_unknown_columns_are_refused():
    with pytest.raises(ValueError, match="y"):
        table_text(["x"], [{"x": 1, "y": 2}])


def test_slugs_differ_and_stay_inside():
    names = ["a", "a/b", "a_b", "../x", ".hidden", "", "a b", "a:b"]
    assert len({slug(name) for name in names}) == len(names)
    assert all("/" not in slug(name) and not slug(name).startswith(".") for name in names)


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    """With RLIMIT_FSIZE the kernel refuses the file, as it does on a full disk. The limit holds for a process, so the
    test uses its own.
    """
    path = tmp_path / "cells" / "t.csv"
    write_atomic(path, b"old")
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom bench.util.files import write_atomic, StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except StorageError as error:\n    print(error)\n    sys.exit(2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stdout and "finished cells are kept" in done.stdout
    assert path.read_bytes() == b"old"
    assert [child.name for child in path.parent.iterdir()] == ["t.csv"]


def test_a_folder_is_one_runs(tmp_path):
    store = RunStore(tmp_path / "run")
    store.check("aaa")
    assert not store.root.exists()
    store.open("aaa")
    store.write_manifest(MANIFEST)
    store.close()
    store.open("aaa")
    store.close()
    with pytest.raises(UserError, match="another configuration"):
        store.check("bbb")
    with pytest.raises(UserError, match="another configuration"):
        store.open("bbb")
    RunStore(store.root).open("aaa")  # the lock is free
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not a run"):
        RunStore(tmp_path / "papers").open("aaa")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        RunStore(tmp_path / "file").check("aaa")
    with pytest.raises(StorageError, match="cannot write"):
        RunStore(tmp_path / "file" / "below").open("aaa")
    for name, target in (("dangling", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(UserError, match=f"{name} is a link that leads nowhere"):
            RunStore(tmp_path / name).check("aaa")
    (tmp_path / "good").symlink_to("run")
    RunStore(tmp_path / "good").check("aaa")


def test_a_folder_in_which_another_command_begins_a_run_is_locked(tmp_path):
    """Both commands found no run there. The second has other systems, and learns that it has to wait."""
    first, second = RunStore(tmp_path / "run"), RunStore(tmp_path / "run")
    first.open("aaa")
    for begun in (False, True):
        if begun:
            first.write_manifest(MANIFEST)
        with pytest.raises(UserError, match="another run .* is writing there; wait for it"):
            second.open("bbb")
    first.close()
    with pytest.raises(UserError, match="another configuration, which another command has just written; repeat"):
        second.open("bbb")


@pytest.mark.parametrize(
    "name",
    [
        "samples.csv",
        "failures.csv",
        "samples.csv.xz",
        "manifest.json",
        ".salt",
        "plan.json",
        "cells/c1.csv",
        "cells/.checked",
    ],
)
def test_a_folder_in_the_place_of_a_file_is_found_before_work_begins(tmp_path, name):
    if name != "manifest.json":
        RunStore(tmp_path).write_manifest({"config_sha256": "hash", "config": {"figures": []}})
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{tmp_path / name}"):
        RunStore(tmp_path).open("hash")
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("name", ["cells", "pictures", "failures", ".uses"])
@pytest.mark.parametrize("kind", ["file", "pipe", "dangling link"])
def test_a_file_in_the_place_of_a_folder_is_found_before_work_begins(tmp_path, name, kind):
    store = RunStore(tmp_path)
    store.open("hash")
    store.write_manifest({"config_sha256": "hash", "config": {"figures": []}})
    store.close()
    path = tmp_path / name
    {"file": path.touch, "pipe": lambda: os.mkfifo(path), "dangling link": lambda: path.symlink_to("nowhere")}[kind]()
    with pytest.raises(UserError, match=f"{name} is no folder"):
        RunStore(tmp_path).open("hash")


def test_a_run_that_never_began_leaves_no_folder(tmp_path):
    """The disk was full before the manifest, for example. A folder that was there before stays, and so do its files."""
    for root in (tmp_path / "new" / "run", tmp_path / "old"):
        if root.name == "old":
            root.mkdir()
        store = RunStore(root)
        store.open("hash")
        for name in (".salt", "plan.json"):
            write_atomic(root / name, b"{}")
        store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old" / "plan.json").exists()
    store = RunStore(tmp_path / "other" / "run")
    store.open("hash")
    store.write_cell("c1", [{"cell_id": "c1", "image_id": "a", "psnr_db": 20.0}])
    store.close()
    assert store.cell_path("c1").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    root = tmp_path / "run"
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom bench.results.store import RunStore\n"
        "store = RunStore(Path(sys.argv[1])); store.open('aaa')\n"
        "store.write_manifest({'config_sha256': 'aaa', 'config': {'figures': []}})\n"
        "print('locked', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            RunStore(root).open("aaa")
        beside = RunStore(root)  # --collect works beside a run that waits for its jobs; the run keeps its lock
        beside.open("aaa", shared=True, beside=True)
        beside.write_table("samples.csv", ("x",), [{"x": 1}])
        beside.close()
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            RunStore(root).open("aaa")
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    time.sleep(0.05)
    (root / "cells").mkdir()
    (root / "cells" / ".x.csv.1.tmp").write_text("half")
    store = RunStore(root)
    store.open("aaa")  # the lock and the partial files of the dead process are gone
    assert list((root / "cells").iterdir()) == []
    store.close()


def test_a_cell_of_other_pictures_is_no_cell(tmp_path):
    store = RunStore(tmp_path)
    row = dict.fromkeys(SAMPLE_COLUMNS) | {"cell_id": "c1", "image_id": "a"}
    store.write_cell("c1", [row, row | {"image_id": "b"}])
    image = CELL_COLUMNS.index("image_id")
    assert [r[image] for r in store.read_cell("c1", ("a", "b"))] == ["a", "b"]
    assert store.read_cell("c1", ("a",)) is None
    assert store.read_cell("c2", ("a", "b")) is None
    text = store.cell_path("c1").read_text()
    # Damage from outside: an atomic write cannot leave this state.
    garbage = b"\x89PNG\xff\xfe\x00" * 9
    for damaged in (text[: text.rindex("c1")].encode(), text.encode()[:-8], garbage, text.encode() + garbage, b""):
        store.cell_path("c1").write_bytes(damaged)
        assert store.read_cell("c1", ("a", "b")) is None
    store.cell_path("c1").write_text(text)
    assert store.read_cell("c1", ("a", "b")) is not None


@pytest.mark.parametrize("content", [b"[]", b"3", b"{", b"\xff\xfe"])
def test_a_manifest_that_is_none_is_one_error(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="manifest.json"):
        RunStore(tmp_path).open("aaa")


class TestPacks:
    def filled(self, tmp_path, monkeypatch, count=7):
        monkeypatch.setattr("bench.results.store.PACK_CELLS", 3)
        store = RunStore(tmp_path / "run")
        store.open("hash")
        for index in range(count):
            store.write_cell(f"c{index}", [{"cell_id": f"c{index}", "image_id": "a", "psnr_db": 20 + index / 7}])
        return store

    def test_packed_cells_read_as_they_were_and_few_files_are_left(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch)
        before = [store.read_cell(f"c{index}", ("a",)) for index in range(7)]
        store.pack()
        left = [path.name for path in (store.root / "cells").iterdir() if not path.name.startswith(".")]
        assert len(left) == 3  # two archives of three, and one cell
        again = RunStore(store.root)  # the state that the next run finds
        again.look()
        assert [again.read_cell(f"c{index}", ("a",)) for index in range(7)] == before
        assert all(again.has_cell(f"c{index}", ("a",)) for index in range(7)) and not again.has_cell("c7", ("a",))

    def test_a_damaged_archive_is_left_out_whole(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch)
        store.pack()
        pack = sorted((store.root / "cells").glob("*.zip"))[0]
        data = pack.read_bytes()
        pack.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        again = RunStore(store.root)
        again.look()
        assert sum(again.has_cell(f"c{index}", ("a",)) for index in range(7)) == 4

    def test_a_damaged_archive_is_set_aside_and_named(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch)
        store.pack()
        store.close()
        store.write_manifest({"config_sha256": "hash", "config": {"figures": []}})
        (pack, other) = sorted((store.root / "cells").glob("*.zip"))
        pack.write_bytes(pack.read_bytes()[:100])
        again = RunStore(store.root)
        again.open("hash")
        again.look()
        again.pack()
        again.close()
        aside = pack.with_name(f"damaged-{pack.name}")
        assert aside.read_bytes() and not pack.exists() and other.exists()
        (line,) = again.refusals()
        assert pack.name in line and "does not match the hash" in line and f"now called {aside.name}" in line

    def test_dropped_cells_are_gone_and_their_neighbours_stay(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch)
        store.pack()
        store.drop_cells(["c1", "c6"])
        again = RunStore(store.root)
        again.look()
        assert [index for index in range(7) if again.has_cell(f"c{index}", ("a",))] == [0, 2, 3, 4, 5]

    def test_a_cell_computed_anew_counts_and_a_damaged_one_is_not_packed(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch, 3)
        store.pack()
        store.write_cell("c0", [{"cell_id": "c0", "image_id": "a", "psnr_db": 99.0}])
        for index in (3, 4):
            store.write_cell(f"c{index}", [{"cell_id": f"c{index}", "image_id": "a"}])
        store.cell_path("c4").write_text("half a ta")
        store.pack()
        again = RunStore(store.root)
        again.look()
        assert again.read_cell("c0", ("a",))[0][CELL_COLUMNS.index("psnr_db")] == "99.0"
        assert [index for index in range(6) if again.has_cell(f"c{index}", ("a",))] == [0, 1, 2, 3]

    def test_who_does_not_hold_the_lock_packs_nothing(self, tmp_path, monkeypatch):
        store = self.filled(tmp_path, monkeypatch)
        RunStore(store.root).pack()
        assert not list((store.root / "cells").glob("*.zip"))
