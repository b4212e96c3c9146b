"""One picture (`Sample`), and a set of pictures that are read one at a time (`Dataset`).

The sweep, training and commands call it. A `Dataset` holds paths, not pictures, so a folder of any length works. It has
two fingerprints:

- `quick_fingerprint()` covers names, file sizes and the preprocessing. It reads no picture. Plans and `--dry-run` use
  it.
- `fingerprint()` covers names, the sha256 of every file, and the preprocessing. It reads every file once, and keeps
  each hash. The manifest uses it; it shows whether two runs had the same pictures.

The identity of a set is its content. `keep_apart` gives two sets with the same name different names. A picture whose
file has changed since its hash was taken is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.decode import decode_mask, decode_picture, picture_bytes, picture_size, unreadable
from bench.data.list_folder import skipped_note
from bench.util.files import open_plain, shown
from systems.errors import UserError

if TYPE_CHECKING:
    import PIL.Image
    import torch


@dataclass(frozen=True)
class Sample:
    """One picture, as every system gets it.

    image: uint8 (3, H, W), RGB.
    mask: uint8 (H, W), class ids 0..20 and 255 for void; None if the set has no masks.
    """

    image_id: str
    image: torch.Tensor
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Preprocessing:
    """How a source picture becomes a test picture. This belongs to the data set, never to a system.

    mode "native": the picture as stored. mode "centre": the middle height x width pixels, not scaled. A smaller picture
    is an error. mode "cover": the centre crop with the target's aspect ratio, resized by Lanczos (for a square target:
    the centre square). mode "stretch": the whole picture, resized by Lanczos to the target's aspect ratio. Masks are
    resized by nearest neighbour, which makes no new class ids at borders.

    Raises ValueError if the mode needs a size and there is none, or the reverse.
    """

    mode: str = "native"
    size: tuple[int, int] | None = None  # (H, W)

    def __post_init__(self):
        if self.mode not in ("native", "centre", "cover", "stretch") or (self.mode == "native") != (self.size is None):
            raise ValueError(f"preprocessing mode {self.mode!r} does not go with size {self.size}")

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of a picture of height x width after preprocessing."""
        return self.size or (height, width)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part of the source that is kept: (left, top, right, bottom) in whole pixels."""
        if self.mode not in ("cover", "centre") or self.size is None:
            return 0, 0, width, height
        target_h, target_w = self.size
        if self.mode == "centre":
            left, top = (width - target_w) // 2, (height - target_h) // 2
            return left, top, left + target_w, top + target_h
        scale = min(height / target_h, width / target_w)
        crop_h, crop_w = max(1, round(target_h * scale)), max(1, round(target_w * scale))
        left, top = (width - crop_w) // 2, (height - crop_h) // 2
        return left, top, left + crop_w, top + crop_h

    def apply(self, picture: PIL.Image.Image, resample: int) -> PIL.Image.Image:
        """Crop, then resize with a Pillow filter. In this order, pixels outside the crop cannot influence its edge."""
        if self.size is None:
            return picture
        return picture.crop(self.box(picture.height, picture.width)).resize(self.size[::-1], resample)

    def describe(self) -> str:
        """A few words for the list of data sets and for captions."""
        if self.mode == "native":
            return "native size"
        how = {
            "centre": "middle pixels, not scaled",
            "cover": "centre crop, Lanczos",
            "stretch": "whole picture, Lanczos, masks nearest",
        }[self.mode]
        return f"{self.size[0]}x{self.size[1]} ({how})"

    def key(self) -> dict:
        """The values that enter a fingerprint. `version` must be raised if the same values would give other pixels."""
        return {"mode": self.mode, "size": self.size, "image_filter": "lanczos", "mask_filter": "nearest", "version": 1}


@dataclass(frozen=True)
class Item:
    """The files of one picture and of its mask: an indexed PNG, or polygons in JSON."""

    path: Path
    mask: Path | None = None


@dataclass
class Dataset:
    """A named set of pictures.

    name: as tables show it. It contains no path of this machine.
    tasks: those that it has targets for.
    items: the files of each picture by its id, in the order of the run.
    demonstration: it shows how the bench works, and is too small to measure anything.
    spec: the text that `open_dataset` was asked for. A set is small and can be pickled with its hashes, so a worker
    process gets exactly the set that was planned.
    """

    name: str
    tasks: tuple[str, ...]
    description: str
    licence: str
    items: dict[str, Item] = field(repr=False)
    demonstration: bool = False
    preprocessing: Preprocessing = Preprocessing()
    spec: str = ""
    data_root: Path | None = None
    #: Whether photographs are turned upright by their EXIF tag. Off if masks are drawn on the stored pixels.
    upright: bool = True
    #: Files in the folder that are no pictures, each with the reason.
    skipped: tuple[str, ...] = ()
    #: `content()` of the set in the committed reference run; "": that run had no such set.
    reference: str = ""
    #: The name in the seeds of the noise; "": `name`. `keep_apart` does not change it.
    noise_name: str = ""
    _hashes: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the pictures, in the order of the run."""
        return tuple(self.items)

    @property
    def has_masks(self) -> bool:
        """Whether every picture has a mask of classes."""
        return "segmentation" in self.tasks

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        """Load all pictures, one at a time."""
        return (self.load(image_id) for image_id in self.items)

    @property
    def seed_name(self) -> str:
        """The name that enters the seeds of the noise."""
        return self.noise_name or self.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the set, one line each."""
        return (skipped_note(self.name, self.skipped),) if self.skipped else ()

    def take(self, count: int) -> Dataset:
        """The set with its first `count` pictures only (`--limit`)."""
        return replace(self, items=dict(list(self.items.items())[:count]), reference="")

    def path(self, image_id: str) -> Path:
        """The source file of a picture. Raises UserError for an unknown id."""
        return self._item(image_id).path

    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of a picture after preprocessing. At most the header of its file is read. Raises UserError."""
        if self.preprocessing.size is not None:
            return self.preprocessing.size
        return picture_size(self.path(image_id), self.upright)

    def load(self, image_id: str) -> Sample:
        """Read a picture, convert it to 8-bit RGB, and preprocess it (see `bench.data.decode`).

        Raises UserError with the name of the file if it is missing or damaged, or has changed since its hash was taken.
        """
        import numpy as np
        import torch
        from PIL import Image

        item = self._item(image_id)
        picture = decode_picture(self._content(item.path, "picture"), item.path, self.upright)
        mask = None
        if item.mask is not None:
            labels = decode_mask(self._content(item.mask, "mask"), item.mask, (picture.height, picture.width))
            labels = self.preprocessing.apply(labels, Image.Resampling.NEAREST)
            mask = torch.from_numpy(np.array(labels, dtype=np.uint8))
        if self.preprocessing.mode == "centre" and not _at_least(picture.size[::-1], self.preprocessing.size):
            height, width = self.preprocessing.size
            raise UserError(
                f"picture {shown(item.path)} is {picture.width}x{picture.height}, smaller than the {width}x{height} "
                "that are cut from its middle; take it out of the set"
            )
        picture = self.preprocessing.apply(picture, Image.Resampling.LANCZOS)
        image = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1).contiguous()
        return Sample(image_id, image, mask)

    def _content(self, path: Path, what: str) -> bytes:
        """The bytes of a file. If the file has changed since it was hashed, it is refused."""
        data = picture_bytes(path, what)
        known = self._hashes.get(path)
        if known is not None and hashlib.sha256(data).hexdigest() != known:
            raise UserError(
                f"{what} {shown(path)} changed since this command began; leave it unchanged and repeat the command"
            )
        return data

    def sha256(self, image_id: str) -> str:
        """Hash of the picture's source file. It is read once."""
        return self._hash(self._item(image_id).path)

    def hashes(self) -> dict[str, dict[str, str]]:
        """{image_id: {"image": sha256, "mask": sha256}} for the manifest. "mask" only if there is one."""
        table = {}
        for image_id, item in self.items.items():
            table[image_id] = {"image": self._hash(item.path)}
            if item.mask is not None:
                table[image_id]["mask"] = self._hash(item.mask)
        return table

    def fingerprint(self) -> str:
        """sha256 over ids, the content of every file (masks too) and the preprocessing. Every file is read once."""
        return self._digest({image_id: list(entry.items()) for image_id, entry in self.hashes().items()})

    def content(self) -> str:
        """sha256 over the sorted hashes of all files, regardless of their names. Every file is read once."""
        hashes = sorted(digest for entry in self.hashes().values() for digest in entry.values())
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def refuse_copies(self) -> None:
        """Raise UserError if two pictures are the same file: intervals would take them for two pictures. Every file is
        read once.
        """
        first: dict[str, str] = {}
        for image_id, item in self.items.items():
            if (other := first.setdefault(self._hash(item.path), image_id)) != image_id:
                raise UserError(
                    f"data set {shown(self.name)}: {shown(other, 60)} and {shown(image_id, 60)} are the same file; "
                    "intervals would count it as two pictures: take the copies out"
                )

    def reference_note(self) -> str:
        """One line if the files are not those of the committed reference run, otherwise "". Every file is read once."""
        if not self.reference or self.content() == self.reference:
            return ""
        return f"{self.name}: these are not the files of the committed reference run; its numbers may differ"

    def quick_fingerprint(self) -> str:
        """sha256 over ids, file sizes and the preprocessing. It is quick, but does not notice changes that keep a
        file's size.
        """
        return self._digest({i: [_byte_size(f) for f in (item.path, item.mask) if f] for i, item in self.items.items()})

    def _digest(self, files: dict) -> str:
        key = {"files": list(files.items()), "preprocessing": self.preprocessing.key(), "upright": self.upright}
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            try:
                with open_plain(path) as file:
                    self._hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise unreadable(path, error) from None
        return self._hashes[path]

    def _item(self, image_id: str) -> Item:
        try:
            return self.items[image_id]
        except KeyError:
            raise UserError(f"data set {self.name!r} has no picture {image_id!r}") from None


def keep_apart(datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """The sets of one run, with different names if their content differs.

    Two folders `a/val` and `b/val` are both called `folder:val`. If their pictures differ, they become
    `folder:val#3f2a91c0` and `folder:val#77d0e41b`, by the first digits of their fingerprints. A name does not depend
    on the other sets of the run. The seeds of the noise stay those of `folder:val`, so the results equal those of a run
    with one set alone. Files are read only if two names are the same.
    """
    by_name: dict[str, set[str]] = {}
    for spec, dataset in datasets.items():
        by_name.setdefault(dataset.name, set()).add(spec)
    apart = dict(datasets)
    for name, specs in by_name.items():
        prints = {spec: datasets[spec].fingerprint() for spec in specs} if len(specs) > 1 else {}
        if len(set(prints.values())) > 1:
            for spec, digest in prints.items():
                apart[spec] = replace(datasets[spec], name=f"{name}#{digest[:8]}", noise_name=datasets[spec].seed_name)
    return apart


def _at_least(size: tuple[int, int], least: tuple[int, int]) -> bool:
    return size[0] >= least[0] and size[1] >= least[1]


def _byte_size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
