"""Tests of cells and archives: nonsense is left out and named; a good cell is read back as it was written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import zipfile

import numpy as np
import pandas as pd
import pytest
from harness import killed_at
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.results.csv_tables import compress, field_text, line_of, read_frame, read_rows, shorten, table_text
from bench.results.schema import CELL_COLUMNS, CELLS, TABLES, TEXT, problem_of, read_cell_rows
from bench.results.store import RunStore
from systems.errors import UserError


def row(cell="c1", image="a", **changes):
    return {
        "schema": 1, "cell_id": cell, "system": "s", "task": "reconstruction", "image_id": image, "rep": 0,
        "snr_db": 4.0, "psnr_db": 30.5, "status": "ok", "n_uses": 9408, **changes,
    }  # fmt: skip


def text_of(rows):
    return table_text(CELL_COLUMNS, rows)


NONSENSE = {
    "psnr_db=abc": {"psnr_db": "abc"},
    "psnr_db=nan": {"psnr_db": "nan"},
    "psnr_db=inf": {"psnr_db": "inf"},
    "psnr_db=1e999": {"psnr_db": "1e999"},
    "psnr_db=10^400": {"psnr_db": "1" + "0" * 400},
    "n_uses=-3": {"n_uses": "-3"},
    "n_uses=1.5": {"n_uses": "1.5"},
    "status": {"status": "maybe"},
    "task": {"task": "painting"},
    "three fields": {"confusion": "1:2:3"},
    "class 99": {"confusion": "99:1:1:1"},
    "class twice": {"confusion": "1:1:1:1;1:1:1:1"},
    "more right than shown": {"confusion": "1:5:9:4"},
    "text": {"confusion": "cat:1:1:1"},
}


@pytest.mark.parametrize("changes", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_refused_when_written_and_when_read(tmp_path, changes):
    if changes.get("psnr_db") != "nan":
        with pytest.raises(
            UserError, match=f"s gave a row that does not fit the tables.*{next(iter(changes))}|do not add up"
        ):
            RunStore(tmp_path / "written").write_cell("c1", [row(**changes)])
        assert not (tmp_path / "written").exists()
    store = RunStore(tmp_path / "read")
    store.write_cell("c1", [row()])
    store.cell_path("c1").write_text(text_of([row(**changes)]))
    store.look()
    assert not store.has_cell("c1", ("a",)) and store.read_cell("c1", ("a",)) is None
    (line,) = store.refusals()
    assert "cell c1 is left out" in line and store.refusals() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("psnr_db", "psnr"),
        lambda text: text + "1,c1\n",
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text[:-3],
        lambda text: text.replace("c1", "c2"),
        lambda text: text.replace("30.5", '"30.5'),
        lambda text: text + "\0",
    ],
)
def test_a_damaged_file_is_no_cell(damage):
    whole = text_of([row()])
    assert isinstance(read_cell_rows("c1", whole.encode()), list)
    assert isinstance(read_cell_rows("c1", damage(whole).encode()), str)


# ---------------------------------------------------------------- archives


def archive_of(folder, cells, method=zipfile.ZIP_DEFLATED, damage=lambda data: data):
    """An archive whose name holds the true hash of its bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, text in cells.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, method)
    data = damage(out.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pack-{hashlib.sha256(data).hexdigest()[:16]}.zip"
    path.write_bytes(data)
    return path


def encrypted(data):
    """Set the flag of encryption for every entry, in its own header and in the list of entries."""
    changed = bytearray(data)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + place] |= 1
            at = changed.find(mark, at + 1)
    return bytes(changed)


def unknown_method(data):
    changed = bytearray(data)
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + place] = 99
            at = changed.find(mark, at + 1)
    return bytes(changed)


