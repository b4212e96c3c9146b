"""The files of a run. Every one is written under a temporary name, synced and renamed: it is whole or not there.

    <run>/manifest.json   what was asked, of what, with what (see `bench.sweep.execute`) <run>/cells/<id>.csv  one file
    a cell, the unit of caching: SAMPLE_COLUMNS and `confusion`; in a large run most of them
                          lie in archives, <run>/cells/pack-<hash>.zip (see `bench.results.archive`)
    <run>/samples.csv     SAMPLE_COLUMNS, a row per image x operating point x repetition, full precision
    <run>/confusion.csv   CONFUSION_COLUMNS, pixel counts of each image and class (segmentation)
    <run>/summary.csv     SUMMARY_COLUMNS, tidy: a row per point x metric (see `bench.analysis.summary`)
    <run>/failures.csv    FAILURE_COLUMNS, cells that failed the last time they were tried
    <run>/pictures.csv    PICTURE_COLUMNS, what each PNG under pictures/ shows; `file` is relative to the run
    <run>/pictures/<data set>/<image>/{original,truth,<system>-<snr>dB-<cell>}.png

What was not simulated, or does not apply, is an empty field, never 0.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from bench.results.archive import PACK_CELLS, Packs
from bench.util.files import StorageError, open_atomic, slug, write_atomic
from systems.errors import UserError

SCHEMA = 1  # raised when the same inputs would give other rows; part of every cell's id

#: One row per image, repetition and operating point. The last group is not reproducible: it says what the row cost.
SAMPLE_COLUMNS = (
    # key
    "schema", "cell_id", "system", "variant", "task", "dataset", "image_id", "height", "width", "rep", "seed",
    # operating point; snr_def "esn0": Es/N0 in dB per complex use; csi "perfect": the receiver knows h and the SNR
    "channel", "csi", "snr_def", "snr_db", "tx_power",
    # budget: a CBR or bits were granted; uses are complex, n_uses includes side_uses; bits = n_uses * bits_per_use
    "cbr_target", "bits_target", "budget_uses", "n_source", "n_uses", "cbr", "bits_per_use", "bits",
    "payload_bits", "header_bits", "side_bits", "side_uses", "coded_bits", "mcs", "source_scale",
    # outcome
    "status", "stop_reason", "n_bits", "n_bit_errors", "n_blocks", "n_block_errors",
    "mse", "psnr_db", "ms_ssim", "lpips", "miou", "pixel_accuracy",
    # cost, seconds a picture
    "encode_s", "channel_s", "decode_s", "batch", "device",
)  # fmt: skip
COST_COLUMNS = ("encode_s", "channel_s", "decode_s", "batch", "device")
_CELL_COLUMNS = (*SAMPLE_COLUMNS, "confusion")
CONFUSION_COLUMNS = (
    "cell_id", "system", "variant", "dataset", "image_id", "channel", "snr_db", "rep",
    "class", "intersection", "predicted", "labelled", "union",
)  # fmt: skip
SUMMARY_COLUMNS = (
    "system", "variant", "task", "dataset", "channel", "snr_def", "snr_db", "cbr_target", "bits_target", "metric",
    "higher_is_better", "mean", "std", "n_images", "n_reps", "ci_low", "ci_high", "ci_level", "ci_method", "n_outage",
    "limited", "run",
)  # fmt: skip
FAILURE_COLUMNS = (
    "cell_id", "system", "dataset", "images", "channel", "snr_db", "cbr_target", "bits_target", "rep", "error",
)  # fmt: skip
PICTURE_COLUMNS = (
    "figure", "kind", "system", "variant", "task", "dataset", "image_id", "channel", "snr_db", "cbr_target",
    "bits_target", "n_uses", "bits", "psnr_db", "miou", "pixel_accuracy", "status", "file",
)  # fmt: skip


def field_text(value: Any) -> str:
    """One CSV field: the shortest digits that give the same float back; None and NaN are empty."""
    if value is None:
        return ""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    return str(value).replace("\r", " ")  # the csv module would write it bare, and read it as the end of a row


def table_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV table; keys that are not columns are an error, missing ones are empty."""
    out = io.StringIO(newline="")
    add = _table_in(out, tuple(columns))
    for row in rows:
        add(row)
    return out.getvalue()


