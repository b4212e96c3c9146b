"""Archives of finished cells, so that a run of a hundred thousand cells consists of a few dozen files.

`bench.results.store` calls it. A worker writes each cell as a file of its own, completely or not at all. This is the
unit of resuming. The process that holds the run's lock moves these files into ZIP archives from time to time, one entry
`<id>.csv` per cell. An archive is never changed: its name contains the hash of its bytes. A damaged archive is left
out, and so is every cell in it that cannot be read or has wrong values. Such cells are computed again. The file
`cells/.checked` lists the archives that were checked, so that a resumed run of millions of rows does not have to read
every row first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from bench.results.schema import CELLS, SCHEMA, read_cell_rows
from bench.util.files import read_bytes, write_atomic

PACK_CELLS = 4096  # cells per archive; fewer cells stay as files
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that an archive depends on its cells alone
_MOST_BYTES = 1 << 26  # a larger entry cannot be a cell
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


class Archives:
    """The archives in a folder of cells. `refused`: name of an archive or cell that is left out -> reason."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.refused: dict[str, str] = {}
        self._names: set[str] = set()
        self._open: dict[str, zipfile.ZipFile] = {}
        self._where: dict[str, str] = {}  # cell's id -> archive
        self._whole: set[str] = set()  # archives whose cells are all good
        self._damaged: set[str] = set()  # archives that are left out, completely or in part

    def __contains__(self, cell_id: str) -> bool:
        return cell_id in self._where

    def look(self) -> None:
        """Find the archives that exist now, and check those that were not checked before."""
        names = {path.name for path in self.folder.glob("pack-*.zip")}
        for name in self._names - names:
            self._forget(name)
        self._names &= names
        checked = self._checked()
        for name in sorted(names - self._names):
            self._names.add(name)
            try:
                data = read_bytes(self.folder / name)
                archive = zipfile.ZipFile(self.folder / name) if data and name == _name(data) else None
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                self._refuse(name, f"it cannot be read ({error})")
                continue
            if archive is None:
                self._refuse(name, "its content does not match the hash in its name")
                continue
            self._take(name, archive, name in checked)

    def read(self, cell_id: str) -> bytes | None:
        """The bytes of a cell's file. None if there is no such cell, or if it cannot be read."""
        name = self._where.get(cell_id)
        return None if name is None else _entry(self._open[name], f"{cell_id}.csv")

    def add(self, cells: dict[str, bytes]) -> None:
        """Write one archive of these cells (id -> bytes). The caller has checked them."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for cell_id, data in cells.items():
                archive.writestr(zipfile.ZipInfo(f"{cell_id}.csv", _EPOCH), data, zipfile.ZIP_DEFLATED)
        name = _name(out.getvalue())
        write_atomic(self.folder / name, out.getvalue())
        self._names.add(name)
        self._take(name, zipfile.ZipFile(self.folder / name), True)

    def drop(self, cell_ids: Iterable[str]) -> None:
        """Remove cells. Archives that hold some of them are written again without them."""
        gone = {cell_id for cell_id in cell_ids if cell_id in self._where}
        for name in {self._where[cell_id] for cell_id in gone}:
            kept = {i: self.read(i) for i, where in self._where.items() if where == name and i not in gone}
            self._forget(name)
            readable = {cell_id: data for cell_id, data in kept.items() if data is not None}
            if readable:
                self.add(readable)
            (self.folder / name).unlink(missing_ok=True)

    def mend(self) -> None:
        """Rename damaged archives to `damaged-<name>`, and write their good cells into a new archive.

        Only the process that holds the run's lock may call it.
        """
        for name in sorted(self._damaged):
            kept = {i: self.read(i) for i, where in self._where.items() if where == name}
            self._forget(name)
            if kept:
                self.add({cell_id: data for cell_id, data in kept.items() if data is not None})
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.folder / name, self.folder / f"damaged-{name}")
                why = self.refused.get(name, "some of its cells cannot be used")
                self.refused[name] = f"{why}; it is now called damaged-{name}, and may be deleted"
        self._damaged.clear()

    def note_checked(self) -> None:
        """Write the list of archives that need no second check. Only the process that holds the
        run's lock may call it.
        """
        names = sorted(self._whole & self._names)
        if names and set(names) != self._checked():
            write_atomic(self.folder / ".checked", "\n".join([_RULES, *names, ""]).encode())

    def _checked(self) -> set[str]:
        try:
            rules, *names = read_bytes(self.folder / ".checked").decode("ascii").split("\n")
        except (OSError, ValueError):
            return set()
        return {name for name in names if name} if rules == _RULES else set()

    def _take(self, name: str, archive: zipfile.ZipFile, checked: bool) -> None:
        self._open[name] = archive
        ids = [entry.removesuffix(".csv") for entry in archive.namelist()]
        if not checked:
            problems = {cell_id: _problem(archive, cell_id) for cell_id in ids}
            bad = {cell_id: why for cell_id, why in problems.items() if why is not None}
            for cell_id, why in bad.items():
                self._refuse(name, why, f"cell {cell_id[:60]!a} in {name}")
            ids = [cell_id for cell_id in ids if cell_id not in bad]
            checked = not bad
        if checked:
            self._whole.add(name)
        self._where |= dict.fromkeys(ids, name)

    def _refuse(self, name: str, why: str, what: str = "") -> None:
        self.refused[what or name] = why
        self._damaged.add(name)

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        self._whole.discard(name)
        if name in self._open:
            self._open.pop(name).close()
            self._where = {cell_id: where for cell_id, where in self._where.items() if where != name}


def _entry(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """The bytes of one entry. None if it is encrypted, packed by an unknown method, damaged, or far too large."""
    with contextlib.suppress(OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        entry = archive.getinfo(name)
        if entry.compress_type in _METHODS and not entry.flag_bits & _ENCRYPTED and entry.file_size <= _MOST_BYTES:
            return archive.read(entry)
    return None


def _problem(archive: zipfile.ZipFile, cell_id: str) -> str | None:
    data = _entry(archive, f"{cell_id}.csv")
    if data is None:
        return "it cannot be unpacked"
    rows = read_cell_rows(cell_id, data)
    return rows if isinstance(rows, str) else None


def _name(data: bytes) -> str:
    return f"pack-{hashlib.sha256(data).hexdigest()[:16]}.zip"


_RULES = hashlib.sha256(repr((SCHEMA, CELLS)).encode()).hexdigest()[:16]
