"""Reads training sources: from names to pictures. `bench.data` decodes them by the rules of the sweep, once per
command.

`run` and `data pack` call it. A source is one of

    photos              a folder of pictures under the data root (any other name likewise)
    folder:PATH         a folder anywhere
    bundled             the photographs that installed packages contain
    voc2012:SPLIT       PASCAL VOC 2012 with its masks; voc:SPLIT for short
    pack:FILE           a file made by `python -m bench data pack`
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.data import Dataset, open_source
from bench.training.pack_format import read_pack
from bench.training.picture import Picture
from bench.util.files import user_path
from systems.errors import UserError

PACK = "pack:"


class Library:
    """The sources of one command. Each is opened when it is first needed, and read once for all tasks and systems.

    root: the data root.
    pack: the path of a pack. Then sources are looked up only in it, by the names that they had when it was made.
    """

    def __init__(self, root: Path, pack: Path | None = None):
        self.root, self.pack = root, pack
        self._listed: dict[str, Dataset] = {}
        self._read: dict[str, list[Picture]] = {}
        self._whole: list[Picture] | None = None

    def check(self, source: str) -> None:
        """Raise UserError if a source does not exist. Files are listed, but not decoded."""
        if self.pack is not None or source.startswith(PACK):
            self.read(source)  # a pack is one file, which must be read to be checked
        else:
            self._open(source)

    def read(self, source: str) -> list[Picture]:
        """All pictures of a source, in the order of the data set. Raises UserError with the file
        that cannot be read.
        """
        source = canonical(source)
        if source not in self._read:
            if self.pack is not None:
                self._read[source] = self._part(source)
            elif source.startswith(PACK):
                self._read[source] = read_pack(self._file(source))
            else:
                self._read[source] = read_all(self._open(source), source)
        return self._read[source]

    def _part(self, source: str) -> list[Picture]:
        """The pictures of one source in the command's pack."""
        if self._whole is None:
            self._whole = read_pack(self.pack)
        part = [picture for picture in self._whole if picture.source == source]
        if not part:
            held = ", ".join(dict.fromkeys(picture.source for picture in self._whole))
            raise UserError(
                f"{self.pack}: holds no pictures of {source}, only {held}; change `sources` in the protocol"
            )
        return part

    def _file(self, source: str) -> Path:
        path = user_path(source.removeprefix(PACK), "sources")
        return path if path.is_file() or path.is_absolute() else self.root / path

    def _open(self, source: str) -> Dataset:
        if source not in self._listed:
            self._listed[source] = open_source(canonical(source).removeprefix("folder:"), self.root)
        return self._listed[source]


def canonical(source: str) -> str:
    """The full name of a source that may be written in a short form."""
    return f"voc2012:{source.removeprefix('voc:')}" if source.startswith("voc:") else source


def read_all(dataset: Dataset, prefix: str) -> list[Picture]:
    """All pictures of a data set, decoded by its own reader in several threads. Their names are `prefix`/id."""

    def one(image_id: str) -> Picture:
        sample = dataset.load(image_id)
        pixels = sample.image.permute(1, 2, 0).contiguous().numpy()
        return Picture(f"{prefix}/{image_id}", pixels, None if sample.mask is None else sample.mask.numpy())

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, dataset.ids))
