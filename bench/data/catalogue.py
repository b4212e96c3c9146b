"""Names of data sets to data sets: `open_dataset("voc2012", data_root)`, `open_dataset("folder:holiday")`.

Layout under the data root (`--data-root`, else the environment variable BENCH_DATA_ROOT, else
`$XDG_CACHE_HOME/semantic-bench`, which is `~/.cache/semantic-bench` by default):

    VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}    voc2012, voc2012:SPLIT
    div2k_valid256/    DIV2K_valid_HR/    hires_val/    kodak/
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.dataset import Dataset, Item, Preprocessing
from bench.data.photographs import PHOTOGRAPHS, RECONSTRUCTION, SEGMENTATION, licences, mask_path
from bench.util.environment import cache_folder
from systems.errors import UnknownName, UserError

PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
LOW_RESOLUTION = (224, 224)  # the paper's Fig. 4
FOLDER = "folder:"


@dataclass(frozen=True)
class DatasetInfo:
    """A line of `python -m bench list`. `where` is the path under the data root, "" for sets that packages carry."""

    name: str
    tasks: tuple[str, ...]
    description: str
    licence: str
    build: Callable[[DatasetInfo, Path, str], Dataset]
    where: str = ""
    demonstration: bool = False
    preprocessing: Preprocessing = Preprocessing()
    fetch: str = ""  # the argument of `data fetch` that brings it

    def available(self, data_root: Path | None = None) -> bool:
        """Whether the files are there."""
        return not self.where or (Path(data_root or default_data_root()) / self.where).is_dir()


def default_data_root() -> Path:
    """BENCH_DATA_ROOT, or the user's cache folder."""
    if os.environ.get("BENCH_DATA_ROOT"):
        return Path(os.environ["BENCH_DATA_ROOT"]).expanduser()
    return cache_folder()


def list_datasets() -> list[DatasetInfo]:
    """Every named set, in the order of the table; `folder:PATH` comes on top of these."""
    return list(_CATALOGUE.values())


def open_dataset(spec: str, data_root: Path | str | None = None, size: tuple[int, int] | None = None) -> Dataset:
    """Open a set by name (`photos-224`, `voc2012`, `voc2012:train`, ...) or any folder (`folder:PATH`).

    size: (H, W) instead of the set's own. Sets with masks are stretched to it whole; pictures are cropped at the centre
    to its aspect ratio. Raises UnknownName with the nearest names, UserError where the files are not there.
    """
    root = Path(data_root).expanduser() if data_root is not None else default_data_root()
    if spec.startswith(FOLDER):
        dataset = _open_folder(spec.removeprefix(FOLDER))
    else:
        name, _, split = spec.partition(":")
        info = _CATALOGUE.get(name)
        if info is None or (split and name != "voc2012"):
            raise _unknown(spec)
        dataset = info.build(info, root, split)
    if size is not None:
        mode = "stretch" if dataset.has_masks else "cover"
        dataset = replace(dataset, preprocessing=Preprocessing(mode, (int(size[0]), int(size[1]))))
    return replace(dataset, spec=spec, data_root=root)


