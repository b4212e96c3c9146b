"""Files: the one atomic writer, the one reader of bytes, text, JSON and TOML, and rules for names.

Called by all code that reads or writes files. A write goes to a temporary file beside its target, which is synced and
renamed, so nobody ever reads half a file. A read opens only plain files (opening a pipe would wait for ever). Text is
UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from systems.errors import UserError

NAME_BYTES = 200  # longest slug; file systems allow 255, and callers add an ending
_HASH_DIGITS = 10


class StorageError(UserError):
    """The disk refused to store a file. The run stops, and existing files stay complete."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, completely or not at all, even if the power fails. Raises StorageError if the disk
    refuses.
    """
    with open_atomic(path) as file:
        file.write(data)


def write_all(files: Mapping[Path, bytes]) -> list[Path]:
    """Write several files, path -> content, after all of them fitted on the disk. Returns the paths.

    Raises StorageError if the disk refuses one. Then all of them are as they were.
    """
    with contextlib.ExitStack() as stack:
        for path, data in files.items():
            stack.enter_context(replacing(path)).write_bytes(data)
    return list(files)


@contextlib.contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """In a `with` block: a binary file to write. It replaces `path` when the block ends without an error.

    Raises StorageError if the disk refuses. Then `path` is unchanged.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """In a `with` block: a temporary path beside `path`, for libraries that write by name. It replaces `path` at the
    end.

    Missing folders are made. Raises StorageError if the disk refuses, or if `path` is a folder or a device. Then `path`
    is unchanged, and the folders that were made are gone.
    """
    path = Path(path)
    temporary, done, made = None, False, []
    try:
        _check_target(path)
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{_cut(path.name, 40)}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary, done = None, True
        if hasattr(os, "O_DIRECTORY"):
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space and repeat the command: finished cells are kept" if full else "choose another --out"
        raise StorageError(f"cannot write {path}: {error.strerror or error}; {advice}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not done:
            for folder in made:
                with contextlib.suppress(OSError):  # others may have put files there
                    folder.rmdir()


def _check_target(path: Path) -> None:
    """Raise OSError if a rename to `path` would replace a folder or a device. Root could replace /dev/null for the
    whole machine.
    """
    folder = os.path.realpath(path.parent)
    if re.match(r"/(dev|proc|sys)(?!/shm(/|$))(/|$)", folder + "/"):
        raise OSError(errno.EINVAL, "devices are no place for files")
    if not os.path.lexists(path):
        return
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a device or a socket")


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_plain(path: Path | str) -> BinaryIO:
    """Open a plain file for reading. Raises OSError also for a folder, a pipe, a device, or a NUL in the path."""
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "the path holds a NUL character")
    # Without O_NONBLOCK, opening a pipe would wait until something writes to it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a plain file")


def read_bytes(path: Path | str) -> bytes:
    """The content of a plain file. Raises OSError as `open_plain` does."""
    with open_plain(path) as file:
        return file.read()