def _table_in(file: TextIO, columns: tuple[str, ...]) -> Callable[[Mapping[str, Any]], None]:
    """Write a table's head; gives the function that adds a row."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    known = frozenset(columns)

    def add(row: Mapping[str, Any]) -> None:
        if not known.issuperset(row):
            raise ValueError(f"not columns of this table: {', '.join(sorted(set(row) - known))}")
        values = map(row.get, columns)
        writer.writerow([value if type(value) is str and "\r" not in value else field_text(value) for value in values])

    return add


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV table as text; [] where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a CSV table in UTF-8") from None
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV table ({error})") from None


class RunStore:
    """The folder of one run."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.packs = Packs(self.root / "cells")
        self._loose: set[str] = set()  # names of the cells' own files, at the last look
        self._lock = None

    # -- the folder -----------------------------------------------------------------------------------------------

    def check(self, config_hash: str) -> None:
        """UserError if the folder holds another run or something else. Touches nothing."""
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise UserError(f"--out {self.root} is a file, not a folder")
        manifest = self.manifest()
        if manifest is None:
            if any(not child.name.startswith(".") for child in self.root.iterdir()):
                raise UserError(f"--out {self.root} holds files but no manifest.json: not a run; choose another folder")
        elif manifest.get("config_sha256") != config_hash:
            raise UserError(
                f"--out {self.root} holds a run of another configuration; repeat its options, or choose another folder"
            )

    def open(self, config_hash: str, shared: bool = False, beside: bool = False) -> None:
        """Make the folder, lock it for this process, clear what a killed run left half-written.

        `shared`: a cluster's jobs may be writing right now, so nothing is cleared. `beside`: where another run holds
        the lock, go without it; only for who computes nothing and writes tables, each of which is replaced whole.
        """
        self.check(config_hash)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.root, beside)
        except OSError as error:
            raise StorageError(
                f"--out {self.root}: cannot write there ({error.strerror}); choose another folder"
            ) from None
        self.check(config_hash)  # another process may have made it between the first look and the lock
        for stray in () if shared else list(self.root.rglob(".*.tmp")):
            stray.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def manifest(self) -> dict[str, Any] | None:
        """manifest.json, or None."""
        path = self.root / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot read it ({error})") from None
        if not isinstance(manifest, dict):
            raise UserError(f"{path}: not the manifest of a run; choose another folder")
        return manifest

    # -- cells ----------------------------------------------------------------------------------------------------

    def cell_path(self, cell_id: str) -> Path:
        """Where a cell's rows lie."""
        return self.root / "cells" / f"{cell_id}.csv"

    def write_cell(self, cell_id: str, rows: list[dict[str, Any]]) -> None:
        """The rows of one finished cell."""
        write_atomic(self.cell_path(cell_id), table_text(_CELL_COLUMNS, rows).encode())

    def read_cell(self, cell_id: str, image_ids: tuple[str, ...]) -> list[dict[str, str]] | None:
        """The rows of a cell; None where it is absent, damaged or not these images' (then it is computed again)."""
        path = self.cell_path(cell_id)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = self.packs.read(cell_id)
        except OSError:
            return None
        rows = _cell_rows(cell_id, data) if data is not None else None
        return rows if rows is not None and [row["image_id"] for row in rows] == list(image_ids) else None

    def look(self) -> None:
        """Take note of what is there now, before `has_cell` is asked of many cells."""
        self.packs.look()
        try:
            self._loose = {entry.name for entry in os.scandir(self.root / "cells")}
        except (FileNotFoundError, NotADirectoryError):
            self._loose = set()

    def has_cell(self, cell_id: str, image_ids: tuple[str, ...]) -> bool:
        """Whether `read_cell` gives rows, as of the last `look`. An archive was checked as a whole: it is not read
        again."""
        if f"{cell_id}.csv" in self._loose:
            return self.read_cell(cell_id, image_ids) is not None
        return cell_id in self.packs

    def drop_cells(self, cell_ids: Iterable[str]) -> None:
        """Remove cells, so that they cannot be taken for new ones."""
        cell_ids = list(cell_ids)
        for cell_id in cell_ids:
            self.cell_path(cell_id).unlink(missing_ok=True)
        self.packs.look()
        self.packs.drop(cell_ids, write_atomic)

    def pack(self) -> None:
        """Move whole cells into archives, PACK_CELLS each. Only for who holds the lock; others may be writing cells."""
        if self._lock is None:
            return
        paths = sorted((self.root / "cells").glob("[!.]*.csv"))
        for start in range(0, len(paths) - PACK_CELLS + 1, PACK_CELLS):
            files = {path.stem: path for path in paths[start : start + PACK_CELLS]}
            cells = {
                cell_id: data
                for cell_id, path in files.items()
                if _cell_rows(cell_id, data := path.read_bytes()) is not None
            }
            self.packs.drop(cells, write_atomic)  # what was computed anew counts
            self.packs.add(cells, write_atomic)
            for cell_id in cells:
                files[cell_id].unlink(missing_ok=True)

    # -- pictures -------------------------------------------------------------------------------------------------

    @staticmethod
    def picture_name(dataset: str, image_id: str, name: str) -> str:
        """Relative path of a picture of the run."""
        return f"pictures/{slug(dataset)}/{slug(image_id)}/{name}.png"

    def write_picture(self, name: str, pixels, palette: list[int] | None = None) -> None:
        """uint8 numpy (H, W, 3), or class ids (H, W) with a palette, as PNG under the relative path `name`."""
        from PIL import Image

        picture = Image.fromarray(pixels)
        if palette is not None:
            picture.putpalette(palette)
        out = io.BytesIO()
        picture.save(out, "PNG")
        write_atomic(self.root / name, out.getvalue())

    # -- tables ---------------------------------------------------------------------------------------------------

    def write_table(self, name: str, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """A table of the run."""
        write_atomic(self.root / name, table_text(columns, rows).encode())

    @contextlib.contextmanager
    def table(self, name: str, columns: tuple[str, ...]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that adds a row to a table of the run, which is there when the block ends: for tables beyond
        memory."""
        with open_atomic(self.root / name) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield _table_in(text, columns)
            text.detach()  # flushes; the file is closed by whose it is

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """manifest.json."""
        write_atomic(self.root / "manifest.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())

    def failures(self) -> list[dict[str, str]]:
        """The cells that failed the last time they were tried."""
        return read_table(self.root / "failures.csv")


def _cell_rows(cell_id: str, data: bytes) -> list[dict[str, str]] | None:
    """The rows in a cell's file, or None where it is not whole or another cell's."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error):
        return None
    whole = all(tuple(row) == _CELL_COLUMNS and None not in row.values() and row["cell_id"] == cell_id for row in rows)
    return rows if rows and whole else None


def _lock(root: Path, beside: bool = False):
    """An exclusive lock that dies with its process, so a killed run never blocks the next one.

    Where another process has it: UserError, or with `beside` None.
    """
    path = root / ".lock"
    file = open(path, "a+", encoding="ascii")  # not "w": the holder's id must survive a look by another process
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
            return file  # a file system without locks: better to run than to refuse
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
