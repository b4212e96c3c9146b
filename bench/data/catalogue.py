"""The catalogue of data sets: from a name to a set, `open_dataset("voc2012", data_root)`,
`open_dataset("folder:holiday")`.

The requests of runs, training and `python -m bench list` call it. A named set is one record, a `DatasetInfo`. A third
party adds one without touching this repository, by an entry point of the group `semantic_bench.datasets` whose value is
such a record:

    [project.entry-points."semantic_bench.datasets"]
    my-set = "my_package.sets:MY_SET"

Files lie under the data root. This is `--data-root`, otherwise the environment variable BENCH_DATA_ROOT, otherwise
`$XDG_CACHE_HOME/semantic-bench`, which is `~/.cache/semantic-bench` by default:

    VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}    voc2012, voc2012:SPLIT
    div2k_valid256/    DIV2K_valid_HR/    hires_val/    kodak/
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.data.dataset import Dataset, Item, Preprocessing
from bench.data.list_folder import list_pictures
from bench.data.photographs import PHOTOGRAPHS, RECONSTRUCTION, SEGMENTATION, licences, mask_path
from bench.util.cache_folder import cache_folder
from bench.util.files import read_text, shown, user_path
from systems import entry_points
from systems.errors import FAULTS, UnknownName, UserError, did_you_mean

ENTRY_POINTS = "semantic_bench.datasets"
LOW_RESOLUTION = (224, 224)  # the paper's Fig. 4
FOLDER = "folder:"
BUNDLED = "bundled"  # a source of training pictures: the photographs that installed packages contain


@dataclass(frozen=True)
class DatasetInfo:
    """A named set, and its line of `python -m bench list`.

    build: build(info, data_root, split) opens it. `split` is the text after the colon of `NAME:SPLIT`, or "".
    where: the path under the data root; "" for sets that packages contain.
    """

    name: str
    tasks: tuple[str, ...]
    description: str
    licence: str
    build: Callable[[DatasetInfo, Path, str], Dataset]
    where: str = ""
    demonstration: bool = False
    preprocessing: Preprocessing = Preprocessing()
    fetch: str = ""  # the argument of `data fetch` that downloads it
    splits: bool = False  # whether NAME:SPLIT is possible
    reference: str = ""  # `Dataset.content()` of the committed reference run

    def available(self, data_root: Path | None = None) -> bool:
        """Whether the files exist."""
        return not self.where or (Path(data_root or default_data_root()) / self.where).is_dir()


def default_data_root() -> Path:
    """BENCH_DATA_ROOT, or the user's cache folder."""
    if os.environ.get("BENCH_DATA_ROOT"):
        return user_path(os.environ["BENCH_DATA_ROOT"], "BENCH_DATA_ROOT")
    return cache_folder()


def list_datasets() -> list[DatasetInfo]:
    """All named sets, in the order of the table, then those of third parties. `folder:PATH` is
    possible beside these.
    """
    return [*_CATALOGUE.values(), *_third_parties()[0].values()]


def dataset_names() -> list[str]:
    """Names of all named sets, those of third parties as their entry points have them. Nothing is imported."""
    return entry_points.with_names(_CATALOGUE, ENTRY_POINTS)


def faulty_plugins() -> dict[str, str]:
    """Entry points of third parties that give no set: {name: reason}. The other sets are not affected."""
    return _third_parties()[1]


def foreign() -> list[str]:
    """Entry points of third parties whose code was loaded so far, such as "data set my-set (my_package:MY_SET)"."""
    return list(_third_parties()[2]) if _third_parties.cache_info().currsize else []


@cache
def _third_parties() -> tuple[dict[str, DatasetInfo], dict[str, str], list[str]]:
    found: dict[str, DatasetInfo] = {}
    faults: dict[str, str] = {}
    loaded: list[str] = []
    for point in entry_points.points(ENTRY_POINTS):
        if point.name in _CATALOGUE or point.name in found or point.name == FOLDER.rstrip(":"):
            faults[point.name] = f"{point.value} takes a name that is in use; it must choose another one"
            continue
        loaded.append(f"data set {point.name} ({point.value})")  # also if it fails, because its code ran
        try:
            info = entry_points.loaded(point)
        except UserError as error:  # a third party's fault must not affect the other sets
            faults[point.name] = shown(error)
            continue
        if isinstance(info, DatasetInfo):
            found[point.name] = replace(info, name=point.name)
        else:
            faults[point.name] = f"{point.value} is a {type(info).__name__}, not a bench.data.DatasetInfo"
    return found, faults, loaded


