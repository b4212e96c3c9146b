"""Gets one file of a data set: its address, the download, and the check of its checksum. `fetch` calls it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bench.data.fetch.download import ProgressCallback, check_address, download_file, forget
from bench.data.fetch.sources import Source
from bench.util.files import open_plain
from systems.errors import UserError


def addresses_of(source: Source, url: str | None, alone: bool) -> dict[str, str]:
    """The address of each file: the known one, or that of the mirror."""
    if url is None:
        return {file: check_address(source.base_url + file) for file in source.files}
    if alone and source.inside and not url.endswith("/"):
        return {file: check_address(url) for file in source.files}
    return {file: check_address(url.rstrip("/") + "/" + file) for file in source.files}


def obtain(source: Source, url: str, file: Path, progress: ProgressCallback) -> Path:
    """One complete file with the right checksum. A file from an earlier call is checked again."""
    kind, _, wanted = source.files[file.name].partition(":")
    part = file.with_name(file.name + ".part")
    for path in (file, part):
        remove_odd(path)
    if file.is_file():
        if _digest(file, kind) == wanted:
            return file
        file.unlink()
    download_file(url, part, file.name, progress)
    found = _digest(part, kind)
    if found != wanted:
        forget(part)
        raise UserError(f"{url} has {kind} {found}, not {wanted}; it was deleted: try again, or another --url")
    os.replace(part, file)
    forget(part)
    return file


def remove_odd(path: Path) -> None:
    """Remove a link or a pipe in the place of a file of ours: the link's target is somebody else's file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()


def _digest(path: Path, kind: str) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, kind).hexdigest()
