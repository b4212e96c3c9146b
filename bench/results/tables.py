"""CSV tables as text: how they are written, and the one way they are read.

The store writes with `table_text` and `table_writer`; the reader, the terminal's tables and the perf commands read with
`read_rows` (fields as text) or `read_frame` (pandas). A table may lie in the run's folder as NAME.csv, NAME.csv.xz or
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

from bench.results.schema import FLAG, TEXT, Column
from bench.util.files import write_atomic
from systems.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Numbers of the reader that are better kept as text: no arithmetic is done with them, and 64 bits do not fit a float.
_AS_TEXT = ("seed", "schema")
#: How a compressed table is opened, by the ending after `.csv`. The first is the one that `compress` writes.
_OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
_QUOTED = re.compile(r'[,"\r\n]')


# ---------------------------------------------------------------- writing


def field_text(value: Any) -> str:
    """One CSV field: the shortest digits that give the same float back; None and NaN are empty.

    What UTF-8 cannot hold, and NUL, which readers of CSV end a text at, are written as backslash escapes.
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
    """One line of a CSV table, without its end. Fields with commas, quotes or ends of lines are quoted."""
    line = ",".join(fields)
    if line.count(",") == len(fields) - 1 and '"' not in line and "\r" not in line and "\n" not in line:
        return line
    return ",".join('"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in fields)


def table_writer(file: TextIO, columns: Iterable[str]) -> Callable[[Mapping[str, Any]], None]:
    """Write a table's head; gives the function that adds a row.

    Keys of a row that are not columns raise ValueError; missing ones are empty.
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
    """A whole CSV table; see `table_writer`."""
    out = io.StringIO(newline="")
    add = table_writer(out, columns)
    for row in rows:
        add(row)
    return out.getvalue()


def compress(path: Path) -> Path:
    """Replace a table by its `.csv.xz`, the same bytes on every machine. Gives the new file.

    xz and not gzip: rows of different systems share seeds and budgets, but lie further apart than gzip looks back. It
    halves the file.
    """
    data = lzma.compress(path.read_bytes(), preset=9)
    drop_compressed(path)
    target = path.with_name(path.name + ".xz")
    write_atomic(target, data)
    path.unlink()
    return target


def drop_compressed(path: Path) -> None:
    """Remove the compressed forms of a table, which a new one makes stale."""
    for file in _compressed(path):
        file.unlink(missing_ok=True)


def _compressed(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in _OPENERS]


# ---------------------------------------------------------------- reading


def find_table(path: Path) -> Path | None:
    """The table itself, its compressed form, or None where there is neither."""
    return next((file for file in (path, *_compressed(path)) if file.is_file()), None)


@contextlib.contextmanager
def _reading(path: Path, binary: bool = False) -> Iterator[Any]:
    """Open a table, plain or compressed. UserError, one line with the path, for whatever is wrong with the file."""
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
    """Rows of a table as text; [] where there is no file.

    Raises UserError where the file is no table, or lacks one of `columns`.
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
            raise UserError(f"{file}: row {number} has another number of fields than the head; repeat the run")
    return rows


def read_frame(path: Path, table: tuple[Column, ...], only: Iterable[str] | None = None) -> pd.DataFrame:
    """A table as pandas: numbers as float64 with every digit, empty ones NaN; texts as text, "" where empty.

    `only` names the columns to read; the others cost no memory. No file gives no rows. A column that came
    after the first schema may be missing: it is then empty. UserError where the table is broken.
    """
    import pandas as pd

    wanted = [column for column in table if only is None or column.name in frozenset(only)]
    if all(column.since > 1 for column in wanted):  # of a table without any of them pandas would not tell the length
        return read_frame(path, table, [table[0].name, *(c.name for c in wanted)]).drop(columns=table[0].name)
    texts = {c.name for c in wanted if c.kind in (TEXT, FLAG) or c.name in _AS_TEXT}
    types = {c.name: object if c.name in texts else float for c in wanted}
    file = find_table(path)
    nothing = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    if file is None:
        return nothing
    # Numbers are to be the very ones that were written. From pandas 3.1 on they are; before that only if asked for.
    exact = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
    with _reading(file, binary=True) as data:
        if file.suffix not in _OPENERS and data.seek(0, io.SEEK_END):
            data.seek(-1, io.SEEK_END)
            if data.read() != b"\n":  # pandas would fill the row with nothing
                raise UserError(f"{file}: it was cut short, its last line has no end; repeat the run")
            data.seek(0)
        try:
            frame = pd.read_csv(
                data, usecols=lambda name: name in types, dtype=types, encoding="utf-8-sig", **exact,
                keep_default_na=False, na_values={name: [""] for name in types if name not in texts},
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            return nothing
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
