"""The files of a run. Each is written under a temporary name, synced and renamed, so it is complete or does not exist.

    <run>/manifest.json   what was asked for, with which data and systems (see `bench.results.manifest`)
    <run>/cells/<id>.csv  one file per cell, the unit of caching; in a large run most of them are in archives,
                          <run>/cells/pack-<hash>.zip (see `bench.results.cell_archives`)
    <run>/samples.csv     one row per picture, operating point and repetition, in full precision
    <run>/confusion.csv   pixel counts of each picture and class (segmentation)
    <run>/summary.csv     one row per point and metric (see `bench.analysis.summary`)
    <run>/failures.csv    cells that failed when they were last tried
    <run>/pictures.csv    what each PNG under pictures/ shows; `file` is relative to the run
    <run>/pictures/<data set>/<image>/{original,truth,<system>-<snr>dB-<cell>}.png

`bench.results.schema` describes the columns. The sweep and its workers call this module; `bench.results.reader` reads
what it wrote.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.results.cell_archives import PACK_CELLS, Archives
from bench.results.csv_tables import drop_compressed, field_text, line_of, read_rows, table_text, table_writer
from bench.results.manifest import read_manifest
from bench.results.schema import (
    CELL_COLUMNS,
    FAILURE_COLUMNS,
    FAILURES,
    first_names,
    problem_of,
    read_cell_rows,
)
from bench.util.files import StorageError, open_atomic, read_bytes, slug, write_atomic
from systems.errors import UserError

_TABLES = tuple(f"{name}.csv" for name in ("samples", "confusion", "summary", "pictures", "failures"))
_FILES = (
    "manifest.json",
    "plan.json",
    ".salt",
    *(table + ending for table in _TABLES for ending in ("", ".xz", ".gz")),
)
_FOLDERS = ("cells", "pictures", "failures", "tables", ".uses")
_BEGUN = frozenset({"plan.json", "output"})  # made before the manifest; left by a start that was killed
_IMAGE = CELL_COLUMNS.index("image_id")


class RunStore:
    """The folder of one run."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.archives = Archives(self.root / "cells")
        self.refused: dict[str, str] = {}  # name of an existing cell that cannot be used -> reason
        self._loose: set[str] = set()  # names of the cells' own files at the last `look`
        self._lock = None
        self._made: list[Path] = []  # the folders that `open` made

    # -- the folder -----------------------------------------------------------------------------------------------

    def check(self, config_hash: str) -> None:
        """Raise UserError if the folder holds another run or other files. Nothing is written."""
        manifest = self._check_folder()
        if manifest is not None and manifest.get("config_sha256") != config_hash:
            # A command reads the configuration before it plans, so another one has written it since.
            raise UserError(
                f"--out {self.root} holds a run of another configuration, which another command has just written; "
                "repeat this command to add to it, or choose another folder"
            )

    def _check_folder(self) -> dict[str, Any] | None:
        """The manifest, or None if there is none yet. Raises UserError if the folder holds something else than a run,
        or something in the place of the run's files.
        """
        if not self.root.exists():
            if os.path.lexists(self.root):
                raise UserError(f"--out {self.root} is a link that leads nowhere; repair it, or choose another folder")
            return None
        if not self.root.is_dir():
            raise UserError(f"--out {self.root} is a file, not a folder")
        manifest = self.manifest()
        if manifest is None:
            if any(not child.name.startswith(".") and child.name not in _BEGUN for child in self.root.iterdir()):
                raise UserError(f"--out {self.root} holds files but no manifest.json: not a run; choose another folder")
        self._check_kinds()
        return manifest

    def _check_kinds(self) -> None:
        """Raise UserError if a folder is in the place of a file that the run will write, or a file in that of a folder.

        The run would end there, perhaps after hours. A file of another kind, such as a link, is replaced.
        """
        for name in _FOLDERS:
            path = self.root / name
            if os.path.lexists(path) and not path.is_dir():
                raise UserError(f"{path} is no folder, and the run needs one there; move it elsewhere")
        for folder, belongs in ((self.root, _FILES.__contains__), (self.root / "cells", _is_a_cell)):
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if belongs(entry.name) and entry.is_dir(follow_symlinks=False):
                        raise UserError(f"{entry.path} is a folder, and a file of the run belongs there; "
                                        "move it elsewhere")  # fmt: skip

    def open(self, config_hash: str, shared: bool = False, beside: bool = False) -> None:
        """Make the folder, lock it for this process, and delete what a killed run left half-written.

        shared: jobs of a cluster may be writing now, so nothing is deleted.
        beside: if another run holds the lock, continue without it. Only for a process that computes nothing and writes
        tables, each of which is replaced as a whole.
        Raises UserError as `check` does, or if another run holds the lock; StorageError if the folder cannot be
        written.
        """
        self._check_folder()
        made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._made = made
            self._lock = _lock(self.root, beside)
        except OSError as error:
            raise StorageError(
                f"--out {self.root}: cannot write there ({error.strerror}); choose another folder"
            ) from None
        # Only now is the run compared: who writes another one holds the lock, and its error says to wait.
        try:
            self.check(config_hash)
        except UserError:
            self.close()
            raise
        for stray in () if shared else list(self.root.rglob(".*.tmp")):
            stray.unlink(missing_ok=True)

    @property
    def holds_lock(self) -> bool:
        """Whether this process writes the run, and no other does."""
        return self._lock is not None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """In a `with` block: no other command writes this run. Raises UserError if one is writing, StorageError if the
        folder cannot be written.
        """
        try:
            self._lock = _lock(self.root)
        except OSError as error:
            raise StorageError(f"{self.root}: cannot write there ({error.strerror}); copy the run elsewhere") from None
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock. A folder that `open` made is deleted if the run did not come as far as its manifest."""
        if self._made and not os.path.lexists(self.root / "manifest.json"):
            with contextlib.suppress(OSError):  # a folder with anything else in it stays
                for name in (".lock", ".salt", "plan.json"):
                    (self.root / name).unlink(missing_ok=True)
                for folder in self._made:
                    folder.rmdir()
        self._made = []
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def manifest(self) -> dict[str, Any] | None:
        """The content of manifest.json, or None. Raises UserError if it is damaged."""
        return read_manifest(self.root)

    # -- cells ----------------------------------------------------------------------------------------------------

    def cell_path(self, cell_id: str) -> Path:
        """The path of a cell's own file."""
        return self.root / "cells" / f"{cell_id}.csv"

    def write_cell(self, cell_id: str, rows: list[dict[str, Any]]) -> None:
        """Write the rows of one finished cell. Raises UserError, and writes nothing, if a value does not fit its
        column.
        """
        write_atomic(self.cell_path(cell_id), _cell_text(rows))

    def write_cells(self, cells: Mapping[str, list[dict[str, Any]]]) -> None:
        """The same for many cells at once, which go into archives. Raises UserError as `write_cell` does."""
        names = list(cells)
        for start in range(0, len(names), PACK_CELLS):
            self.archives.add({name: _cell_text(cells[name]) for name in names[start : start + PACK_CELLS]})
        self.archives.note_checked()

    def read_cell(self, cell_id: str, image_ids: tuple[str, ...]) -> list[list[str]] | None:
        """The rows of a cell as text, with fields in the order of CELL_COLUMNS, one row per picture of `image_ids`.

        None if the cell is absent, damaged, or of other pictures. It must then be computed again. `refused` keeps the
        reason if the cell exists.
        """
        path = self.cell_path(cell_id)
        data: bytes | None
        try:
            data = read_bytes(path)
        except (FileNotFoundError, NotADirectoryError):
            data = self.archives.read(cell_id)
            if data is None:
                if cell_id in self.archives:
                    self.refused[f"cell {cell_id}"] = "it cannot be unpacked"
                return None
        except OSError as error:
            self.refused[f"cell {cell_id}"] = error.strerror or str(error)
            return None
        rows = read_cell_rows(cell_id, data)
        if not isinstance(rows, str) and [row[_IMAGE] for row in rows] != [field_text(i) for i in image_ids]:
            rows = "it holds rows of other pictures"
        if isinstance(rows, str):
            self.refused[f"cell {cell_id}"] = rows
            return None
        return rows

    def look(self) -> None:
        """Find out which cells exist now. Call it before `has_cell` is asked for many cells."""
        self.archives.look()
        try:
            self._loose = {entry.name for entry in os.scandir(self.root / "cells")}
        except (FileNotFoundError, NotADirectoryError):
            self._loose = set()

    def has_cell(self, cell_id: str, image_ids: tuple[str, ...]) -> bool:
        """Whether `read_cell` would return rows, as of the last `look`, which checked the cells in archives."""
        if f"{cell_id}.csv" in self._loose:
            return self.read_cell(cell_id, image_ids) is not None
        return cell_id in self.archives

    def refusals(self) -> list[str]:
        """One line for each cell or archive that exists but cannot be used, since the last call."""
        found = {**self.archives.refused, **self.refused}
        self.archives.refused.clear()
        self.refused.clear()
        return [f"{self.root / 'cells'}: {what} is left out: {why}" for what, why in found.items()]

    def drop_cells(self, cell_ids: Iterable[str]) -> None:
        """Delete cells, so that they cannot be mistaken for new ones."""
        cell_ids = list(cell_ids)
        for cell_id in cell_ids:
            self.cell_path(cell_id).unlink(missing_ok=True)
        self.archives.look()
        self.archives.drop(cell_ids)

    def pack(self) -> None:
        """Move cells into archives of PACK_CELLS. Only the process that holds the lock does it. Others may be writing
        cells.
        """
        if not self.holds_lock:
            return
        self.archives.mend()
        paths = sorted((self.root / "cells").glob("[!.]*.csv"))
        for start in range(0, len(paths) - PACK_CELLS + 1, PACK_CELLS):
            files = {path.stem: path for path in paths[start : start + PACK_CELLS]}
            cells = {}
            for cell_id, path in files.items():
                with contextlib.suppress(OSError):  # a folder or a pipe of that name is no cell
                    data = read_bytes(path)
                    if not isinstance(read_cell_rows(cell_id, data), str):
                        cells[cell_id] = data
            self.archives.drop(cells)  # newly computed cells replace archived ones
            self.archives.add(cells)
            for cell_id in cells:
                files[cell_id].unlink(missing_ok=True)
        self.archives.note_checked()

    # -- pictures -------------------------------------------------------------------------------------------------

    @staticmethod
    def picture_name(dataset: str, image_id: str, name: str) -> str:
        """The path of a picture, relative to the run."""
        return f"pictures/{slug(dataset)}/{slug(image_id)}/{slug(name)}.png"

    def write_picture(self, name: str, pixels, palette: list[int] | None = None) -> None:
        """Write uint8 numpy (H, W, 3), or class ids (H, W) with a palette, as PNG to the relative path `name`."""
        from PIL import Image

        picture = Image.fromarray(pixels)
        if palette is not None:
            picture.putpalette(palette)
        out = io.BytesIO()
        picture.save(out, "PNG")
        write_atomic(self.root / name, out.getvalue())

    # -- tables ---------------------------------------------------------------------------------------------------

    def write_table(self, name: str, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a table of the run."""
        with self.table(name, columns) as add:
            for row in rows:
                add(row)

    @contextlib.contextmanager
    def table(self, name: str, columns: tuple[str, ...]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """In a `with` block: a function that adds one row to a table. The file exists when the block ends.

        It is for tables that do not fit into memory.
        """
        with open_atomic(self.root / name) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield table_writer(text, columns)
            text.detach()  # it flushes; `open_atomic` closes the file
        drop_compressed(self.root / name)

    @contextlib.contextmanager
    def lines(self, name: str, columns: tuple[str, ...]) -> Iterator[Callable[[list[str]], None]]:
        """As `table`, for rows that already are lines of CSV: a function that adds several at once."""
        with open_atomic(self.root / name) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            text.write(line_of(list(columns)) + "\n")

            def add(lines: list[str]) -> None:
                if lines:
                    text.write("\n".join(lines) + "\n")

            yield add
            text.detach()
        drop_compressed(self.root / name)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write manifest.json."""
        write_atomic(
            self.root / "manifest.json",
            (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"),
        )

    def failures(self) -> list[dict[str, str]]:
        """The cells that failed when they were last tried. Raises UserError if the table is damaged."""
        path = self.root / "failures.csv"
        try:
            rows = read_rows(path, first_names(FAILURES))
            return [{key: row.get(key, "") for key in FAILURE_COLUMNS} for row in rows]
        except UserError as error:
            raise UserError(f"{error}; or delete it: a run computes its content again") from None


def _cell_text(rows: list[dict[str, Any]]) -> bytes:
    """The content of a cell's file. Raises UserError if a value does not fit its column."""
    for row in rows:
        problem = problem_of({key: field_text(value) for key, value in row.items()})
        if problem:
            raise UserError(f"{row.get('system') or 'the system'} gave a row that does not fit the tables: {problem}")
    return table_text(CELL_COLUMNS, rows).encode()


def _is_a_cell(name: str) -> bool:
    return name.endswith((".csv", ".zip")) or name == ".checked"


def _lock(root: Path, beside: bool = False):
    """An exclusive lock that ends with its process, so that a killed run never blocks the next one.

    If another process holds it: raise UserError, or with `beside` return None.
    """
    path = root / ".lock"
    # Opening does not empty the file, because it holds the id of the process with the lock. A link is not followed,
    # because its target would be emptied.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags, 0o644)
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1 or path.is_symlink():
            os.close(handle)
            raise OSError(errno.ELOOP, "not a plain file")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise UserError(f"{path} is a link or not a plain file; remove it and repeat the command") from None
        raise
    file = os.fdopen(handle, "r+", encoding="ascii", errors="replace")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(
                1 << 30
            )  # one byte, the same for all, and none of those that hold the id: locked bytes cannot be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            if beside:  # nobody knows whether another process is writing
                file.close()
                return None
            return file  # on a file system without locks, run without one
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        if beside:
            return None
        raise UserError(
            f"--out {root}: another run (process {holder}) is writing there; wait for it or choose another folder"
        ) from None
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file