class TestArchives:
    GOOD, BAD = text_of([row("good")]), text_of([row("bad", psnr_db="abc")])

    def found(self, tmp_path):
        store = RunStore(tmp_path)
        store.look()
        return [name for name in ("good", "bad") if store.has_cell(name, ("a",))], store.refusals()

    def test_a_cell_of_nonsense_is_left_out_and_its_neighbour_stays(self, tmp_path):
        archive_of(tmp_path / "cells", {"good.csv": self.GOOD, "bad.csv": self.BAD})
        there, lines = self.found(tmp_path)
        assert there == ["good"] and len(lines) == 1 and "'bad'" in lines[0] and "psnr_db is 'abc'" in lines[0]

    @pytest.mark.parametrize(
        "damage", [encrypted, unknown_method, lambda data: data[: len(data) // 2], lambda data: b""]
    )
    def test_an_entry_that_cannot_be_read_does_not_count(self, tmp_path, damage):
        archive_of(tmp_path / "cells", {"good.csv": self.GOOD}, damage=damage)
        there, lines = self.found(tmp_path)
        assert there == [] and len(lines) == 1 and "left out" in lines[0]

    def test_an_entry_that_unpacks_for_ever_is_no_cell(self, tmp_path):
        archive_of(tmp_path / "cells", {"good.csv": b"0" * (70 << 20)})
        there, lines = self.found(tmp_path)
        assert there == [] and "cannot be unpacked" in lines[0]

    def test_the_holder_sets_damaged_archives_aside_and_keeps_what_is_good(self, tmp_path):
        archive_of(tmp_path / "cells", {"good.csv": self.GOOD, "bad.csv": self.BAD})
        (tmp_path / "cells" / "pack-0123456789abcdef.zip").write_bytes(b"not what its name tells")
        store = RunStore(tmp_path)
        store.write_manifest({"config_sha256": "hash", "config": {"figures": []}})
        store.open("hash")
        store.look()
        assert len(store.refusals()) == 2
        store.pack()
        store.close()
        there, lines = self.found(tmp_path)
        assert there == ["good"] and lines == []
        assert len(list((tmp_path / "cells").glob("damaged-pack-*.zip"))) == 2

    def test_an_archive_is_checked_once(self, tmp_path, monkeypatch):
        import bench.results.cell_archives as archive

        store = RunStore(tmp_path)
        store.open("hash")
        store.archives.add({"good": self.GOOD.encode()})
        store.pack()
        store.close()
        monkeypatch.setattr(archive, "read_cell_rows", lambda *_: pytest.fail("checked again"))
        assert self.found(tmp_path) == (["good"], [])
        monkeypatch.undo()
        # An archive that was not checked before is read in full, also beside one that was.
        archive_of(tmp_path / "cells", {"bad.csv": self.BAD})
        assert self.found(tmp_path)[0] == ["good"]


def test_a_lock_that_is_no_plain_file_is_refused_and_its_target_stays(tmp_path):
    target = tmp_path / "thesis.tex"
    target.write_text("three years of work")
    for make in (lambda lock: lock.symlink_to(target), lambda lock: os.link(target, lock), os.mkfifo, os.mkdir):
        root = tmp_path / "run"
        root.mkdir()
        make(root / ".lock")
        with pytest.raises(UserError, match=r"\.lock is a link or not a plain file; remove it"):
            RunStore(root).open("hash")
        assert target.read_text() == "three years of work"
        (root / ".lock").rmdir() if (root / ".lock").is_dir() and not (root / ".lock").is_symlink() else (
            root / ".lock"
        ).unlink()
        root.rmdir()


def test_other_columns_of_failures_are_one_line(tmp_path):
    (tmp_path / "failures.csv").write_text("cell,why\n1,x\n")
    with pytest.raises(UserError, match="failures.csv: lacks the column 'cell_id'.*or delete it"):
        RunStore(tmp_path).failures()
    (tmp_path / "failures.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="failures.csv"):
        RunStore(tmp_path).failures()


# ---------------------------------------------------------------- properties

NAMES = st.text(st.characters(codec=None), max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_a_cell_of_pictures_of_any_names_is_found_again(tmp_path_factory, images):
    """Also names with CR, NUL, quotes or lone surrogates. Python's csv module, the store and pandas read the same."""
    root = tmp_path_factory.getbasetemp() / "names"
    store = RunStore(root)
    store.write_cell("c1", [row(image=image) for image in images])
    assert store.read_cell("c1", tuple(images)) is not None
    with open(store.cell_path("c1"), encoding="utf-8", newline="") as file:
        assert [r["image_id"] for r in csv.DictReader(file)] == [field_text(image) for image in images]
    store.write_table("samples.csv", CELL_COLUMNS, [row(image=image) for image in images])
    frame = read_frame(root / "samples.csv", TABLES["samples"])
    assert list(frame["image_id"]) == [field_text(image) for image in images]
    assert [r["image_id"] for r in read_rows(root / "samples.csv")] == [field_text(image) for image in images]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.floats(-1e307, 1e307) | st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8
    )
)
def test_every_digit_of_every_number_survives(tmp_path_factory, numbers):
    root = tmp_path_factory.getbasetemp() / "numbers"
    store = RunStore(root)
    store.write_cell("c1", [row(image=str(i), psnr_db=value) for i, value in enumerate(numbers)])
    written = [row(image=str(i), psnr_db=v, cbr_target=1 / 48, decode_s=abs(v)) for i, v in enumerate(numbers)]
    store.write_table("samples.csv", CELL_COLUMNS, written)
    frame = read_frame(root / "samples.csv", TABLES["samples"], only=["psnr_db"])
    assert frame["psnr_db"].tolist() == numbers and list(frame) == ["psnr_db"]
    points = read_frame(root / "samples.csv", TABLES["samples"], only=["snr_db", "cbr_target"])
    compress(root / "samples.csv", TABLES["samples"])
    assert read_frame(root / "samples.csv", TABLES["samples"], only=["snr_db", "cbr_target"]).equals(points)
    frame = read_frame(root / "samples.csv", TABLES["samples"], only=["image_id", "psnr_db", "decode_s"])
    assert frame["decode_s"].tolist() == [float(f"{abs(value):.4g}") for value in numbers]  # no clock is better
    assert frame["image_id"].tolist() == [str(i) for i in range(len(numbers))]
    for number, value in zip(numbers, frame["psnr_db"], strict=True):
        assert abs(value - number) <= 5e-9 * abs(number) or abs(number) < 1e-300
        if abs(number) < 2e30 and float(np.float32(number)) == number:
            assert float(np.float32(value)) == number  # nine digits name each float32
    (root / "samples.csv.xz").unlink()
    place = CELL_COLUMNS.index("psnr_db")
    kept = store.read_cell("c1", tuple(str(i) for i in range(len(numbers))))
    assert [float(r[place]) for r in kept] == numbers


def test_a_shortened_table_keeps_nine_digits_and_the_operating_point(tmp_path):
    path, columns = tmp_path / "summary.csv", [column.name for column in TABLES["summary"]]
    means = [23.487378186384625, 1 / 3, 2.0, float("nan")]
    path.write_text(table_text(columns, [{"cbr_target": 1 / 48, "mean": mean, "n_images": 100} for mean in means]))
    assert shorten(path, TABLES["summary"]) == path
    frame = read_frame(path, TABLES["summary"])
    assert frame["mean"].tolist()[:3] == [23.4873782, 0.333333333, 2.0] and np.isnan(frame["mean"][3])
    assert set(frame["cbr_target"]) == {1 / 48} and set(frame["n_images"]) == {100}
    path.write_text(path.read_text().replace("2.0", "two"))
    damaged = path.read_bytes()
    with pytest.raises(UserError, match="not a CSV table of a run in line 4"):
        shorten(path, TABLES["summary"])
    assert path.read_bytes() == damaged


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([c for c in CELLS if c.kind != TEXT]),
    st.text(max_size=12) | st.text("0123456789.eE+-:;", max_size=9) | st.floats().map(repr) | st.integers().map(str),
)
def test_what_the_check_lets_through_the_readers_can_read(column, text):
    """The check decides: a field that it accepts is a number (or empty) to pandas, and a field that it refuses is
    named.
    """
    problem = problem_of({"cell_id": "c1", column.name: text})
    data = text_of([{"cell_id": "c1", column.name: text}]).encode()
    assert isinstance(read_cell_rows("c1", data), str) == (problem is not None)
    if problem is None and text and column.kind != "class counts":
        assert np.isfinite(float(text))
    if problem is not None:
        assert column.name in problem or "add up" in problem


@given(st.lists(st.text(), min_size=2, max_size=5))
def test_a_line_is_what_the_csv_module_reads(fields):
    fields = [field_text(field) for field in fields]
    assert next(csv.reader(io.StringIO(line_of(fields) + "\n", newline=""))) == fields


def test_a_short_row_of_a_table_is_one_line(tmp_path):
    (tmp_path / "failures.csv").write_text(table_text([c.name for c in TABLES["failures"]], []) + "c1,s\n")
    with pytest.raises(UserError, match="row 1 has another number of fields"):
        read_rows(tmp_path / "failures.csv")
    whole = (tmp_path / "failures.csv").read_text()
    (tmp_path / "failures.csv").write_text(whole[:-1])
    with pytest.raises(UserError, match="cut short"):
        read_frame(tmp_path / "failures.csv", TABLES["failures"])


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n"])
def test_an_empty_file_is_a_damaged_table(tmp_path, content):
    """A run writes the header of a table without rows. Figures and reports of an emptied table said nothing."""
    (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(UserError, match="samples.csv: it is empty"):
        read_frame(tmp_path / "samples.csv", TABLES["samples"])
    (tmp_path / "samples.csv").write_text(table_text([c.name for c in TABLES["samples"]], []))
    assert read_frame(tmp_path / "samples.csv", TABLES["samples"]).empty


@pytest.mark.parametrize("only", [None, ["source_chroma"], ["source_chroma", "psnr_db"]])
def test_a_column_of_a_later_schema_reads_as_empty_in_an_earlier_table(tmp_path, only):
    earlier = [column.name for column in TABLES["samples"] if column.since == 1]
    assert "source_chroma" not in earlier
    rows = [{"cell_id": "c1", "psnr_db": 30.5}, {"cell_id": "c1", "psnr_db": 31.5}]
    (tmp_path / "samples.csv").write_text(table_text(earlier, rows))
    frame = read_frame(tmp_path / "samples.csv", TABLES["samples"], only=only)
    assert frame["source_chroma"].tolist() == ["", ""]
    assert set(frame) == set(only or [column.name for column in TABLES["samples"]])
    assert only == ["source_chroma"] or frame["psnr_db"].tolist() == [30.5, 31.5]


def test_a_column_of_the_first_schema_may_not_be_missing(tmp_path):
    columns = [column.name for column in TABLES["samples"] if column.name != "n_uses"]
    (tmp_path / "samples.csv").write_text(table_text(columns, [{"cell_id": "c1"}]))
    with pytest.raises(UserError, match="lacks the column 'n_uses'"):
        read_frame(tmp_path / "samples.csv", TABLES["samples"])


def test_a_table_of_an_earlier_schema_is_read(tmp_path):
    """Its missing columns read as empty."""
    newer = {column.name for column in TABLES["samples"] if column.since > 1}
    columns = [column.name for column in TABLES["samples"] if column.name not in newer]
    (tmp_path / "samples.csv").write_text(table_text(columns, [{"cell_id": "c1", "psnr_db": 30.5}]))
    frame = read_frame(tmp_path / "samples.csv", TABLES["samples"])
    assert newer and frame["psnr_db"].tolist() == [30.5]
    assert all(frame[name].isna().all() or set(frame[name]) == {""} for name in newer)


def test_every_column_is_documented():
    for table in TABLES.values():
        assert len({c.name for c in table}) == len(table)
        assert all(len(c.meaning) > 5 for c in table)
        assert all(c.unit for c in table if c.name.endswith(("_s", "_db", "_bits", "_uses")))


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling link"])
def test_what_is_no_plain_file_among_the_cells_is_left_out_at_once(tmp_path, kind):
    """A pipe would block its reader for ever."""

    def put(path):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("nowhere")

    store = RunStore(tmp_path)
    store.open("hash")
    store.write_cell("c1", [row("c1")])
    for name in ("c2.csv", "pack-0123456789abcdef.zip", ".checked"):
        put(tmp_path / "cells" / name)
    store.look()
    assert store.has_cell("c1", ("a",)) and not store.has_cell("c2", ("a",))
    assert store.read_cell("c2", ("a",)) is None
    store.pack()
    assert RunStore(tmp_path).read_cell("c1", ("a",)) is not None
    store.close()


# ---------------------------------------------------------------- crashes

CALLS = ("open", "close", "replace", "unlink", "fsync", "chmod", "mkdir", "write", "fdopen", "scandir")


def work_on_a_run(root, say, calls):
    """Do what a sweep does to a folder: write cells, archives, cells again, and a table. `calls()` is the number of
    calls so far.
    """
    store = RunStore(root)
    store.open("hash")
    store.write_manifest({"config_sha256": "hash", "config": {"figures": []}})

    def cell(index, psnr):
        store.write_cell(f"c{index}", [row(f"c{index}", psnr_db=psnr)])
        say(f"done c{index} {psnr}")

    store.look()
    for index in range(7):
        if not store.has_cell(f"c{index}", ("a",)):
            cell(index, 20.0 + index)
            if index == 3:
                store.pack()
    store.pack()
    say("dropping c1")
    store.drop_cells(["c1"])
    cell(1, 99.0)
    store.pack()
    store.write_table("samples.csv", ("x",), ({"x": index} for index in range(5)))
    say(f"calls {calls()}")


def in_a_child(root, log, stop):
    """Run `work_on_a_run` in a process that is killed at its call number `stop` (0: never); returns its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        import bench.results.store as store_module

        store_module.PACK_CELLS = 3
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        write = os.write
        count = killed_at(stop, CALLS)
        work_on_a_run(root, lambda text: write(out, f"{text}\n".encode()), lambda: count[0])
        code = 0
    finally:
        os._exit(code)


@pytest.mark.slow
def test_a_kill_at_any_call_of_the_system_loses_and_changes_nothing(tmp_path):
    """Every cell that was reported as done is there with its own number. The next command ends as if nothing had been
    killed.
    """

    log = tmp_path / "log"
    assert in_a_child(tmp_path / "whole", log, 0) == 0
    calls = int(log.read_text().split("calls")[1])
    assert calls > 100
    place = CELL_COLUMNS.index("psnr_db")

    def psnr_of(store, name):
        rows = store.read_cell(name, ("a",))
        return None if rows is None else rows[0][place]

    for stop in range(1, calls + 1):
        root = tmp_path / f"at-{stop}"
        assert in_a_child(root, log, stop) == -signal.SIGKILL
        lines = log.read_text().splitlines()
        said = dict(line.split()[1:] for line in lines if line.startswith("done"))
        store = RunStore(root)
        store.look()
        for name, psnr in said.items():
            # After c1 was dropped, it has its old number, none, or its new one.
            allowed = (
                {psnr, "21.0", None, "99.0"} if name == "c1" and "dropping c1" in lines and psnr != "99.0" else {psnr}
            )
            assert psnr_of(store, name) in allowed, (stop, name)
        assert store.refusals() == []
        if (root / "samples.csv").exists():
            assert list(pd.read_csv(root / "samples.csv")["x"]) == [0, 1, 2, 3, 4]
        if (root / "manifest.json").exists():
            assert json.loads((root / "manifest.json").read_text())["config_sha256"] == "hash"
        assert in_a_child(root, log, 0) == 0, stop
        last = RunStore(root)
        last.look()
        assert [psnr_of(last, f"c{i}") for i in range(7)] == ["20.0", "99.0", "22.0", "23.0", "24.0", "25.0", "26.0"]
        assert not list(root.rglob("*.tmp"))