def open_dataset(spec: str, data_root: Path | str | None = None, size: tuple[int, int] | None = None) -> Dataset:
    """Open a set by its name (`photos-224`, `voc2012`, `voc2012:train`, ...), or any folder (`folder:PATH`).

    size: (H, W) instead of the set's own. Pictures with masks are stretched to it. Other pictures are cropped at the
    centre to its aspect ratio, then resized. Raises UnknownName with the nearest names, and UserError if the files are
    missing.
    """
    root = _root(data_root)
    if spec.startswith(FOLDER):
        dataset = _open_folder(spec.removeprefix(FOLDER))
    else:
        name, colon, split = spec.partition(":")
        info = next((info for info in list_datasets() if info.name == name), None)
        if info is None or (colon and not info.splits):
            raise _unknown(spec)
        try:
            dataset = info.build(info, root, split)
        except UserError:
            raise
        except FAULTS as error:
            if info.name in _CATALOGUE:
                raise
            why = shown(f"{type(error).__name__}: {error}")
            raise UserError(f"data set {name!r} of an installed package: its `build` failed ({why})") from error
        if not isinstance(dataset, Dataset):
            raise UserError(f"data set {name!r}: its `build` made a {type(dataset).__name__}, not a bench.data.Dataset")
    if size is not None:
        mode = "stretch" if dataset.has_masks else "cover"
        dataset = replace(dataset, preprocessing=Preprocessing(mode, (int(size[0]), int(size[1]))))
    return replace(dataset, spec=spec, data_root=root)


def open_source(source: str, data_root: Path | str | None = None) -> Dataset:
    """Open pictures for training, at their stored size: `voc2012:SPLIT`, or a folder under the data root such as
    `photos`.

    "bundled" is the seven photographs that installed packages contain. They suffice only to try out training.

    The choice of files, their ids and how they are read are the same as in a sweep. Raises UserError.
    """
    name, colon, _ = source.partition(":")
    if source == BUNDLED:
        return replace(open_dataset("photos", data_root), preprocessing=Preprocessing())
    if colon and name in _CATALOGUE and _CATALOGUE[name].splits:
        return replace(open_dataset(source, data_root), preprocessing=Preprocessing())
    folder = _root(data_root) / user_path(source, "sources")
    if not folder.is_dir():
        raise UserError(
            f"{shown(folder)}: no such folder of training pictures; set --data-root, or `sources` in the protocol"
        )
    return replace(_open_folder(str(folder)), name=source, spec=source, data_root=_root(data_root))


def _root(data_root: Path | str | None) -> Path:
    """The data root as an absolute path, so that a worker process in another folder finds the same files."""
    root = user_path(data_root, "--data-root") if data_root is not None else default_data_root()
    return Path(os.path.abspath(root))


def _unknown(spec: str) -> UnknownName:
    if "\0" not in spec and Path(spec).is_dir():
        return UnknownName(f"unknown data set {spec!r}; it is a folder: did you mean {FOLDER}{spec}?")
    if fault := faulty_plugins().get(spec):
        return UnknownName(f"data set {spec!r} is not available: {fault}")
    names = [info.name for info in list_datasets()]
    hint = did_you_mean(spec, [*names, f"{FOLDER}PATH"], "sets", most=3, cutoff=0.5)
    return UnknownName(f"unknown data set {shown(repr(spec))}; {hint}")


def _make(info: DatasetInfo, items: dict[str, Item], **changes) -> Dataset:
    fields = {
        name: getattr(info, name) for name in ("name", "tasks", "description", "licence", "demonstration", "reference")
    }
    return Dataset(items=items, preprocessing=info.preprocessing, **(fields | changes))


