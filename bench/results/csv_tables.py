"""CSV tables as text: how they are written, and how they are read.

The store writes with `table_text` and `table_writer`, and the tables of figures and comparisons are written with
`frame_text`. The reader, the tables on the terminal and the perf commands read
with `read_rows` (fields as text) or `read_frame` (pandas). In a run's folder, a table may be NAME.csv, NAME.csv.xz or
NAME.csv.gz.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bench.results.schema import FLAG, NUMBER, POINT, SECONDS, TEXT, Column
from bench.util.files import no_formula, write_atomic
from systems.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Whole numbers that `read_frame` keeps as text: nothing is computed with them, and 64 bits do not fit into a float.
_AS_TEXT = ("noise_id", "schema")
#: Functions that open compressed tables, by the ending after `.csv`. `compress` writes the first form.
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
#: The filter of `compress`. lc and pb are those for text, one to two per cent smaller than xz -9e.
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]
_QUOTED = re.compile(r'[,"\r\n]')


# ---------------------------------------------------------------- writing


def field_text(value: Any) -> str:
    """One CSV field. A float is written with the fewest digits that give the same float back. None and NaN are empty.

    Characters that UTF-8 cannot hold, and NUL, at which readers of CSV end a text, become backslash escapes.
    """
    if value is None:
        return ""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else repr(value)
    text = str(value)
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")


def line_of(fields: list[str]) -> str:
    """One line of a CSV table, without its end. Fields with commas, quotes or line ends are quoted."""
    line = ",".join(fields)
    if line.count(",") == len(fields) - 1 and '"' not in line and "\r" not in line and "\n" not in line:
        return line
    return ",".join('"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in fields)


def table_writer(file: TextIO, columns: Iterable[str]) -> Callable[[Mapping[str, Any]], None]:
    """Write the head of a table, and return a function that adds one row.

    It raises ValueError for keys that are no columns. Missing keys are empty fields.
    """
    columns = tuple(columns)
    known = frozenset(columns)
    file.write(line_of(list(columns)) + "\n")

    def add(row: Mapping[str, Any]) -> None:
        if not known.issuperset(row):
            raise ValueError(f"not columns of this table: {', '.join(sorted(set(row) - known))}")
        file.write(line_of([field_text(row.get(column)) for column in columns]) + "\n")

    return add


def table_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A whole CSV table as text; see `table_writer`."""
    out = io.StringIO(newline="")
    add = table_writer(out, columns)
    for row in rows:
        add(row)
    return out.getvalue()


def frame_text(table: pd.DataFrame) -> str:
    """A pandas table as CSV, for sheets. A text of a system, of a run or of a figure is no formula there."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    safe = texts.map(lambda value: no_formula(value) if isinstance(value, str) else value)
    return table.assign(**{str(name): safe[name] for name in safe}).to_csv(index=False, lineterminator="\n")


def compress(path: Path, table: tuple[Column, ...]) -> Path:
    """Replace a table by its `.csv.xz`, with numbers as `shorten` rounds them. The bytes are the same on every machine.
    Returns the new file. Raises UserError, and changes nothing, if the table is damaged.

    With gzip it would be twice as large: rows of different systems share seeds and budgets, but are too far apart for
    gzip to notice.
    """
    data = lzma.compress(_rounded(path, table).encode(), filters=_XZ)
    drop_compressed(path)
    target = path.with_name(path.name + ".xz")
    write_atomic(target, data)
    path.unlink()
    return target


def shorten(path: Path, table: tuple[Column, ...]) -> Path:
    """Round the numbers of a table in its file. Returns the file. Raises UserError, and keeps it, if it is damaged.

    Numbers keep nine significant digits, as many as a float32 needs, and times four, since no clock is better. More
    would be half of the file. SNR and CBR keep all their digits, because they name the operating point.
    """
    write_atomic(path, _rounded(path, table).encode())
    return path


def _rounded(path: Path, table: tuple[Column, ...]) -> str:
    digits = {
        column.name: 4 if column.unit == SECONDS else 9
        for column in table
        if column.kind == NUMBER and column not in POINT
    }
    out = io.StringIO(newline="")
    with _reading(path) as file:
        rows = csv.reader(file)
        header = next(rows, [])
        rounded = [(place, digits[name]) for place, name in enumerate(header) if name in digits]
        out.write(line_of(header) + "\n")
        try:
            for row in rows:
                if len(row) != len(header):
                    raise ValueError("it has another number of fields than the header")
                for place, most in rounded:
                    row[place] = row[place] and field_text(float(f"{float(row[place]):.{most}g}"))
                out.write(line_of(row) + "\n")
        except (csv.Error, ValueError) as error:
            raise UserError(f"{path}: not a CSV table of a run in line {rows.line_num} ({error})") from None
    return out.getvalue()


def drop_compressed(path: Path) -> None:
    """Delete the compressed forms of a table, which are out of date when a new one is written."""
    for file in _compressed(path):
        file.unlink(missing_ok=True)


def _compressed(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _OPENERS]


# ---------------------------------------------------------------- reading


def find_table(path: Path) -> Path | None:
    """The table itself, or its compressed form, or None."""
    return next((file for file in (path, *_compressed(path)) if file.is_file()), None)


@contextlib.contextmanager
def _reading(path: Path, binary: bool = False) -> Iterator[Any]:
    """Open a table, plain or compressed. Raises UserError, in one line with the path, for every fault of the file."""
    opener = _OPENERS.get(path.suffix, open)
    try:
        if binary:
            with opener(path, "rb") as file:
                yield file
        else:
            with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError):
        raise UserError(f"{path}: not a whole {path.suffix[1:]} file; repeat the run") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a CSV table in UTF-8; repeat the run") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def read_rows(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Rows of a table as text. [] if there is no file.

    Raises UserError if the file is no table, or lacks one of `columns`.
    """
    file = find_table(path)
    if file is None:
        return []
    with _reading(file) as text:
        try:
            reader = csv.DictReader(text, restkey="")
            _check_columns(file, reader.fieldnames or (), columns)
            rows = list(reader)
        except csv.Error as error:
            raise UserError(f"{file}: not a CSV table ({error}); repeat the run") from None
    for number, row in enumerate(rows, 1):
        if "" in row or None in row.values():
            raise UserError(f"{file}: row {number} has another number of fields than the header; repeat the run")
    return rows


