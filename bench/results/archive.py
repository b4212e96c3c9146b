"""Finished cells put together, so that a run of a hundred thousand cells is some dozen files and not a hundred
thousand.

A worker writes each cell as a file of its own, whole or not at all; that is the unit of resume. Whoever holds the run's
lock moves them into ZIP archives from time to time, one entry `<id>.csv` a cell. An archive is never changed: its name
holds the hash of its bytes, so that a damaged one is known and left out (its cells are then computed again).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

PACK_CELLS = 4096  # of one archive; fewer than that are left as files
_EPOCH = (1980, 1, 1, 0, 0, 0)  # an archive depends on its cells alone


class Packs:
    """The archives of a folder of cells."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._names: set[str] = set()
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._where: dict[str, str] = {}  # id -> archive

    def __contains__(self, cell_id: str) -> bool:
        return cell_id in self._where

    def look(self) -> None:
        """Take note of the archives that are there now."""
        names = {path.name for path in self.folder.glob("pack-*.zip")}
        for name in self._names - names:
            self._forget(name)
        for name in sorted(names - self._names):
            data = (self.folder / name).read_bytes()
            if name == _name(data):
                self._take(name, zipfile.ZipFile(self.folder / name))
        self._names = names

    def read(self, cell_id: str) -> bytes | None:
        """The file of a cell, or None."""
        if cell_id not in self._where:
            return None
        try:
            return self._archives[self._where[cell_id]].read(f"{cell_id}.csv")
        except (OSError, zipfile.BadZipFile):
            return None

    def add(self, cells: dict[str, bytes], write: Callable[[Path, bytes], None]) -> None:
        """One archive of these cells; `write` puts bytes under a path, whole or not at all."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for cell_id, data in cells.items():
                archive.writestr(zipfile.ZipInfo(f"{cell_id}.csv", _EPOCH), data, zipfile.ZIP_DEFLATED)
        name = _name(out.getvalue())
        write(self.folder / name, out.getvalue())
        self._names.add(name)
        self._take(name, zipfile.ZipFile(self.folder / name))

    def drop(self, cell_ids: Iterable[str], write: Callable[[Path, bytes], None]) -> None:
        """Forget cells; the archives that hold some are written anew without them."""
        gone = {cell_id for cell_id in cell_ids if cell_id in self._where}
        for name in {self._where[cell_id] for cell_id in gone}:
            kept = {i: self.read(i) for i, where in self._where.items() if where == name and i not in gone}
            self._forget(name)
            if kept:
                self.add(kept, write)
            (self.folder / name).unlink(missing_ok=True)

    def _take(self, name: str, archive: zipfile.ZipFile) -> None:
        self._archives[name] = archive
        self._where |= {entry.removesuffix(".csv"): name for entry in archive.namelist()}

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        if name in self._archives:
            self._archives.pop(name).close()
            self._where = {cell_id: where for cell_id, where in self._where.items() if where != name}


def _name(data: bytes) -> str:
    return f"pack-{hashlib.sha256(data).hexdigest()[:16]}.zip"
