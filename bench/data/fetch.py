"""`python -m bench data fetch NAME`: public data sets, resumable, verified, and all or nothing.

Downloads go to `ROOT/.fetch/NAME`, where an interrupted one waits as `FILE.part` and goes on by HTTP Range. A finished
file is checked before its `.part` is renamed; archives are unpacked beside it, and only a complete set is renamed into
its place under the data root, so no half-written set is ever seen.

Checksums: VOC's MD5 and DIV2K's SHA-256 are widely published (torchvision; TensorFlow Datasets) and enforced. Nobody
publishes one for the Kodak pictures that we could verify: the first download is trusted, its hashes are written to
`ROOT/.checksums/kodak.sha256` (the format of `sha256sum`), and every later download must meet them; each picture must
also decode and have the size that the suite is known for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from bench.data.catalogue import default_data_root
from systems.errors import UnknownName, UserError

CHUNK = 1 << 20
TIMEOUT_S = 30
ATTEMPTS = 5  # connections tried in a row without one new byte before giving up

#: progress(file name, bytes so far, bytes in all or None)
ProgressCallback = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Source:
    """Where a set comes from. `checksum` is "md5:..." or "sha256:..." of the one archive, None: trust the first."""

    name: str
    base_url: str  # of the folder that holds `files`
    files: tuple[str, ...]
    target: str  # the folder under the data root that is there when the set is
    inside: str  # that folder's path inside the archive; "" for single files
    licence: str
    pictures: int
    checksum: str | None = None
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) that pictures may have


SOURCES = {
    "kodak": Source(
        "kodak",
        "http://r0k.us/graphics/kodak/kodak/",
        tuple(f"kodim{i:02d}.png" for i in range(1, 25)),
        "kodak",
        "",
        "released by Kodak for unrestricted use",
        24,
        sizes=((768, 512), (512, 768)),
    ),
    "div2k": Source(
        "div2k",
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        ("DIV2K_valid_HR.zip",),
        "DIV2K_valid_HR",
        "DIV2K_valid_HR",
        "academic research only",
        100,
        "sha256:20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
    ),
    "voc2012": Source(
        "voc2012",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        ("VOCtrainval_11-May-2012.tar",),
        "VOCdevkit/VOC2012",
        "VOCdevkit/VOC2012",
        "Flickr terms, research",
        17125,
        "md5:6cd6e144f989b92b3379bac3b3de84fd",
    ),
}


class Progress:
    """Draws `file  done/total MB  %  MB/s  ETA` on stderr: in place on a terminal, else a line every ten seconds."""

    def __init__(self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic):
        self.stream, self.clock = stream or sys.stderr, clock
        self.file, self.start, self.base, self.last = "", 0.0, 0, 0.0

    def __call__(self, file: str, done: int, total: int | None) -> None:
        now = self.clock()
        if file != self.file:
            self.file, self.start, self.base, self.last = file, now, done, float("-inf")
        finished = total is not None and done >= total
        terminal = self.stream.isatty()
        if not finished and now - self.last < (0.2 if terminal else 10.0):
            return
        self.last = now
        end = "\n" if finished or not terminal else ""
        self.stream.write(("\r" if terminal else "") + self.line(done, total, now) + end)
        self.stream.flush()

    def line(self, done: int, total: int | None, now: float) -> str:
        """The text alone; the rate counts what this call fetched, not what an earlier one left."""
        elapsed = now - self.start
        rate = (done - self.base) / elapsed if elapsed > 0 else 0.0
        if total is None:
            return f"{self.file}  {done / 1e6:.1f} MB  {rate / 1e6:.1f} MB/s"
        eta = f"{int((total - done) / rate) // 60}:{int((total - done) / rate) % 60:02d}" if rate > 0 else "?"
        share = 100 * done / total if total else 100
        return f"{self.file}  {done / 1e6:.1f}/{total / 1e6:.1f} MB  {share:3.0f} %  {rate / 1e6:.1f} MB/s  ETA {eta}"


def fetch(
    name: str,
    data_root: Path | str | None = None,
    url: str | None = None,
    progress: ProgressCallback | None = None,
    checksum: str | None = None,
    force: bool = False,
) -> Path:
    """Bring a public set to `data_root`; returns the folder it lies in. A set that is already there is left alone.

    name: kodak | div2k | voc2012. url: a mirror, of the archive itself or (kodak) of the folder with the pictures; the
    known checksum still holds. checksum: "md5:..." or "sha256:..." in place of the known one. progress: called with
    (file, bytes so far, bytes in all or None); default: a line on stderr. force: fetch again and replace.
    Raises UserError for an unknown name, no network, a wrong checksum, an unsafe archive, an unwritable or full disk.
    """
    source = _source(name)
    if checksum is not None:
        source = replace(source, checksum=_valid_checksum(checksum))
    root = Path(data_root).expanduser() if data_root is not None else default_data_root()
    target = root / source.target
    if target.is_dir() and not force:
        return target
    staging = root / ".fetch" / name
    try:
        staging.mkdir(parents=True, exist_ok=True)
        _check_writable(staging)
        show = progress or Progress()
        files = [_obtain(source, _file_url(source, file, url), staging / file, show) for file in source.files]
        hashes = {file.name: _hash_file(file, "sha256") for file in files}
        _check_first_use(source, root, hashes, staging)
        if source.inside:
            _unpack(source, files[0], staging, target)
        else:
            _check_pictures(source, files)
            _install_files(files, staging, target)
        _record_first_use(source, root, hashes)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise UserError(f"cannot write under {root}: {what}; choose another --data-root or make room") from None
    finally:
        _prune(staging)
    return target


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    near = get_close_matches(name, SOURCES, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"sets are {', '.join(SOURCES)}"
    raise UnknownName(f"cannot fetch {name!r}; {hint}")


def _valid_checksum(text: str) -> str:
    kind, _, digest = text.partition(":")
    if len(digest) != {"md5": 32, "sha256": 64}.get(kind):
        raise UserError(f"checksum {text!r} is not md5:<32 hex digits> or sha256:<64 hex digits>")
    return text.lower()


def _file_url(source: Source, file: str, url: str | None) -> str:
    if url is None:
        address = source.base_url + file
    else:
        address = url if source.inside else url.rstrip("/") + "/" + file
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"{address!r} is not an http or https address")
    return address


def _check_writable(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass


def _prune(staging: Path) -> None:
    """Take away the staging folders when nothing waits in them."""
    for folder in (staging, staging.parent):
        with contextlib.suppress(OSError):  # not empty, or gone already
            folder.rmdir()


# ---------------------------------------------------------------------------------------------------- download


def _obtain(source: Source, url: str, file: Path, progress: ProgressCallback) -> Path:
    """Download one file whole, check it, and give it its name. A file that already has its name was checked before."""
    if file.exists():
        return file
    part = file.with_name(file.name + ".part")
    _download(url, part, file.name, progress)
    if source.checksum is not None:
        kind, _, wanted = source.checksum.partition(":")
        found = _hash_file(part, kind)
        if found != wanted:
            _forget(part)
            raise UserError(f"{url} has {kind} {found}, not {wanted}; it was deleted: try again, or another --url")
    os.replace(part, file)
    _forget(part)
    return file


def _download(url: str, part: Path, label: str, progress: ProgressCallback) -> None:
    """Fill `part` until it is as long as the server says, going on after a break with a Range request."""
    idle, reason = 0, ""
    while idle < ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(url, part, label, progress):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{url} answers {error.code} {error.reason}; give a mirror with --url") from None
            reason = f"it answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        idle = 0 if after > before else idle + 1
        time.sleep(min(2.0**idle, 8.0) / 8 if idle else 0)
    kept = f"; the {part.stat().st_size} bytes so far are kept, run the command again to go on" if part.exists() else ""
    raise UserError(f"cannot fetch {url}: {reason}{kept}")


def _transfer(url: str, part: Path, label: str, progress: ProgressCallback) -> bool:
    """One connection. True when `part` is whole, False when the connection ended early."""
    done = part.stat().st_size if part.exists() else 0
    validator = _recall(part)
    headers = {"User-Agent": "semantic-bench", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if validator:
            headers["If-Range"] = validator  # a file that changed since is sent whole, not glued to the old part
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").strip() == f"bytes */{done}":
            return True  # the part was whole already
        _forget(part)
        return False
    with response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            start, total = _content_range(response.headers.get("Content-Range", ""))
            if start != done:
                _forget(part)
                return False
        else:
            done, length = 0, response.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            _remember(part, response.headers.get("ETag") or response.headers.get("Last-Modified"))
        with part.open("ab" if done else "wb") as file:
            progress(label, done, total)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(label, done, total)
    return total is None or done == total


def _content_range(text: str) -> tuple[int, int | None]:
    """ "bytes 5-9/10" -> (5, 10); (-1, None) where it cannot be read, which no offset equals."""
    try:
        span, _, total = text.removeprefix("bytes").strip().partition("/")
        return int(span.partition("-")[0]), int(total) if total.isdigit() else None
    except ValueError:
        return -1, None


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, validator: str | None) -> None:
    """Keep the ETag or date of what `part` holds, so that a later Range goes on with the same file."""
    strong = validator if validator and not validator.startswith("W/") else None
    _note(part).write_text(json.dumps({"validator": strong}), encoding="utf-8")


def _recall(part: Path) -> str | None:
    try:
        return json.loads(_note(part).read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- verification


def _hash_file(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _record(source: Source, root: Path) -> Path:
    return root / ".checksums" / f"{source.name}.sha256"


def _check_first_use(source: Source, root: Path, hashes: dict[str, str], staging: Path) -> None:
    """Compare with the hashes of an earlier download; only for sets without a published checksum."""
    record = _record(source, root)
    if source.checksum is not None or not record.exists():
        return
    known = dict(reversed(line.split(None, 1)) for line in record.read_text(encoding="utf-8").splitlines() if line)
    for file, found in hashes.items():
        if known.get(file, found) != found:
            for name in hashes:
                (staging / name).unlink(missing_ok=True)
            raise UserError(
                f"{file} has sha256 {found}, but the first download had {known[file]} ({record}); it was deleted: "
                "take that record away only if you trust the new file"
            )


def _record_first_use(source: Source, root: Path, hashes: dict[str, str]) -> None:
    if source.checksum is not None:
        return
    record = _record(source, root)
    record.parent.mkdir(exist_ok=True)
    temporary = record.with_name(record.name + ".tmp")
    temporary.write_text("".join(f"{digest}  {file}\n" for file, digest in hashes.items()), encoding="utf-8")
    os.replace(temporary, record)


def _check_pictures(source: Source, files: list[Path]) -> None:
    """Each file must decode to a size the set is known for: a server's error page is not a picture."""
    from PIL import Image

    for file in files:
        try:
            with Image.open(file) as picture:
                picture.load()
                size = picture.size
        except (OSError, ValueError, SyntaxError) as error:
            file.unlink()
            raise UserError(f"{file.name} from the server is not a picture ({error}); it was deleted") from None
        if source.sizes and size not in source.sizes:
            file.unlink()
            raise UserError(f"{file.name} from the server is {size[0]}x{size[1]}, not of {source.name}; it was deleted")