def _open_carried(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """The photographs that installed packages contain."""
    if "segmentation" in info.tasks:
        items = {i: Item(PHOTOGRAPHS[i].path(), mask_path(i)) for i in SEGMENTATION}
        return _make(info, items, upright=False)
    return _make(info, {i: Item(PHOTOGRAPHS[i].path()) for i in RECONSTRUCTION})


def _open_pictures(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """A named folder under the data root."""
    folder = root / info.where
    if not folder.is_dir():
        raise _not_there(info, root)
    listing = list_pictures(folder)
    items = {id_: Item(path) for id_, path in listing.pictures.items()}
    return _make(info, items, skipped=listing.skipped)


def _open_voc(info: DatasetInfo, root: Path, split: str) -> Dataset:
    """PASCAL VOC 2012 in its own layout. `voc2012` is the validation split."""
    folder = root / info.where
    if not folder.is_dir():
        raise _not_there(info, root)
    split = split or "val"
    lists = folder / "ImageSets" / "Segmentation"
    known = sorted(path.stem for path in lists.glob("*.txt"))
    if split not in known:
        hint = did_you_mean(f"voc2012:{split}", [f"voc2012:{name}" for name in known], f"splits in {lists}")
        raise UserError(f"VOC 2012 at {folder} has no split {split!r}; {hint}")
    ids = read_names(lists / f"{split}.txt")
    items = {i: Item(folder / "JPEGImages" / f"{i}.jpg", folder / "SegmentationClass" / f"{i}.png") for i in ids}
    return _make(
        info,
        items,
        name="voc2012" if split == "val" else f"voc2012:{split}",
        upright=False,
        reference=info.reference if split == "val" else "",
    )


def _open_folder(text: str) -> Dataset:
    """All pictures of one folder, without its subfolders."""
    folder = Path(os.path.abspath(user_path(text, FOLDER.rstrip(":"))))
    if not text or not folder.is_dir():
        wrong = "this is a file" if text and folder.is_file() else "there is no such folder"
        raise UserError(f"{FOLDER}{shown(text)}: {wrong}; name a folder of pictures, as in folder:my_pictures")
    listing = list_pictures(folder)
    return Dataset(
        name=FOLDER + shown(folder.name or "root"),
        tasks=("reconstruction",),
        description=f"pictures of the folder {shown(folder)}",
        licence="the user's own",
        items={id_: Item(path) for id_, path in listing.pictures.items()},
        skipped=listing.skipped,
    )


def read_names(path: Path) -> list[str]:
    """The picture names of a VOC split, one per line. A repeated name counts once. Raises UserError."""
    names: dict[str, None] = {}
    for number, line in enumerate(read_text(path, "split").splitlines(), 1):
        fields = line.split()
        if len(fields) > 1:
            raise UserError(
                f"{shown(path)}: line {number} holds more than a picture's name; "
                "a segmentation split has one name per line"
            )
        if fields and ("/" in fields[0] or "\\" in fields[0] or fields[0] != shown(fields[0], most=200)):
            raise UserError(f"{shown(path)}: line {number}, {shown(fields[0])}, is not a picture's name; take it out")
        names |= dict.fromkeys(fields)
    if not names:
        raise UserError(f"the split {shown(path)} names no picture; write one name per line, without suffix")
    return list(names)


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
            splits=True,
            reference="3a3cc2e3a9bb0dc14b8f465d687516d30f82cae593b139999436d37d3b6f94df",
        ),
        DatasetInfo(
            "div2k_valid256",
            reconstruction,
            "DIV2K validation pictures 0801-0900 as 256x256 crops, Lanczos to 224x224",
            "DIV2K: academic research only",
            _open_pictures,
            where="div2k_valid256",
            preprocessing=cover,
            reference="f3aa3c8a8f15b02dae81ab7022ef7d4d50cf6dd70a12624d6e68c77b683dd18f",
        ),
        DatasetInfo(
            "div2k-valid-256",
            reconstruction,
            "DIV2K validation pictures 0801-0900, their middle 256x256 pixels: a low-resolution set that anyone can "
            "make from the official archive",
            "DIV2K: academic research only",
            _open_pictures,
            where="DIV2K_valid_HR",
            preprocessing=Preprocessing("centre", (256, 256)),
            fetch="div2k-valid",
        ),
        DatasetInfo(
            "div2k_valid_hr",
            reconstruction,
            "DIV2K validation pictures 0801-0900 at their native size, about 2040x1356",
            "DIV2K: academic research only",
            _open_pictures,
            where="DIV2K_valid_HR",
            fetch="div2k-valid",
        ),
        DatasetInfo(
            "hires_val",
            reconstruction,
            "24 high-resolution photographs, centre 768x512",
            "Sun-Hays 80: research",
            _open_pictures,
            where="hires_val",
            reference="48504b10d9bf6c44074d0e81c73788c98cee2aa32c6e7ce605af7e1051b7938d",
        ),
        DatasetInfo(
            "kodak",
            reconstruction,
            "Kodak Lossless True Color Image Suite, 24 pictures of 768x512 or 512x768",
            "released by Kodak for unrestricted use",
            _open_pictures,
            where="kodak",
            fetch="kodak",
            reference="c6c8e5aaf02cf314aaa490dcf178a54c263f93b70a9d8914cb56b55488cd3013",
        ),
        DatasetInfo(
            "kodak-224",
            reconstruction,
            "the 24 Kodak pictures, centre square, Lanczos to 224x224: a low-resolution set that anyone can fetch",
            "released by Kodak for unrestricted use",
            _open_pictures,
            where="kodak",
            preprocessing=cover,
            fetch="kodak",
            reference="c6c8e5aaf02cf314aaa490dcf178a54c263f93b70a9d8914cb56b55488cd3013",
        ),
    ]


_CATALOGUE = {info.name: info for info in _entries()}
