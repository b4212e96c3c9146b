"""Tests of writing files and of file names: a file is complete or absent; names are short, plain and different;
unreadable JSON gives one line.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.util.files import (
    NAME_BYTES,
    StorageError,
    clash,
    is_formula,
    no_formula,
    open_atomic,
    read_json,
    replacing,
    several,
    shown,
    slug,
    write_all,
    write_atomic,
)
from systems.errors import UserError


@given(st.text(st.characters(), max_size=400))
def test_any_text_gives_a_short_plain_name(text):
    name = slug(text)
    assert 0 < len(os.fsencode(name)) <= NAME_BYTES
    assert name.isascii() and name.isprintable() and "/" not in name and not name.startswith(".")


@given(st.sets(st.text(st.sampled_from("ab-/\r\\ .é0123456789"), max_size=30), max_size=30))
def test_different_texts_have_different_names(texts):
    texts |= {slug(text) for text in texts}  # names that are already slugs
    assert len({slug(text) for text in texts}) == len(texts)


def test_long_names_that_differ_at_the_end_differ():
    names = ["x" * 300, "x" * 299 + "y", "é" * 200, "\udcff" * 250]
    assert len({slug(name) for name in names}) == 4
    assert slug("plain_name-1.png") == "plain_name-1.png"


def test_names_that_differ_in_case_alone_are_one():
    assert clash(["a", "b", "A-b"]) == clash([]) == "" and clash(["b", "a", "b"]) == "'b'"
    assert clash(["mine", "b", "MINE"]).startswith("'mine' ('MINE' is the same name")
    assert slug("a", hashed=True) != slug("a") == "a" and slug("a", hashed=True) != slug("A", hashed=True).lower()


@pytest.mark.parametrize("fails", ["writer", "disk"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "t.csv"
    write_atomic(path, b"old")
    if fails == "disk":
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError if fails == "disk" else ZeroDivisionError):
        with open_atomic(path) as file:
            file.write(b"new" if fails == "disk" else b"n" * (1 // 0))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize("refuses", ["a folder in its place", "a file as its folder", "the disk"])
def test_several_files_are_all_written_or_none(tmp_path, monkeypatch, refuses):
    """Also the folders that were made for them are gone."""
    write_atomic(tmp_path / "a.csv", b"old")
    last = tmp_path / "new" / "deep" / "c.csv"
    if refuses == "a folder in its place":
        last = tmp_path / "c.csv"
        last.mkdir()
    elif refuses == "a file as its folder":
        last = tmp_path / "a.csv" / "c.csv"
    else:
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(StorageError, match=f"cannot write .*{last.name}"):
        write_all({tmp_path / "a.csv": b"1", tmp_path / "new" / "deep" / "b.csv": b"2", last: b"3"})
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_several_files(tmp_path):
    files = {tmp_path / "new" / name: name.encode() for name in "abc"}
    assert write_all(files) == list(files) and all(path.read_bytes() == data for path, data in files.items())
    assert len(os.listdir(tmp_path / "new")) == 3


@pytest.mark.parametrize(
    "place",
    ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/x", "/dev/new/file", "link/null", "socket", "x" * 300 + "/y"],
)
def test_a_device_is_not_replaced_by_a_file(tmp_path, monkeypatch, place):
    """Root may rename a file over /dev/null, and all programs of the machine would then write into that file."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("/dev")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("it was replaced"))  # no test may do that harm
        with pytest.raises(StorageError, match="cannot write"):
            write_atomic(Path(place), b"x")
    assert sorted(os.listdir()) == ["link", "socket"]


def test_shared_memory_is_a_place_for_files():
    path = Path("/dev/shm") / f"bench-test-{os.getpid()}" / "x"
    if not path.parents[1].is_dir():
        pytest.skip("no /dev/shm")
    write_atomic(path, b"x")
    assert path.read_bytes() == b"x"
    path.unlink()
    path.parent.rmdir()


def test_a_library_may_write_by_name(tmp_path):
    with replacing(tmp_path / "new" / ("n" * 250)) as temporary:
        temporary.write_bytes(b"12")
    assert (tmp_path / "new" / ("n" * 250)).read_bytes() == b"12" and len(os.listdir(tmp_path / "new")) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe1", "UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b"", "not JSON"),
    ],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, content, words):
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_json(path, "manifest")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_json_that_can(tmp_path):
    path = tmp_path / "m.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": "é"}, ensure_ascii=False).encode())
    assert read_json(path) == {"a": "é"} and read_json(tmp_path / "none.json") is None
    with pytest.raises(UserError, match="folder"):
        read_json(tmp_path)


def test_one_thing_has_no_s():
    assert [several(count, "picture") for count in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]


def test_no_name_turns_the_direction_of_a_line():
    assert shown("a\u202e\u2066\u200bb") == "a\\u202e\\u2066\\u200bb" and shown("é图") == "é图"


def test_a_formula_of_a_sheet_is_told_from_a_number():
    assert all(
        map(is_formula, ("=1+1", "@SUM(A1)", "+A1", "-1+cmd|' /C calc'!A1", " =A1", "＝1", "＋A1", "－A1", " ＠A"))
    )
    assert all(map(is_formula, ("a;=A1", "1; @A", "a；-A")))  # such as where numbers are written with a comma
    for text in ("", "-12.5", "+3e-4", "-inf", "16qam-5/6", "4:2:0", "a=b", "1;-2", "a; b-c"):
        assert not is_formula(text) and no_formula(text) == text
    assert no_formula("=A1") == "'=A1" and no_formula("a；=A1") == "'a,=A1"
