"""Fetching against a local server: breaks, resumes, checksums, unsafe archives. No network is needed."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from bench.data import fetch as module
from bench.data import open_dataset
from bench.data.fetch import SOURCES, Progress, extract, fetch
from systems.errors import UnknownName, UserError


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes by path, with Range. `break_after`: how many bytes of a path to send, once for each entry."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.break_after, self.requests, self.ranges, self.etag = {}, {}, [], True, '"one"'

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, unquote(self.path).lstrip("/")
        wanted = self.headers.get("Range")
        server.requests.append((path, wanted))
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
    target = fetch(
        "voc2012", tmp_path, server.url + "voc.tar", lambda *state: seen.append(state), checksum=sha256(content)
    )
    assert server.requests == [("voc.tar", None), ("voc.tar", "bytes=1000-"), ("voc.tar", "bytes=4000-")]
    assert seen[-1] == ("VOCtrainval_11-May-2012.tar", len(content), len(content))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert target == tmp_path / "VOCdevkit/VOC2012"
    assert open_dataset("voc2012", tmp_path).load("2007_000033").image.shape == (3, 224, 224)
    assert len(everything_under(tmp_path)) == 3  # neither archive nor part is left


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
    with pytest.raises(UserError, match="md5.*not 6cd6e144f989b92b3379bac3b3de84fd"):
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
    fetch("div2k", tmp_path, server.url + "d.zip", silent, checksum=sha256(buffer.getvalue()))
    dataset = open_dataset("div2k_valid_hr", tmp_path)
    assert dataset.ids == ("0801", "0802") and dataset.size("0801") == (60, 90)
    assert open_dataset(f"folder:{tmp_path / 'DIV2K_valid_HR'}").ids == dataset.ids


@pytest.fixture
def small_kodak(monkeypatch):
    """The suite's own names, but three pictures of 24x16."""
    source = replace(SOURCES["kodak"], files=SOURCES["kodak"].files[:3], sizes=((24, 16), (16, 24)))
    monkeypatch.setitem(SOURCES, "kodak", source)
    return {f"k/{name}": png(16, 24, number) for number, name in enumerate(source.files)}


def test_kodak_pictures_are_gathered_and_their_hashes_recorded(server, tmp_path, small_kodak):
    server.files = dict(small_kodak)
    server.break_after = {"k/kodim02.png": [100]}
    fetch("kodak", tmp_path, server.url + "k", silent)
    assert open_dataset("kodak", tmp_path).ids == ("kodim01", "kodim02", "kodim03")
    record = (tmp_path / ".checksums/kodak.sha256").read_text().splitlines()
    assert record[0] == f"{hashlib.sha256(small_kodak['k/kodim01.png']).hexdigest()}  kodim01.png"
    assert not (tmp_path / ".fetch").exists()


def test_a_later_kodak_download_must_meet_the_recorded_hashes(server, tmp_path, small_kodak):
    server.files = dict(small_kodak)
    fetch("kodak", tmp_path, server.url + "k", silent)
    server.files["k/kodim03.png"] = png(16, 24, 99)
    with pytest.raises(UserError, match="kodim03.png has sha256"):
        fetch("kodak", tmp_path, server.url + "k", silent, force=True)
    kept = hashlib.sha256((tmp_path / "kodak/kodim03.png").read_bytes()).hexdigest()
    assert kept == hashlib.sha256(small_kodak["k/kodim03.png"]).hexdigest()
    assert not (tmp_path / ".fetch").exists()


def test_a_picture_that_is_none_or_of_another_size_is_refused(server, tmp_path, small_kodak):
    server.files = dict(small_kodak) | {"k/kodim02.png": b"<html>moved</html>"}
    with pytest.raises(UserError, match="kodim02.png from the server is not a picture"):
        fetch("kodak", tmp_path, server.url + "k", silent)
    server.files = dict(small_kodak) | {"k/kodim02.png": png(10, 10)}
    with pytest.raises(UserError, match="kodim02.png from the server is 10x10"):
        fetch("kodak", tmp_path, server.url + "k", silent)
    assert not (tmp_path / "kodak").exists() and not (tmp_path / ".checksums").exists()
    server.files = dict(small_kodak)
    fetch("kodak", tmp_path, server.url + "k", silent)  # only the refused picture is fetched once more
    assert [path for path, _ in server.requests].count("k/kodim01.png") == 1


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
    with pytest.raises(UserError, match="not an http or https address"):
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


def test_progress_shows_share_rate_and_time_left():
    now = [0.0]
    out = io.StringIO()
    progress = Progress(out, lambda: now[0])
    progress("a.tar", 10_000_000, 50_000_000)  # ten megabytes were there from an earlier call
    now[0] = 10.0
    progress("a.tar", 20_000_000, 50_000_000)
    assert out.getvalue().splitlines()[-1] == "a.tar  20.0/50.0 MB   40 %  1.0 MB/s  ETA 0:30"
    now[0] = 11.0
    progress("a.tar", 21_000_000, 50_000_000)
    assert len(out.getvalue().splitlines()) == 2  # a log is not flooded
    progress("a.tar", 50_000_000, 50_000_000)
    assert "100 %" in out.getvalue().splitlines()[-1]
