"""Tests of the reader of text, JSON and TOML: any encoding and any kind of file gives its text or one line."""

import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.util.files import decode_text, read_bytes, read_json, read_text, read_toml, shown, user_path
from systems.errors import UserError, did_you_mean


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("2007_000001\n".encode("utf-8-sig"))
    assert read_text(path) == "2007_000001\n"
    (tmp_path / "t.toml").write_bytes('a = "é"'.encode("utf-8-sig"))
    assert read_toml(tmp_path / "t.toml") == {"a": "é"}
    (tmp_path / "j.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "j.json") == [1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_is_one_line_with_the_file_and_the_fix(tmp_path, encoding):
    path = tmp_path / "list.txt"
    path.write_bytes("caf\u00e9 is a name\n".encode(encoding))
    with pytest.raises(UserError, match="list.txt: cannot read this split: .*save it in UTF-8") as caught:
        read_text(path, "split")
    assert "\n" not in str(caught.value)


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    for name, words in (("pipe", "pipe"), ("loop", "symbolic links"), ("nowhere", "No such file"), (".", "folder")):
        with pytest.raises(UserError, match=words):
            read_text(tmp_path / name)
    with pytest.raises(UserError, match="device"):
        read_text("/dev/zero")
    with pytest.raises(OSError, match="NUL"):
        read_bytes("a\0b")
    with pytest.raises(UserError, match="too long"):
        read_text(tmp_path / ("x" * 300))


def test_deep_or_endless_values_are_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "a.toml").write_text("a = " + "[" * 100_000)
    (tmp_path / "b.toml").write_text("a = " + "9" * 5000)
    (tmp_path / "c.toml").write_text('a = [{b = "x\\u0000y"}]')
    (tmp_path / "d.toml").write_text('"a\\u0000" = 1')
    (tmp_path / "b.json").write_text("9" * 5000)
    for name, words in (("a.toml", "too deep"), ("b.toml", "digits"), ("c.toml", "NUL"), ("d.toml", "NUL")):
        with pytest.raises(UserError, match=words) as caught:
            read_toml(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    for name in ("a.json", "b.json"):
        with pytest.raises(UserError, match=name):
            read_json(tmp_path / name)
    assert read_json(tmp_path / "none.json") is None


@given(st.binary())
def test_any_bytes_are_text_or_a_reason(data):
    try:
        text = decode_text(data)
    except ValueError as error:
        assert "save it in UTF-8" in str(error)
    else:
        assert text.encode() in (data, data.removeprefix(b"\xef\xbb\xbf")) and "\0" not in text


@given(st.text(st.characters(), max_size=400))
def test_what_is_shown_is_one_line_that_utf8_holds(text):
    line = shown(text)
    line.encode()
    assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in line)
    assert len(shown(text, most=50)) <= 50 * 10


def test_bytes_of_names_that_are_no_utf8_stay_readable():
    assert shown(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"
    assert shown("a\rb\nc") == "a\\rb\\nc"
    assert shown("фото é 图片") == "фото é 图片"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\0b", "NUL"),
        ("x/" + "é" * 128, "256 bytes"),
        ("ab/" * 2000, "6000 bytes"),
        ("~nobody-of-that-name/x", "home"),
    ],
)
def test_paths_that_no_file_can_have_are_refused_with_the_flag(text, words):
    with pytest.raises(UserError, match=words) as caught:
        user_path(text, "--out")
    assert str(caught.value).startswith("--out") and "\n" not in str(caught.value)


def test_a_path_is_taken_as_it_is(tmp_path):
    assert user_path(str(tmp_path), "--out") == tmp_path
    assert json.dumps(str(user_path("~/x", "--out"))) == json.dumps(os.path.expanduser("~/x"))


def test_hints_name_the_nearest_or_all():
    assert did_you_mean("awng", ["awgn", "fast"], "channels") == "did you mean awgn?"
    assert did_you_mean("zzz", ["awgn", "fast"], "channels") == "channels are awgn, fast"
    assert did_you_mean("a" * 10**6, ["awgn"], "channels") == "channels are awgn"
