"""One picture (`Sample`) and a set of pictures read one at a time (`Dataset`).

A `Dataset` holds paths, never pictures, so a folder of any length works. Two fingerprints exist, for two uses:

- `quick_fingerprint()` covers names, byte sizes and the preprocessing. It reads no picture: for planning, `--dry-run`.
- `fingerprint()` covers the names, the sha256 of every file and the preprocessing. It reads every file once, and keeps
  each hash: for the manifest, and to tell whether two runs saw the same pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.polygons import load_polygons, rasterise
from bench.data.voc import NUM_CLASSES, VOID
from systems.errors import UserError

if TYPE_CHECKING:
    import PIL.Image
    import torch

#: EXIF orientations that turn a picture by a quarter, so that height and width change places.
_QUARTER_TURNS = (5, 6, 7, 8)
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Sample:
    """One picture as every system gets it.

    image: uint8 (3, H, W), RGB. mask: uint8 (H, W), class ids 0..20 and 255 for void, or None where the set has none.
    """

    image_id: str
    image: torch.Tensor
    mask: torch.Tensor | None = None


@dataclass(frozen=True)
class Preprocessing:
    """How a source picture becomes a test picture. It belongs to the data set, never to a system.

    mode "native": as stored. "cover": the centre crop of the target's aspect ratio, then Lanczos to the size (a square
    target: the centre square). "stretch": the whole picture to the size by Lanczos, whatever its aspect ratio; masks
    by nearest neighbour, which makes no new class ids at borders.
    """

    mode: str = "native"
    size: tuple[int, int] | None = None  # (H, W)

    def __post_init__(self):
        if self.mode not in ("native", "cover", "stretch") or (self.mode == "native") != (self.size is None):
            raise ValueError(f"preprocessing mode {self.mode!r} does not go with size {self.size}")

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) after preprocessing a picture of height x width."""
        return self.size or (height, width)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part of the source (left, top, right, bottom) that is kept, in whole pixels."""
        if self.mode != "cover":
            return 0, 0, width, height
        target_h, target_w = self.size
        scale = min(height / target_h, width / target_w)
        crop_h, crop_w = max(1, round(target_h * scale)), max(1, round(target_w * scale))
        left, top = (width - crop_w) // 2, (height - crop_h) // 2
        return left, top, left + crop_w, top + crop_h

    def apply(self, picture: PIL.Image.Image, resample: int) -> PIL.Image.Image:
        """Crop, then resize with a Pillow filter (in this order: nothing outside the crop leaks into its edge)."""
        if self.size is None:
            return picture
        return picture.crop(self.box(picture.height, picture.width)).resize(self.size[::-1], resample)

    def describe(self) -> str:
        """A few words for the list of data sets and for captions."""
        if self.mode == "native":
            return "native size"
        how = "centre crop, Lanczos" if self.mode == "cover" else "whole picture, Lanczos, masks nearest"
        return f"{self.size[0]}x{self.size[1]} ({how})"

    def key(self) -> dict:
        """What a fingerprint covers. `version` rises whenever the same numbers would give other pixels."""
        return {"mode": self.mode, "size": self.size, "image_filter": "lanczos", "mask_filter": "nearest", "version": 1}


@dataclass(frozen=True)
class Item:
    """Where one picture lies, and its mask: an indexed PNG, or polygons in JSON."""

    path: Path
    mask: Path | None = None


@dataclass
class Dataset:
    """A named set of pictures; `ids` are in the order in which they are run.

    `spec` is what `open_dataset` was asked for (a worker process opens the same set with it); `name` is what the tables
    and the noise seeds use, and holds no path of this machine.
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
    #: Turn photographs upright by their EXIF tag. Off where masks are drawn on the stored pixels.
    upright: bool = True
    _hashes: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in running order."""
        return tuple(self.items)

    @property
    def has_masks(self) -> bool:
        """Whether every sample carries a class mask."""
        return "segmentation" in self.tasks

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        """Every sample in turn, one at a time."""
        return (self.load(image_id) for image_id in self.items)

    def take(self, count: int) -> Dataset:
        """The same set cut to its first `count` pictures (`--limit`)."""
        return replace(self, items=dict(list(self.items.items())[:count]))

    def path(self, image_id: str) -> Path:
        """The source file of a picture."""
        return self._item(image_id).path

    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) of the sample, after preprocessing; reads at most the file's header."""
        if self.preprocessing.size is not None:
            return self.preprocessing.size
        path = self.path(image_id)
        with _open_picture(path) as picture:
            width, height = picture.size
            turned = self.upright and _orientation(picture, path) in _QUARTER_TURNS
        return (width, height) if turned else (height, width)

    def load(self, image_id: str) -> Sample:
        """Read, convert to 8-bit RGB, preprocess. Raises UserError naming the file that is missing or corrupt."""
        import numpy as np
        import torch
        from PIL import Image

        item = self._item(image_id)
        picture = _read_rgb(item.path, self.upright)
        mask = None
        if item.mask is not None:
            labels = _read_mask(item.mask, picture.size)
            labels = self.preprocessing.apply(labels, Image.Resampling.NEAREST)
            mask = torch.from_numpy(np.array(labels, dtype=np.uint8))
        picture = self.preprocessing.apply(picture, Image.Resampling.LANCZOS)
        image = torch.from_numpy(np.array(picture, dtype=np.uint8)).permute(2, 0, 1).contiguous()
        return Sample(image_id, image, mask)

    def sha256(self, image_id: str) -> str:
        """Hash of the picture's source file, as stored; read once and kept."""
        return self._hash(self._item(image_id).path)

    def hashes(self) -> dict[str, dict[str, str]]:
        """For the manifest: {image_id: {"image": sha256, "mask": sha256}}, "mask" only where there is one."""
        table = {}
        for image_id, item in self.items.items():
            table[image_id] = {"image": self._hash(item.path)}
            if item.mask is not None:
                table[image_id]["mask"] = self._hash(item.mask)
        return table

    def fingerprint(self) -> str:
        """sha256 over ids, the content of every file (masks too) and the preprocessing. Reads every file once."""
        return self._digest({image_id: list(entry.items()) for image_id, entry in self.hashes().items()})

    def quick_fingerprint(self) -> str:
        """sha256 over ids, byte sizes and the preprocessing: cheap enough to plan with, blind to an edit in place."""
        return self._digest({i: [_byte_size(f) for f in (item.path, item.mask) if f] for i, item in self.items.items()})

    def _digest(self, files: dict) -> str:
        key = {"files": list(files.items()), "preprocessing": self.preprocessing.key(), "upright": self.upright}
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            try:
                with path.open("rb") as file:
                    self._hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise _unreadable(path, error) from None
        return self._hashes[path]

    def _item(self, image_id: str) -> Item:
        try:
            return self.items[image_id]
        except KeyError:
            raise UserError(f"data set {self.name!r} has no picture {image_id!r}") from None


