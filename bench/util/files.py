"""Files, whole or not at all: the one atomic writer, the one JSON reader, and the rule of file names.

Called by every room that writes files (results, training, data, report, perf). Each write goes to a temporary file beside
its target, is synced and renamed, so that a reader or the next run never meets half a file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from systems.errors import UserError

NAME_BYTES = 200  # of one slug; file systems hold 255, and callers add an ending
_HASH_DIGITS = 10


class StorageError(UserError):
    """The disk does not take what must be written; the run stops, and what is there stays whole."""


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` under `path`, whole or not at all, also across a power cut. StorageError where the disk refuses."""
    with open_atomic(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Give a binary file to write. It takes its place under `path` when the block ends without an error.

    Raises StorageError where the disk refuses; then `path` is as it was.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, for libraries that write by name. It replaces `path` when the block ends.

    The folder is made where it is missing. Raises StorageError where the disk refuses; then `path` is as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_cut(path.name, 40)}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        if hasattr(os, "O_DIRECTORY"):
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space and repeat the command: finished cells are kept" if full else "choose another --out"
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {advice}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path, what: str = "file") -> Any:
    """The value of a JSON file in UTF-8 (a byte order mark is allowed), or None where there is no file.

    `what` names the file's kind in the message. Raises UserError, one line with the path, for everything else: no
    UTF-8, no JSON, values nested too deep.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError:
        reason = "its values are nested too deep"
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = f"it is not JSON, {error}"
    raise UserError(f"{path}: cannot read this {what} ({reason})")


def slug(text: str) -> str:
    """A file name of at most NAME_BYTES bytes for any text; different texts get different names.

    A text that is already a plain short name stays as it is. Every other one gets the first digits of its hash: one with
    characters that were replaced, one that was cut, and one that looks as if it had such a hash.
    """
    clean = re.sub(r"[^A-Za-z0-9._+-]", "_", text).lstrip(".") or "_"
    if clean == text and len(clean) <= NAME_BYTES and not re.search(rf"-[0-9a-f]{{{_HASH_DIGITS}}}$", clean):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    return f"{clean[: NAME_BYTES - _HASH_DIGITS - 1]}-{digest}"


def _cut(name: str, size: int) -> str:
    """At most `size` bytes of a file's name."""
    return os.fsdecode(os.fsencode(name)[:size]) if len(os.fsencode(name)) > size else name
