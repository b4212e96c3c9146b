"""Unpacks a tar or zip archive: only plain files and folders, inside one folder, and not more bytes than pictures need.

`bench.data.fetch` calls it.
"""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from bench.util.files import shown
from systems.errors import UserError

CHUNK = 1 << 20
MOST_MEMBERS = 200_000
MOST_TIMES = 4  # most unpacked bytes per byte of the archive; PNG and JPEG files hardly shrink
SPARE_BYTES = 1 << 26
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
_NOT_THE_DISK = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def extract(archive: Path, folder: Path) -> None:
    """Unpack `archive` into `folder`. Raises UserError for links, paths outside, bombs and damage; OSError of the disk.

    `extractall` is not used: it does not count bytes, and a link inside an archive could lead out of the folder. No
    data set needs links. A tar archive that is compressed as a whole is refused.
    """
    allowance = _Allowance(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for member in bundle.infolist():
                    path = _safe_path(archive, folder, member.filename)
                    if stat.S_ISLNK(member.external_attr >> 16):
                        raise UserError(f"{archive.name} holds the link {shown(member.filename)!r}; not unpacked")
                    if member.is_dir():
                        allowance.member()
                        path.mkdir(parents=True, exist_ok=True)
                    else:
                        allowance.write(bundle.open(member), path)
            return
        try:
            opened = tarfile.open(archive, "r:")
        except tarfile.ReadError:
            raise UserError(f"{archive.name} is neither a tar nor a zip archive") from None
        with opened:
            for entry in opened:
                path = _safe_path(archive, folder, entry.name)
                if entry.isdir():
                    allowance.member()
                    path.mkdir(parents=True, exist_ok=True)
                elif entry.isreg() and (stream := opened.extractfile(entry)) is not None:
                    allowance.write(stream, path)
                else:
                    raise UserError(
                        f"{archive.name} holds {shown(entry.name)!r}, neither file nor folder; not unpacked"
                    )
    except _DAMAGED as error:
        raise UserError(f"{archive.name} is damaged: {shown(error)}") from None
    except OSError as error:
        if error.errno not in _NOT_THE_DISK:
            raise
        raise UserError(f"{archive.name} is damaged: two of its paths exclude each other, or one is no path") from None


class _Allowance:
    """How many bytes and files an archive may still unpack."""

    def __init__(self, archive: Path):
        self.archive = archive
        self.bytes = MOST_TIMES * archive.stat().st_size + SPARE_BYTES
        self.members = MOST_MEMBERS

    def member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise UserError(f"{self.archive.name} holds more than {MOST_MEMBERS} files; not unpacked")

    def write(self, stream: IO[bytes], path: Path) -> None:
        self.member()
        path.parent.mkdir(parents=True, exist_ok=True)
        with stream, path.open("wb") as file:
            while chunk := stream.read(CHUNK):
                self.bytes -= len(chunk)
                if self.bytes < 0:
                    raise UserError(
                        f"{self.archive.name} unpacks to more than {MOST_TIMES} times its size, which pictures do not: "
                        "it may be a decompression bomb; not unpacked"
                    )
                file.write(chunk)


def _safe_path(archive: Path, folder: Path, member: str) -> Path:
    pure = PurePosixPath(member.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in member.partition("/")[0] or "\0" in member:
        raise UserError(f"{archive.name} holds {shown(member)!r}, a path outside its folder; not unpacked")
    return folder.joinpath(*pure.parts)


def swap_in(folder: Path, target: Path) -> None:
    """Put a finished folder in the place of `target`. If the process is killed between the two steps, `mend` repairs
    it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)  # left by a killed fetch
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def mend(target: Path) -> None:
    """Restore the old folder, if a download was killed before the new folder took its place."""
    if _old(target).is_dir() and not target.exists():
        _old(target).rename(target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")