def read_column(path: Path, column: str) -> Iterator[str]:
    """The fields of one column, one after another: for tables beyond memory. Nothing if there is no file.

    Raises UserError if the file is no table, or lacks the column.
    """
    file = find_table(path)
    if file is None:
        return
    with _reading(file) as text:
        try:
            reader = csv.DictReader(text, restkey="")
            _check_columns(file, reader.fieldnames or (), (column,))
            yield from (row[column] or "" for row in reader)
        except csv.Error as error:
            raise UserError(f"{file}: not a CSV table ({error}); repeat the run") from None


def read_frame(path: Path, table: tuple[Column, ...], only: Iterable[str] | None = None) -> pd.DataFrame:
    """A table as pandas: numbers as float64 with every digit, empty ones NaN; texts as text, "" if empty.

    only: names of the columns to read; the others take no memory. If there is no file, there are no rows. A column that
    came after the first schema may be missing; it is then empty. Raises UserError if the table is damaged.
    """
    import pandas as pd

    wanted = [column for column in table if only is None or column.name in frozenset(only)]
    if all(column.since > 1 for column in wanted):  # without one other column, pandas would not give the number of rows
        return read_frame(path, table, [table[0].name, *(c.name for c in wanted)]).drop(columns=table[0].name)
    texts = {c.name for c in wanted if c.kind in (TEXT, FLAG) or c.name in _AS_TEXT}
    types = {c.name: object if c.name in texts else float for c in wanted}
    file = find_table(path)
    nothing = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    if file is None:
        return nothing
    # Numbers must be exactly those that were written. Before pandas 3.1 this needs an option.
    exact = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    with _reading(file, binary=True) as data:
        if file.suffix not in _OPENERS and data.seek(0, io.SEEK_END):
            data.seek(-1, io.SEEK_END)
            if data.read() != b"\n":  # pandas would read the rest of the row as empty
                raise UserError(f"{file}: it was cut short, its last line has no end; repeat the run")
            data.seek(0)
        try:
            frame = pd.read_csv(
                data, usecols=lambda name: name in types, dtype=types, encoding="utf-8-sig", **exact,
                keep_default_na=False, na_values={name: [""] for name in types if name not in texts},
            )  # fmt: skip
        except pd.errors.EmptyDataError:  # a table without rows has its header
            raise UserError(f"{file}: it is empty, without even a header; repeat the run") from None
        except UnicodeDecodeError:
            raise
        except pd.errors.ParserError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{file}: not a CSV table ({reason}); repeat the run") from None
        except (ValueError, OverflowError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{file}: not a number where one must be ({reason}); repeat the run") from None
    _check_columns(file, frame.columns, (column.name for column in wanted if column.since == 1))
    for column in wanted:
        if column.name not in frame:
            frame[column.name] = pd.Series("" if column.name in texts else math.nan, frame.index, types[column.name])
    return frame


def _check_columns(file: Path, found: Iterable[str], wanted: Iterable[str]) -> None:
    missing = [column for column in wanted if column not in frozenset(found)]
    if missing:
        raise UserError(f"{file}: lacks the column {missing[0]!r}; it was written by another version, repeat the run")