# ------------------------------------------------------------------------------------------------- installation


def _install_files(files: list[Path], staging: Path, target: Path) -> None:
    """Gather single files in a folder and rename the folder into place."""
    bundle = staging / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    for file in files:
        shutil.copyfile(file, bundle / file.name)  # copies: a crash before the rename must not lose what was fetched
    _swap_in(bundle, target)


def _unpack(source: Source, archive: Path, staging: Path, target: Path) -> None:
    """Unpack into the staging folder, then rename the set's folder into place."""
    folder = staging / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        extract(archive, folder)
        inside = folder / source.inside
        if not inside.is_dir():
            raise UserError(f"{archive.name} holds no folder {source.inside}; it is not the {source.name} archive")
        _swap_in(inside, target)
    except UserError:
        _forget(archive)
        archive.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap_in(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(folder, target)
    shutil.rmtree(old, ignore_errors=True)


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip: plain files and folders only, none of them outside `folder`. Raises UserError otherwise.

    Written out rather than left to `extractall`: the safe filter of tarfile came with 3.11.4 only, and a link inside an
    archive is a way out of the folder that no data set needs.
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as bundle:
                for member in bundle:
                    path = _safe_path(archive, folder, member.name)
                    if member.isdir():
                        path.mkdir(parents=True, exist_ok=True)
                    elif member.isreg():
                        _write(bundle.extractfile(member), path)
                    else:
                        raise UserError(f"{archive.name} holds {member.name!r}, neither file nor folder; not unpacked")
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for member in bundle.infolist():
                    path = _safe_path(archive, folder, member.filename)
                    if stat.S_ISLNK(member.external_attr >> 16):
                        raise UserError(f"{archive.name} holds the link {member.filename!r}; not unpacked")
                    if member.is_dir():
                        path.mkdir(parents=True, exist_ok=True)
                    else:
                        _write(bundle.open(member), path)
        else:
            raise UserError(f"{archive.name} is neither a tar nor a zip archive")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{archive.name} is damaged: {error}") from None


def _safe_path(archive: Path, folder: Path, member: str) -> Path:
    pure = PurePosixPath(member.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in member.partition("/")[0]:
        raise UserError(f"{archive.name} holds {member!r}, a path outside its folder; not unpacked")
    return folder.joinpath(*pure.parts)


def _write(stream: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with stream, path.open("wb") as file:
        shutil.copyfileobj(stream, file, CHUNK)