def _unknown(spec: str) -> UnknownName:
    if Path(spec).is_dir():
        return UnknownName(f"unknown data set {spec!r}; it is a folder: did you mean {FOLDER}{spec}?")
    near = difflib.get_close_matches(spec, _CATALOGUE, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"sets are {', '.join(_CATALOGUE)}, and {FOLDER}PATH"
    return UnknownName(f"unknown data set {spec!r}; {hint}")


def _make(info: DatasetInfo, items: dict[str, Item], **changes) -> Dataset:
    fields = {name: getattr(info, name) for name in ("name", "tasks", "description", "licence", "demonstration")}
    return Dataset(items=items, preprocessing=info.preprocessing, **(fields | changes))


def _open_carried(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """The photographs that installed packages carry."""
    if "segmentation" in info.tasks:
        items = {i: Item(PHOTOGRAPHS[i].path(), mask_path(i)) for i in SEGMENTATION}
        return _make(info, items, upright=False)
    return _make(info, {i: Item(PHOTOGRAPHS[i].path()) for i in RECONSTRUCTION})


def _open_pictures(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """A named folder under the data root."""
    folder = root / info.where
    if not folder.is_dir():
        raise _not_there(info, root)
    return _make(info, _scan(folder))


def _open_voc(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """PASCAL VOC 2012 in its own layout. `voc2012` is the validation split."""
    folder = root / info.where
    if not folder.is_dir():
        raise _not_there(info, root)
    split = split or "val"
    lists = folder / "ImageSets" / "Segmentation"
    try:
        ids = (lists / f"{split}.txt").read_text(encoding="utf-8").split()
    except OSError:
        known = sorted(path.stem for path in lists.glob("*.txt"))
        near = difflib.get_close_matches(split, known, n=1)
        hint = f"did you mean voc2012:{near[0]}?" if near else f"splits in {lists} are: {', '.join(known) or 'none'}"
        raise UserError(f"VOC 2012 at {folder} has no split {split!r}; {hint}") from None
    if not ids:
        raise UserError(f"the split {lists / f'{split}.txt'} names no picture")
    items = {i: Item(folder / "JPEGImages" / f"{i}.jpg", folder / "SegmentationClass" / f"{i}.png") for i in ids}
    return _make(info, items, name="voc2012" if split == "val" else f"voc2012:{split}", upright=False)


def _open_folder(text: str) -> Dataset:
    """Any pictures of one folder, not its subfolders."""
    folder = Path(text).expanduser()
    if not text or not folder.is_dir():
        raise UserError(f"{FOLDER}{text}: there is no such folder")
    name = FOLDER + (folder.name or folder.resolve().name or "root")
    return Dataset(
        name=name,
        tasks=("reconstruction",),
        description=f"pictures of the folder {folder}",
        licence="the user's own",
        items=_scan(folder),
    )


def _scan(folder: Path) -> dict[str, Item]:
    """Pictures of a folder sorted by name. An id is the name less its suffix, unless two would be the same."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.lower().endswith(PICTURE_SUFFIXES) and entry.name[0] != "." and entry.is_file()
            )
    except OSError as error:
        raise UserError(f"cannot list the folder {folder}: {error.strerror}") from None
    if not names:
        raise UserError(f"no pictures in {folder}; files that count end in {', '.join(PICTURE_SUFFIXES)}")
    stems: dict[str, int] = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        stems[stem] = stems.get(stem, 0) + 1
    items = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        items[stem if stems[stem] == 1 else name] = Item(folder / name)
    return items


def _not_there(info: DatasetInfo, root: Path) -> UserError:
    get = f"get it with `python -m bench data fetch {info.fetch}`, or " if info.fetch else ""
    return UserError(
        f"data set {info.name!r} is not at {root / info.where}; "
        f"{get}point --data-root at the folder that holds {info.where}"
    )


def _entries() -> list[DatasetInfo]:
    reconstruction = ("reconstruction",)
    cover, stretch = Preprocessing("cover", LOW_RESOLUTION), Preprocessing("stretch", LOW_RESOLUTION)
    seven = ", ".join(RECONSTRUCTION)
    return [
        DatasetInfo(
            "photos-224",
            reconstruction,
            f"colour photographs carried by scikit-image and scikit-learn ({seven}): centre square, Lanczos to 224x224",
            licences(RECONSTRUCTION),
            _open_carried,
            demonstration=True,
            preprocessing=cover,
        ),
        DatasetInfo(
            "photos",
            reconstruction,
            f"colour photographs carried by scikit-image and scikit-learn ({seven}) at their native size",
            licences(RECONSTRUCTION),
            _open_carried,
            demonstration=True,
        ),
        DatasetInfo(
            "voc-demo",
            ("segmentation", "reconstruction"),
            f"demonstration: carried photographs that show VOC classes ({', '.join(SEGMENTATION)}; camera is grey), "
            "masks drawn by hand, whole picture to 224x224. Five pictures say little about accuracy in general",
            f"{licences(SEGMENTATION)}; masks: as this project",
            _open_carried,
            demonstration=True,
            preprocessing=stretch,
        ),
        DatasetInfo(
            "voc2012",
            ("segmentation", "reconstruction"),
            "PASCAL VOC 2012 segmentation, split val (voc2012:SPLIT for another one): whole picture to 224x224, which "
            "changes its aspect ratio; masks nearest neighbour",
            "PASCAL VOC 2012: Flickr terms, research",
            _open_voc,
            where="VOCdevkit/VOC2012",
            preprocessing=stretch,
            fetch="voc2012",
        ),
        DatasetInfo(
            "div2k_valid256",
            reconstruction,
            "DIV2K validation pictures 0801-0900 as 256x256 crops, Lanczos to 224x224",
            "DIV2K: academic research only",
            _open_pictures,
            where="div2k_valid256",
            preprocessing=cover,
        ),
        DatasetInfo(
            "div2k_valid_hr",
            reconstruction,
            "DIV2K validation pictures 0801-0900 at their native size, about 2040x1356",
            "DIV2K: academic research only",
            _open_pictures,
            where="DIV2K_valid_HR",
            fetch="div2k",
        ),
        DatasetInfo(
            "hires_val",
            reconstruction,
            "24 high-resolution photographs, centre 768x512",
            "Sun-Hays 80: research",
            _open_pictures,
            where="hires_val",
        ),
        DatasetInfo(
            "kodak",
            reconstruction,
            "Kodak Lossless True Color Image Suite, 24 pictures of 768x512 or 512x768",
            "released by Kodak for unrestricted use",
            _open_pictures,
            where="kodak",
            fetch="kodak",
        ),
    ]


_CATALOGUE = {info.name: info for info in _entries()}
