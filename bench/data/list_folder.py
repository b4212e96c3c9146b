"""Lists the pictures of a folder, and their ids, by the same rule for data sets and for training.

A file is a picture if its name has the ending of a picture (`bench.data.decode.PICTURE_SUFFIXES`) and does not start
with a dot. Folders, pipes and other files are skipped, counted and named. A broken link is an error, because a set that
silently lacks a picture would give another mean. `bench.data.catalogue` calls it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.data.decode import PICTURE_SUFFIXES
from bench.util.files import shown
from systems.errors import UserError

NAMED = 5  # a note names this many skipped files, and counts the others


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder by their id, in order, and the skipped files, each with the reason."""

    pictures: dict[str, Path]
    skipped: tuple[str, ...]


def list_pictures(folder: Path) -> Listing:
    """The pictures of one folder, without its subfolders, sorted by name. Raises UserError if there are none."""
    names, skipped, inner = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                counts = entry.name.lower().endswith(PICTURE_SUFFIXES)
                kind = _kind(entry)
                if kind == "broken" and counts:
                    raise UserError(
                        f"picture {shown(entry.path)} is a link that leads nowhere; repair or remove the link"
                    )
                if kind == "folder" and not counts:
                    inner.append(entry.name)
                elif kind != "file":
                    skipped.append(f"{shown(entry.name)} (a {kind})")
                elif not counts:
                    skipped.append(shown(entry.name))
                else:
                    names.append(entry.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot list the folder {shown(folder)}: {reason}; name another folder") from None
    if not names:
        found = f" ({_few(skipped)})" if skipped else ""
        deeper = f"; subfolders are not searched: name one, such as {shown(Path(folder) / inner[0])}" if inner else ""
        raise UserError(
            f"no pictures in {shown(folder)}{found}{deeper}; names of pictures end in {', '.join(PICTURE_SUFFIXES)}"
        )
    return Listing({id_: Path(folder) / name for id_, name in picture_ids(names).items()}, tuple(skipped))


def skipped_note(name: str, skipped: tuple[str, ...]) -> str:
    """One line for the user about the files that were skipped."""
    return f"{name}: {len(skipped)} of its files {'is' if len(skipped) == 1 else 'are'} not read: {_few(skipped)}"


def _few(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        entry.stat()
        return "pipe or device"
    except OSError:
        return "broken"


def picture_ids(names: list[str]) -> dict[str, str]:
    """File names -> {id: file name}, in the same order. Ids are all different, on one line, and valid UTF-8.

    An id is the file name without its suffix. It is the whole name if two files would get the same id, or if another
    file has this whole name. Control characters and bytes that are not UTF-8 are escaped. Names that then look the same
    get the first digits of their hash. Raises UserError if two ids are still the same.
    """
    clean = {name: shown(name, most=len(name)) for name in names}
    stems = {name: os.path.splitext(text)[0] for name, text in clean.items()}
    count, whole = Counter(stems.values()), Counter(clean.values())
    ids: dict[str, str] = {}
    for name in names:
        text = stems[name] if count[stems[name]] == 1 and stems[name] not in whole else clean[name]
        if whole[clean[name]] > 1:
            text = f"{clean[name]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
        ids[text] = name
    if len(ids) != len(names):  # one file has the name of another one's hash
        raise UserError("two pictures of one folder cannot be told apart by their names; rename one")
    return ids
