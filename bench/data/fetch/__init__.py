"""The work of `python -m bench data fetch NAME`: downloads a public data set, completely or not at all.

Downloads go to `ROOT/.fetch/NAME` (`download`). A complete file is first checked (`obtain`) against its known checksum
(`sources`). Archives are unpacked beside it (`unpack`). Only a complete set is renamed to its place under the data
root, so a half-written set is never visible. Only one command at a time can fetch a set.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.data.catalogue import default_data_root
from bench.data.fetch.download import ProgressCallback
from bench.data.fetch.obtain import addresses_of, obtain, remove_odd
from bench.data.fetch.sources import Source, checked_checksum, sources_of
from bench.data.fetch.unpack import extract, mend, swap_in
from bench.util.files import shown, user_path
from bench.util.progress import Progress
from systems.errors import UserError

__all__ = ["fetch"]


def fetch(
    name: str,
    data_root: Path | str | None = None,
    url: str | None = None,
    progress: ProgressCallback | None = None,
    checksum: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Download public sets to `data_root`. Returns their folders. A set that exists already is left unchanged.

    name: kodak | div2k | div2k-valid | div2k-train | voc2012.
    url: a mirror of the archive, or of the folder with the files. The known checksums still apply.
    progress: called with (file, bytes so far, bytes in all or None). None: a line on stderr.
    checksum: "md5:..." or "sha256:..." instead of the known one of an archive.
    force: download again and replace.
    Raises UserError for an unknown name, without a network, for a wrong checksum, an unsafe archive, or a disk that
    cannot be written.
    """
    sources = sources_of(name)
    if checksum is not None:
        if len(sources) > 1 or len(sources[0].files) > 1:
            raise UserError(f"--checksum is for one archive, but {name} is several files; leave it out")
        sources = [replace(sources[0], files=dict.fromkeys(sources[0].files, checked_checksum(checksum)))]
    root = user_path(data_root, "--data-root") if data_root is not None else default_data_root()
    addresses = [addresses_of(source, url, alone=len(sources) == 1) for source in sources]
    return [_fetch_one(source, root, own, progress, force) for source, own in zip(sources, addresses, strict=True)]


def _fetch_one(
    source: Source, root: Path, addresses: dict[str, str], progress: ProgressCallback | None, force: bool
) -> Path:
    target = root / source.target
    staging = root / ".fetch" / source.name
    with _disk_errors(root):
        mend(target)
        if target.is_dir() and not force:
            return target
        staging.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=staging):
            pass  # if the disk cannot be written, fail now, not after two gigabytes
        try:
            with _alone(staging, source.name):
                with _shown(progress) as show:
                    files = [obtain(source, addresses[file], staging / file, show) for file in source.files]
                if source.inside:
                    _unpack(source, files[0], staging, target)
                else:
                    _gather(files, staging, target)
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            for folder in (staging, staging.parent):
                with contextlib.suppress(OSError):  # it is not empty, or it does not exist any more
                    folder.rmdir()
    return target


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full" if full else (error.strerror or str(error))
        raise UserError(f"cannot write under {shown(root)}: {what}; choose another --data-root or make room") from None


@contextlib.contextmanager
def _alone(staging: Path, name: str) -> Iterator[None]:
    """Hold the lock of the set, which ends with the process. Raises UserError if another command holds it."""
    import filelock

    remove_odd(staging / "lock")
    lock = filelock.FileLock(staging / "lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"another command fetches {name} into this data root; wait for it, and repeat this one"
        ) from None
    except NotImplementedError:  # on a file system without locks, fetch without one
        yield
        return
    try:
        yield
    finally:
        lock.release()
        (staging / "lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _shown(progress: ProgressCallback | None) -> Iterator[ProgressCallback]:
    """The caller's progress, or a line on stderr for each file."""
    if progress is not None:
        yield progress
        return
    bars: dict[str, Progress] = {}

    def show(file: str, done: int, total: int | None) -> None:
        if file not in bars:
            for bar in bars.values():
                bar.close()
            bars[file] = Progress(file, total, "bytes")
        bars[file].update(done)

    try:
        yield show
    finally:
        for bar in list(bars.values())[-1:]:
            bar.close()


def _gather(files: list[Path], staging: Path, target: Path) -> None:
    """Put single files into a folder, and rename the folder to its place."""
    bundle = staging / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    for file in files:
        shutil.copyfile(file, bundle / file.name)  # copies, so that a crash before the rename loses no download
    swap_in(bundle, target)


def _unpack(source: Source, archive: Path, staging: Path, target: Path) -> None:
    """Unpack into the staging folder, then rename the set's folder to its place."""
    folder = staging / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        extract(archive, folder)
        inside = folder / source.inside
        if not inside.is_dir():
            raise UserError(f"{archive.name} holds no folder {source.inside}; it is not the {source.name} archive")
        swap_in(inside, target)
    except UserError:
        archive.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
