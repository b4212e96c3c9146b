"""A training set in one file, to copy it to another machine: `python -m bench data pack FILE`, source `pack:FILE`.

`make_pack` writes packs, `sources` reads them. The file is a ZIP archive whose entries are stored without compression:

    index.json          format, codec, quality, sources, teacher, and one row per picture: its name and its files
    p/00000.webp        the picture, WebP; all have the same quality, the highest that the size of the file allows
    m/00000.png         its mask, 8-bit grey, class ids (if the source has masks)
    t/00000.png         its teacher's labels, at the teacher's own size (if a teacher was wanted)

The same pictures and the same version of Pillow give the same bytes. `bench.data` decodes the files, so the rules for a
pack are the same as for any other set.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.data.decode import decode_mask, decode_picture, unreadable
from bench.training.picture import Picture
from bench.util.files import write_atomic
from systems.errors import UserError, reason

FORMAT = "semantic-bench training pack 1"
_HIGHEST, _LOWEST = 95, 20  # range of WebP's quality
_LARGEST = 4 * 2**30  # most bytes of all files in a pack
_ENTRY = re.compile(r"[pmt]/\d{5,}\.(webp|png)")
_KINDS = ("picture", "mask", "labels")
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date for all entries, so that the bytes do not depend on the clock


def write_pack(
    path: Path, pictures: Sequence[Picture], sources: Sequence[str], max_bytes: int, say: Callable[[str], None] = print
) -> int:
    """Write `pictures` into one file of at most `max_bytes` bytes. Returns the quality.

    Raises UserError, and writes nothing, if even the lowest quality is too large.
    """
    names = [picture.name for picture in pictures]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{twice}: two pictures of this name; name each source once")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        masks = list(pool.map(lambda p: _png(p.mask), pictures))
        labels = list(pool.map(lambda p: _png(p.labels), pictures))
        fixed = sum(len(data) for data in (*masks, *labels) if data)
        fixed += 600 * len(pictures)  # index and directory: 350 to 500 bytes per picture with three files were measured
        room = max_bytes - fixed
        quality = _estimate(pictures, room, pool)
        while True:
            files = list(pool.map(partial(_webp, quality), pictures))
            size = sum(map(len, files))
            say(f"{len(pictures)} pictures at quality {quality}: {(size + fixed) / 2**20:.1f} MiB")
            if size <= room:
                break
            if quality == _LOWEST:
                raise UserError(
                    f"{path.name}: {len(pictures)} pictures take {(size + fixed) / 2**20:.1f} MiB at the lowest "
                    "quality; raise --max-mib or name fewer sources"
                )
            quality = max(_LOWEST, quality - 3)
    rows, entries = [], []
    for number, picture in enumerate(pictures):
        row = {"name": picture.name}
        parts = (("picture", "p", "webp", files), ("mask", "m", "png", masks), ("labels", "t", "png", labels))
        for kind, folder, ending, data in parts:
            if data[number]:
                row[kind] = f"{folder}/{number:05d}.{ending}"
                entries.append((row[kind], data[number]))
        rows.append(row)
    teachers = sorted({picture.teacher for picture in pictures if picture.labels is not None})
    index = {
        "format": FORMAT,
        "codec": "webp",
        "quality": quality,
        "sources": list(sources),
        "teacher": ", ".join(teachers),
        "pictures": rows,
    }
    text = json.dumps(index, separators=(",", ":"), ensure_ascii=True).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("index.json", text), *entries):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    if whole.tell() > max_bytes:
        raise UserError(f"{path.name}: the names of its pictures are too long for {max_bytes / 2**20:.1f} MiB")
    write_atomic(path, whole.getvalue())
    return quality


def read_pack(path: Path) -> list[Picture]:
    """The pictures of a pack, in order. Raises UserError, in one line, if the file is no pack or is damaged."""
    if not path.is_file():
        raise UserError(f"{path}: no such pack; make one with `python -m bench data pack`")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            with zipfile.ZipFile(file) as archive:
                index, files = _entries(archive)
        teacher, names = _text(index["teacher"]), [_text(row["name"]) for row in index["pictures"]]
        if len(set(names)) != len(names):
            raise ValueError("its index names a picture twice")
        contents = [[_content(row, kind, files) for kind in _KINDS] for row in index["pictures"]]
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError, RecursionError, NotImplementedError) as error:
        raise UserError(
            f"{path}: not a whole training pack ({reason(error)}); make it again with `data pack`"
        ) from None
    except (RuntimeError, EOFError, zlib.error):  # an encrypted or truncated entry
        raise UserError(f"{path}: not a whole training pack; make it again with `data pack`") from None

    def one(name: str, content: list[bytes | None]) -> Picture:
        picture, mask, labels = content
        where = Path(f"{path}:{name}")
        pixels = np.array(decode_picture(picture, where, upright=False))
        known = None if mask is None else np.array(decode_mask(mask, where, pixels.shape[:2]))
        taught = None if labels is None else decode_class_map(labels, where)
        return Picture(name, pixels, known, taught, teacher if labels is not None else "", digest)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, names, contents))


def decode_class_map(data: bytes, path: Path) -> np.ndarray:
    """Class ids uint8 (h, w) of a mask file of any size. path: for messages. Raises UserError."""
    try:
        with Image.open(io.BytesIO(data)) as header:  # only its size is read here
            size = header.size[::-1]
    except Exception as error:
        raise unreadable(path, error, "mask") from None
    return np.array(decode_mask(data, path, size))


def _entries(archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The index, and the content of every file that a pack may contain."""
    infos = archive.infolist()
    if sum(info.file_size for info in infos) > _LARGEST:
        raise ValueError("its directory names more than 4 GiB")
    index = json.loads(archive.read("index.json"))
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError("its index is of another format")
    if not isinstance(index["pictures"], list) or not index["pictures"]:
        raise ValueError("it holds no picture")
    return index, {info.filename: archive.read(info) for info in infos if _ENTRY.fullmatch(info.filename)}


def _text(value: Any) -> str:
    """A name in an index. Raises ValueError, or UnicodeEncodeError, for what is no text that a file name could be."""
    if not isinstance(value, str):
        raise ValueError(f"its index has {value!r:.60} in place of a name")
    value.encode("utf-8", "surrogateescape")
    return value


def _content(row: dict[str, str], kind: str, files: dict[str, bytes]) -> bytes | None:
    if kind not in row and kind != "picture":
        return None
    if row[kind] not in files:
        raise ValueError(f"its index names the file {row[kind]!r}, but there is no such file in it")
    return files[row[kind]]


def _estimate(pictures: Sequence[Picture], room: int, pool: ThreadPoolExecutor) -> int:
    """The highest quality at which, judging from a sample of the pictures, all will fit."""
    sample = pictures[:: max(1, len(pictures) // 64)]
    pixels = sum(p.pixels.size for p in pictures) / max(1, sum(p.pixels.size for p in sample))
    low, high = _LOWEST, _HIGHEST
    while low < high:
        middle = (low + high + 1) // 2
        size = sum(map(len, pool.map(partial(_webp, middle), sample))) * pixels
        low, high = (middle, high) if size <= room else (low, middle - 1)
    return low


def _webp(quality: int, picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _png(classes: np.ndarray | None) -> bytes | None:
    if classes is None:
        return None
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "PNG", optimize=True)
    return file.getvalue()
