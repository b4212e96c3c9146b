"""Tests of fetching, against a local server: broken connections, resuming, checksums, unsafe archives. No network is
needed.
"""

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from bench.data import open_dataset
from bench.data.fetch import download as module
from bench.data.fetch import fetch, unpack
from bench.data.fetch.sources import SOURCES
from bench.data.fetch.unpack import extract
from systems.errors import UnknownName, UserError


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes by path and supports Range. Each entry of `break_after`, a path and a number of bytes, ends one
    answer for this path after that number of bytes.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.break_after, self.requests, self.ranges, self.etag = {}, {}, [], True, '"one"'
        self.redirects, self.kind, self.headers_seen = {}, "", ""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, unquote(self.path).lstrip("/")
        wanted = self.headers.get("Range")
        server.requests.append((path, wanted))
        server.headers_seen += str(self.headers)
        if path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            return self.end_headers()
        if server.kind:
            return self.misbehave(server.files[path], wanted)
        if path not in server.files:
            return self.send_error(404)
        content, start = server.files[path], 0
        if wanted and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        breaks = server.break_after.get(path, [])
        body = content[start : start + breaks.pop(0)] if breaks else content[start:]
        self.wfile.write(body)
        self.close_connection = True

    def misbehave(self, content, wanted):
        """Four kinds of faulty server at which a simple client would try for ever."""
        kind = self.server.kind
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if kind in ("restart", "wrong range", "endless range") and wanted:
            self.send_response(416 if kind == "restart" else 206)
            self.send_header("Content-Range", "bytes */7" if kind == "restart" else f"bytes {start + 9}-20/30")
        else:
            self.send_response(206 if wanted else 200)
            total = start + 10 if kind == "too long" else len(content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.close_connection = True
        if kind == "too long" and wanted:
            self.end_headers()
            return self.wfile.write(content)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if kind == "drip":
            return self.wfile.write(content[start : start + 1])
        return None if wanted else self.wfile.write(content[:100])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.setattr(module, "CHUNK", 512)


def png(height, width, seed=0, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256 if mode == "RGB" else 21, shape, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(height, width):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def voc_tar():
    base = "VOCdevkit/VOC2012/"
    return tar_of(
        {
            base + "JPEGImages/2007_000033.jpg": jpeg(40, 50),
            base + "SegmentationClass/2007_000033.png": png(40, 50, mode="L"),
            base + "ImageSets/Segmentation/val.txt": b"2007_000033\n",
        }
    )


def sha256(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def everything_under(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def silent(*_):
    pass


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    server.break_after["voc.tar"] = [1000, 3000]
    seen = []
    (target,) = fetch(
        "voc2012", tmp_path, server.url + "voc.tar", lambda *state: seen.append(state), checksum=sha256(content)
    )
    assert server.requests == [("voc.tar", None), ("voc.tar", "bytes=1000-"), ("voc.tar", "bytes=4000-")]
    assert seen[-1] == ("VOCtrainval_11-May-2012.tar", len(content), len(content))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert target == tmp_path / "VOCdevkit/VOC2012"
    assert open_dataset("voc2012", tmp_path).load("2007_000033").image.shape == (3, 224, 224)
    assert len(everything_under(tmp_path)) == 3  # neither the archive nor a partial file is left


def test_a_stopped_command_is_resumed_by_the_next_one(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    server.break_after["voc.tar"] = [700]

    class Killed(Exception):
        pass

    def die(_, done, __):
        if done >= 700:
            raise Killed

    with pytest.raises(Killed):
        fetch("voc2012", tmp_path, server.url + "voc.tar", die, checksum=sha256(content))
    assert not (tmp_path / "VOCdevkit").exists()
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert server.requests[-1] == ("voc.tar", "bytes=700-")
    assert (tmp_path / "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg").is_file()


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_part(server, tmp_path):
    old, new = voc_tar()[::-1], voc_tar()
    server.files["voc.tar"] = old
    server.break_after["voc.tar"] = [900]

    def change(_, done, __):
        if done == 900:
            server.files["voc.tar"], server.etag = new, '"two"'

    fetch("voc2012", tmp_path, server.url + "voc.tar", change, checksum=sha256(new))
    assert open_dataset("voc2012", tmp_path).ids == ("2007_000033",)


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"], server.ranges = content, False
    server.break_after["voc.tar"] = [900]
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert open_dataset("voc2012", tmp_path).ids == ("2007_000033",)


def test_a_whole_part_needs_no_more_bytes(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    waiting = tmp_path / ".fetch/voc2012/VOCtrainval_11-May-2012.tar.part"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(content)
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert server.requests == [("voc.tar", f"bytes={len(content)}-")]


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["voc.tar"] = voc_tar()
    with pytest.raises(
        UserError, match="sha256 .*not e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"
    ):
        fetch("voc2012", tmp_path, server.url + "voc.tar", silent)  # the known checksum holds for mirrors too
    assert list(tmp_path.iterdir()) == []


def test_fetching_again_asks_the_server_nothing(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    for _ in range(2):
        fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert len(server.requests) == 1


def test_div2k_zip(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in (801, 802):
            archive.writestr(f"DIV2K_valid_HR/{number:04d}.png", png(60, 90, number))
    server.files["d.zip"] = buffer.getvalue()
    fetch("div2k-valid", tmp_path, server.url + "d.zip", silent, checksum=sha256(buffer.getvalue()))
    dataset = open_dataset("div2k_valid_hr", tmp_path)
    assert dataset.ids == ("0801", "0802") and dataset.size("0801") == (60, 90)
    assert open_dataset(f"folder:{tmp_path / 'DIV2K_valid_HR'}").ids == dataset.ids


@pytest.fixture
def small_kodak(monkeypatch):
    """Kodak under its own name, but with three pictures of 24x16 and their hashes."""
    names = list(SOURCES["kodak"].files)[:3]
    files = {name: png(16, 24, number) for number, name in enumerate(names)}
    hashes = {name: sha256(content) for name, content in files.items()}
    monkeypatch.setitem(SOURCES, "kodak", replace(SOURCES["kodak"], files=hashes))
    return {f"k/{name}": content for name, content in files.items()}


def test_kodak_pictures_are_gathered_and_checked(server, tmp_path, small_kodak):
    server.files = dict(small_kodak)
    server.break_after = {"k/kodim02.png": [100]}
    fetch("kodak", tmp_path, server.url + "k", silent)
    assert open_dataset("kodak", tmp_path).ids == ("kodim01", "kodim02", "kodim03")
    assert everything_under(tmp_path) == ["kodak/kodim01.png", "kodak/kodim02.png", "kodak/kodim03.png"]


def test_another_picture_in_a_kodak_mirror_is_refused(server, tmp_path, small_kodak):
    for wrong in (b"<html>moved</html>", png(16, 24, 99)):
        server.files = dict(small_kodak) | {"k/kodim02.png": wrong}
        with pytest.raises(UserError, match="kodim02.png has sha256 .*, not "):
            fetch("kodak", tmp_path, server.url + "k", silent)
        assert not (tmp_path / "kodak").exists()
    server.files = dict(small_kodak)
    fetch("kodak", tmp_path, server.url + "k", silent)  # only the refused picture is fetched once more
    assert [path for path, _ in server.requests].count("k/kodim01.png") == 1
    with pytest.raises(UserError, match="--checksum is for one archive"):
        fetch("kodak", tmp_path, checksum=sha256(b""))


def test_every_known_file_has_a_sha256_and_an_https_address():
    for source in SOURCES.values():
        for file, checksum in source.files.items():
            assert module.check_address(source.base_url + file).startswith("https://")
            assert checksum.startswith("sha256:") and len(checksum) == 71
    assert len(SOURCES["kodak"].files) == 24


def test_a_group_brings_the_sets_that_are_not_there(server, tmp_path, monkeypatch):
    for name in ("div2k-valid", "div2k-train"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(f"{SOURCES[name].inside}/0001.png", png(60, 90))
        (file,) = SOURCES[name].files
        server.files[f"m/{file}"] = buffer.getvalue()
        monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files={file: sha256(buffer.getvalue())}))
    (tmp_path / "DIV2K_valid_HR").mkdir()
    folders = fetch("div2k", tmp_path, server.url + "m", silent)
    assert [folder.name for folder in folders] == ["DIV2K_valid_HR", "DIV2K_train_HR"]
    assert [path for path, _ in server.requests] == ["m/DIV2K_train_HR.zip"]


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "VOCdevkit/../../evil.txt", "..\\evil.txt"])
def test_archives_cannot_write_outside_their_folder(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "a.tar").write_bytes(tar_of({name: b"x"}))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    for kind in ("a.tar", "a.zip"):
        with pytest.raises(UserError, match="outside its folder"):
            extract(tmp_path / kind, inside)
    assert everything_under(tmp_path) == ["a.tar", "a.zip"]


def test_links_in_archives_are_refused(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(UserError, match="neither file nor folder"):
        extract(tmp_path / "a.tar", inside)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("out")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc")
    with pytest.raises(UserError, match="holds the link"):
        extract(tmp_path / "a.zip", inside)
    assert list(inside.iterdir()) == []


def test_an_archive_of_something_else_installs_nothing(server, tmp_path):
    wrong = tar_of({"cats/1.txt": b"x"})
    for content, message in ((wrong, "holds no folder"), (b"junk" * 99, "neither a tar nor a zip")):
        server.files["voc.tar"] = content
        with pytest.raises(UserError, match=message):
            fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
        assert list(tmp_path.iterdir()) == []


def test_unreachable_missing_and_unknown(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        fetch("voc2012", tmp_path, server.url + "nothing.tar", silent)
    with pytest.raises(UserError, match="cannot fetch http://127.0.0.1:1/"):
        fetch("voc2012", tmp_path, "http://127.0.0.1:1/voc.tar", silent)
    with pytest.raises(UserError, match="is not an https address"):
        fetch("voc2012", tmp_path, "file:///etc/passwd", silent)
    with pytest.raises(UnknownName, match="did you mean voc2012"):
        fetch("voc2021", tmp_path)
    with pytest.raises(UserError, match="is not md5"):
        fetch("voc2012", tmp_path, checksum="md5:123")
    with pytest.raises(UserError, match="is not md5"):
        fetch("voc2012", tmp_path, checksum="crc32:12345678")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_root_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write under .*file"):
        fetch("kodak", tmp_path / "file", progress=silent)


# ------------------------------------------------------------------------------------------------------ hostile


@pytest.mark.parametrize(
    "address",
    [
        "ftp://example.org/a.tar", "http://example.org/a.tar", "file:///etc/passwd", "https://", "https:///a", "",
        "https://[::1", "https://a b/c", "https://a/\r\nX: y", "https://a:99999999/x", "data:text/plain,x", "\0",
    ],
)  # fmt: skip
def test_only_https_or_this_machine_is_asked(address, tmp_path):
    with pytest.raises(UserError, match="is not an https address") as caught:
        fetch("voc2012", tmp_path, address, silent)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("goal", ["ftp://127.0.0.1/a.tar", "file:///etc/passwd", "http://example.org/a.tar"])
def test_redirects_are_held_to_the_same_rule(server, tmp_path, goal):
    server.redirects["a.tar"] = goal
    with pytest.raises(UserError, match="redirects to an address that is refused|is not allowed"):
        fetch("voc2012", tmp_path, server.url + "a.tar", silent, checksum=sha256(b""))


def test_servers_that_never_come_to_an_end_are_left(server, tmp_path):
    content = bytes(range(256)) * 40
    for kind in ("restart", "drip", "wrong range", "too long", "endless range"):
        server.requests.clear()
        server.files["a.tar"], server.kind = content, kind
        with pytest.raises(UserError, match="cannot fetch|sends more"):
            fetch("voc2012", tmp_path / kind, server.url + "a.tar", silent, checksum=sha256(content))
        assert len(server.requests) <= module.CONNECTIONS, kind


@pytest.mark.parametrize(
    "note", ['{"validator": "x\\r\\nEvil: 1"}', '{"validator": 3}', "[" * 100_000, "\xff", '{"validator": "é"}', "[]"]
)
def test_a_saved_note_can_add_no_header(server, tmp_path, note):
    content = voc_tar()
    server.files["voc.tar"] = content
    waiting = tmp_path / ".fetch/voc2012/VOCtrainval_11-May-2012.tar.part"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(content[:100])
    waiting.with_name(waiting.name + ".json").write_bytes(note.encode("latin-1"))
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert "Evil" not in server.headers_seen


def test_a_file_of_another_checksum_is_not_installed_by_the_next_fetch(server, tmp_path, monkeypatch):
    content = voc_tar()
    server.files["voc.tar"] = content

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("bench.data.fetch.extract", full)
        with pytest.raises(UserError, match="the disk is full"):
            fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    assert (tmp_path / ".fetch/voc2012/VOCtrainval_11-May-2012.tar").is_file()
    with pytest.raises(UserError, match="not e14f7632"):
        fetch("voc2012", tmp_path, server.url + "voc.tar", silent)
    assert everything_under(tmp_path) == []


def test_a_killed_exchange_of_folders_is_mended(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
    target = tmp_path / "VOCdevkit/VOC2012"
    shutil.copytree(target, target.with_name(".VOC2012.old"))  # the state after a kill that came after the exchange
    fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content), force=True)
    assert not target.with_name(".VOC2012.old").exists() and target.is_dir()
    target.rename(target.with_name(".VOC2012.old"))  # the state after a kill in the middle of the exchange
    server.files.clear()
    assert fetch("voc2012", tmp_path, server.url + "voc.tar", silent) == [target] and target.is_dir()


def test_two_fetches_at_once_are_told_apart(server, tmp_path):
    content = voc_tar()
    server.files["voc.tar"] = content
    errors = []

    def second(*_):
        if not errors:
            with pytest.raises(UserError, match="another command fetches voc2012") as caught:
                fetch("voc2012", tmp_path, server.url + "voc.tar", silent, checksum=sha256(content))
            errors.append(caught.value)

    fetch("voc2012", tmp_path, server.url + "voc.tar", second, checksum=sha256(content))
    assert errors and everything_under(tmp_path)[0].startswith("VOCdevkit") and not (tmp_path / ".fetch").exists()


def test_bombs_and_broken_archives_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "SPARE_BYTES", 10_000)
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 50)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 5_000_000)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(60):
            archive.writestr(f"{number}/", b"")
    whole = (tmp_path / "bomb.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-20])
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(encrypted)
    unknown = bytearray(whole)
    unknown[8] = unknown[whole.index(b"PK\1\2") + 10] = 77
    (tmp_path / "unknown.zip").write_bytes(unknown)
    (tmp_path / "both.tar").write_bytes(tar_of({"a": b"x", "a/b": b"y"}))
    (tmp_path / "long.tar").write_bytes(tar_of({"a" * 300: b"x"}))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    (tmp_path / "half.tar").write_bytes(tar_of({"a": b"x" * 5000})[:2000])
    for name, words in (
        ("bomb.zip", "decompression bomb"), ("many.zip", "more than 50 files"), ("cut.zip", "neither a tar nor a zip"),
        ("encrypted.zip", "damaged"), ("unknown.zip", "damaged"), ("both.tar", "damaged"), ("long.tar", "damaged"),
        ("a.tar.gz", "neither a tar nor a zip"), ("half.tar", "damaged"),
    ):  # fmt: skip
        inside = tmp_path / f"in-{name}"
        inside.mkdir()
        with pytest.raises(UserError, match=words) as caught:
            extract(tmp_path / name, inside)
        assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["kodim01.png", "kodim01.png.part", "kodim01.png.part.json", "lock"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_lies_in_the_place_of_our_files_is_not_followed(server, small_kodak, tmp_path, name, kind):
    """A link in a shared data root: its target is somebody else's file. A pipe would block for ever."""
    staging, victim = tmp_path / "root/.fetch/kodak", tmp_path / "victim"
    staging.mkdir(parents=True)
    victim.write_bytes(b"precious")
    if kind == "link":
        (staging / name).symlink_to(victim)
    else:
        os.mkfifo(staging / name)
    server.files = dict(small_kodak)
    fetch("kodak", tmp_path / "root", server.url + "k/", progress=lambda *_: None)
    assert victim.read_bytes() == b"precious"
    assert len(list((tmp_path / "root/kodak").iterdir())) == len(SOURCES["kodak"].files)