def check_files(name: str, paths: Iterable[Path]) -> None:
    """Raise UserError naming the first of `paths` that does not exist."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"data set {name!r}: {path} is missing; the copy of the data set is not complete")


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"picture {path} is missing")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = reason.splitlines()[0]
    return UserError(f"cannot read picture {path}: {reason}; replace the file or take it out of the set")


def _open_picture(path: Path) -> PIL.Image.Image:
    """Open lazily: Pillow reads the header only."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture is the user's wish; Pillow still refuses absurd ones
            return Image.open(path)
    except UnidentifiedImageError:
        raise _unreadable(path, ValueError("not a picture that Pillow knows, or its header is damaged")) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def _orientation(picture: PIL.Image.Image, path: Path) -> int:
    try:
        return picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds on a damaged EXIF block, which says nothing about the pixels
        return 1


def _read_rgb(path: Path, upright: bool) -> PIL.Image.Image:
    """Decode to 8-bit RGB. Alpha is dropped, grey is repeated, 16-bit grey is divided by 257."""
    import numpy as np
    from PIL import Image, ImageOps

    with _open_picture(path) as picture:
        try:
            picture.load()
            if upright and _orientation(picture, path) != 1:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I;16"):
                picture = Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))
            elif picture.mode in ("I", "F"):
                raise ValueError(f"pixel format {picture.mode!r} has no agreed range; save it with 8 bits a channel")
            return picture.convert("RGB")
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from None


def _read_mask(path: Path, size: tuple[int, int]) -> PIL.Image.Image:
    """Class ids of a mask file as a Pillow "L" picture; `size` is the picture's (width, height)."""
    import numpy as np
    from PIL import Image

    if path.suffix == ".json":
        labels = rasterise(load_polygons(path))
    else:
        with _open_picture(path) as stored:
            if stored.mode not in ("P", "L"):
                raise UserError(f"mask {path} is {stored.mode}, not class ids; VOC masks are palette PNGs")
            try:
                labels = np.array(stored, dtype=np.uint8)
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise _unreadable(path, error) from None
    if labels.shape != size[::-1]:
        raise UserError(f"mask {path} is {labels.shape[1]}x{labels.shape[0]}, its picture is {size[0]}x{size[1]}")
    wrong = [int(v) for v in np.unique(labels) if v >= NUM_CLASSES and v != VOID]
    if wrong:
        raise UserError(f"mask {path} holds the class ids {wrong}; ids are 0..{NUM_CLASSES - 1}, and {VOID} for void")
    return Image.fromarray(labels)


def _byte_size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise _unreadable(path, error) from None