def read_text(path: Path | str, what: str = "file") -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    what: the kind of file, for the message. Raises UserError, in one line with the path, if it cannot be read or has
    another encoding.
    """
    try:
        return decode_text(read_bytes(path))
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise UserError(f"{shown(path)}: cannot read this {what}: {reason}")


def decode_text(data: bytes) -> str:
    """The bytes of a text file -> text. Raises ValueError, which says how to correct the file, if it is not UTF-8."""
    advice = "save it in UTF-8"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"it is UTF-16 or UTF-32; {advice}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; {advice}") from None
    if "\0" in text:
        raise ValueError(f"it holds NUL characters, as UTF-16 does; {advice}")
    return text


def read_json(path: Path, what: str = "file") -> Any:
    """The value in a JSON file. None if there is no file.

    what: the kind of file, for the message. Raises UserError, in one line with the path, if it is not UTF-8, not JSON,
    or nested too deep.
    """
    try:
        return json.loads(decode_text(read_bytes(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecursionError:
        reason = "its values are nested too deep"
    except OSError as error:
        reason = error.strerror or str(error)
    except json.JSONDecodeError as error:
        reason = f"it is not JSON, {error}"
    except ValueError as error:  # not UTF-8, or a number with more digits than Python reads
        reason = str(error)
    raise UserError(f"{shown(path)}: cannot read this {what} ({reason})")


def read_toml(path: Path | str, what: str = "TOML file") -> dict[str, Any]:
    """The table in a TOML file. Raises UserError, in one line with the path, if it cannot be read or is not TOML.

    Texts with a NUL character, which no path and no name can contain, are refused here for all keys.
    """
    text = read_text(path, what)
    try:
        values = tomllib.loads(text)
        if "\\u0000" in text and _has_nul(values):
            raise ValueError("a text in it holds a NUL character")
    except RecursionError:
        raise UserError(f"{shown(path)}: its values are nested too deep") from None
    except ValueError as error:  # also for a number with more digits than Python reads
        raise UserError(f"{shown(path)}: not valid TOML ({shown(error)})") from None
    return values


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def user_path(text: str | Path, flag: str) -> Path:
    """A path that the user gave to the option `flag`, with ~ replaced. Raises UserError if no file can have such a
    path.
    """
    text = str(text)
    if "\0" in text:
        raise UserError(f"{flag} {shown(text)}: a path cannot hold a NUL character; write another")
    longest = max((len(os.fsencode(part)) for part in text.split("/")), default=0)
    if longest > 255:
        raise UserError(f"{flag}: a name in the path has {longest} bytes; the most is 255: {shown(text)}")
    if len(os.fsencode(text)) > 4000:
        raise UserError(f"{flag}: the path has {len(os.fsencode(text))} bytes, more than a system takes: {shown(text)}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{flag} {shown(text)}: there is no such home folder; write the path in full") from None


def several(count: int, what: str) -> str:
    """(2, 'picture') -> '2 pictures'."""
    return f"{count} {what}" + ("" if count == 1 else "s")


def shown(text: object, most: int = 300) -> str:
    r"""A path, name or message on one line for any UTF-8 file or terminal, cut to about `most` characters.

    Control characters, line ends, signs without a shape (such as those that turn the direction of a line) and bytes
    that are not UTF-8 become backslash escapes (`\\r`, `\\u202e`, `\\xe9`).
    """
    text = str(text)
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-most // 3 :]}"
    return "".join(map(_visible, text)) if not text.isprintable() else text


def has_control(text: str) -> bool:
    """Whether a text holds a control character, a line end, or another sign for which `shown` writes an escape."""
    return shown(text, len(text)) != text


def is_formula(text: str) -> bool:
    """Whether a program for sheets, opening a table of CSV, would take a text, or what follows a semicolon in it, for a
    formula, which can start programs: it begins with =, @, + or -, also as wide as a Chinese sign, and is no number.

    Where numbers are written with a comma, such a program splits the lines of CSV at semicolons.
    """
    return any(map(_begins_a_formula, unicodedata.normalize("NFKC", text).split(";")))


def no_formula(text: str) -> str:
    """The text as it is, or if it is a formula, with a quotation mark before it and commas in place of semicolons."""
    return "'" + unicodedata.normalize("NFKC", text).replace(";", ",") if is_formula(text) else text


def _begins_a_formula(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lstrip().startswith(("=", "@", "+", "-"))
    return False


def _visible(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # Python's code for a byte of a file name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def clash(names: Iterable[str]) -> str:
    """The first name that is there twice, quoted, "" if there is none. Names that differ in case alone are one: some
    file systems ignore it (macOS, Windows), and one file would hide the other.
    """
    seen: dict[str, str] = {}
    for name in names:
        if (key := name.casefold()) not in seen:
            seen[key] = name
        elif seen[key] == name:
            return repr(name)
        else:
            return f"{seen[key]!r} ({name!r} is the same name on file systems that ignore case)"
    return ""


def slug(text: str, hashed: bool = False) -> str:
    """A file name of at most NAME_BYTES bytes for any text. Different texts get different names. But names may differ
    in case alone, which some file systems ignore (see `clash`).

    A plain short name stays unchanged, if not `hashed`. Any other text gets the first digits of its hash at the end:
    because characters were replaced, because it was cut, or because it already ends like such a hash.
    """
    clean = re.sub(r"[^A-Za-z0-9._+-]", "_", text).lstrip(".") or "_"
    if (
        not hashed
        and clean == text
        and len(clean) <= NAME_BYTES
        and not re.search(rf"-[0-9a-f]{{{_HASH_DIGITS}}}$", clean)
    ):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    return f"{clean[: NAME_BYTES - _HASH_DIGITS - 1]}-{digest}"


def _cut(name: str, size: int) -> str:
    """The first `size` bytes of a file's name."""
    return os.fsdecode(os.fsencode(name)[:size]) if len(os.fsencode(name)) > size else name
