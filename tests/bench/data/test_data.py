"""Tests of data sets: photographs of the packages, masks drawn by hand, the layout of VOC, folders of any length,
damaged files.
"""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import catalogue, default_data_root, list_datasets, open_dataset
from bench.data.count_classes import class_statistics
from bench.data.dataset import Preprocessing
from bench.data.photographs import PHOTOGRAPHS, RECONSTRUCTION, SEGMENTATION, mask_path
from bench.data.polygons import MASK_FOLDER, load_polygons, rasterise
from bench.data.voc import NUM_CLASSES, VOC_CLASSES, VOID, colourise, voc_palette
from bench.spec.request import Request, resolve
from systems import interface
from systems.errors import UnknownName, UserError

NATIVE_SIZES = {
    "astronaut": (512, 512),
    "chelsea": (300, 451),
    "coffee": (400, 600),
    "rocket": (427, 640),
    "motorcycle": (500, 741),
    "china": (427, 640),
    "flower": (427, 640),
}

#: From the wheels of scikit-image 0.26, scikit-learn 1.9 and matplotlib 3.11.
PHOTOGRAPH_SHA256 = {
    "astronaut": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "rocket": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    "motorcycle": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "china": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    "grace_hopper": "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    "camera": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
}


def save(path: Path, height: int, width: int, seed: int = 0, **options) -> np.ndarray:
    """Write a random RGB picture; returns its pixels (H, W, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


# ------------------------------------------------------------------------------------------- carried photographs


def test_native_photographs_have_the_sizes_and_bytes_of_the_wheels():
    dataset = open_dataset("photos")
    assert dataset.ids == RECONSTRUCTION == tuple(NATIVE_SIZES)
    assert dataset.demonstration and dataset.tasks == ("reconstruction",)
    for sample in dataset:
        assert sample.image.dtype == torch.uint8 and sample.mask is None
        assert tuple(sample.image.shape[1:]) == dataset.size(sample.image_id) == NATIVE_SIZES[sample.image_id]
        assert dataset.sha256(sample.image_id) == PHOTOGRAPH_SHA256[sample.image_id]


def test_native_pixels_are_those_of_the_packages_own_loader():
    from skimage import data

    image = open_dataset("photos").load("rocket").image
    assert np.array_equal(image.permute(1, 2, 0).numpy(), data.rocket())


def test_low_resolution_is_the_centre_square_by_lanczos():
    dataset = open_dataset("photos-224")
    for image_id in dataset.ids:
        assert dataset.load(image_id).image.shape == (3, 224, 224)
    with Image.open(dataset.path("chelsea")) as picture:  # 451x300: the square starts at 75
        square = picture.convert("RGB").crop((75, 0, 375, 300)).resize((224, 224), Image.Resampling.LANCZOS)
    assert np.array_equal(dataset.load("chelsea").image.permute(1, 2, 0).numpy(), np.array(square))


def test_photographs_are_found_without_importing_their_packages():
    code = (
        "import sys\nfrom bench.data import open_dataset\nopen_dataset('photos').fingerprint()\n"
        "sys.exit(any(m in sys.modules for m in ('skimage', 'sklearn', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_a_photograph_that_a_package_does_not_carry_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(PHOTOGRAPHS, "rocket", replace(PHOTOGRAPHS["rocket"], inside="data/not_there.jpg"))
    with pytest.raises(UserError, match="not_there.jpg is not in the installed scikit-image"):
        open_dataset("photos")


# ------------------------------------------------------------------------------------------------ masks by hand


@pytest.mark.parametrize("image_id", SEGMENTATION)
def test_polygons_lie_in_their_photograph_and_name_voc_classes(image_id):
    outline = load_polygons(mask_path(image_id))  # raises for a point outside, an unknown class, too few points
    with Image.open(PHOTOGRAPHS[image_id].path()) as picture:
        assert outline.size == picture.size
    assert outline.image == image_id
    assert {p.label for p in outline.polygons} <= {*range(NUM_CLASSES), VOID}
    assert max(len(p.points) for p in outline.polygons) >= 30


def test_every_mask_file_is_used():
    assert {path.stem for path in MASK_FOLDER.glob("*.json")} == set(SEGMENTATION)


def test_demonstration_masks_show_the_classes_they_claim():
    dataset = open_dataset("voc-demo")
    assert dataset.demonstration and "demonstration" in dataset.description
    expected = {"astronaut": 15, "chelsea": 8, "motorcycle": 14, "grace_hopper": 15, "camera": 15}
    assert dataset.ids == tuple(expected)
    for sample in dataset:
        assert sample.image.shape == (3, 224, 224) and sample.mask.shape == (224, 224)
        assert set(sample.mask.unique().tolist()) == {0, expected[sample.image_id], VOID}
        assert dataset.sha256(sample.image_id) == PHOTOGRAPH_SHA256[sample.image_id]


@pytest.mark.parametrize(
    ("image_id", "x", "y", "label"),
    [  # points, in the photograph's own pixels, that a reader can check by looking at it
        ("astronaut", 225, 100, 15),  # face
        ("astronaut", 420, 440, 0),  # helmet's visor
        ("astronaut", 400, 150, 0),  # model of the shuttle
        ("chelsea", 255, 240, 8),  # nose
        ("chelsea", 430, 40, 0),
        ("motorcycle", 420, 200, 14),  # tank
        ("motorcycle", 110, 320, 0),  # floor before the rear wheel
        ("motorcycle", 20, 200, VOID),  # bicycle's wheel
        ("grace_hopper", 260, 240, 15),
        ("grace_hopper", 450, 200, 0),
        ("camera", 220, 160, 15),  # face
        ("camera", 290, 155, 0),  # camera
        ("camera", 450, 400, 0),  # lawn
    ],
)
def test_masks_agree_with_the_photographs_at_known_points(image_id, x, y, label):
    assert rasterise(load_polygons(mask_path(image_id)))[y, x] == label


def test_rasterising_a_rectangle_counts_its_pixels_and_its_void_rim(tmp_path):
    content = {
        "image": "box",
        "size": [40, 30],
        "void_rim": 2,
        "polygons": [{"class": "cat", "points": [[10, 10], [19, 10], [19, 19], [10, 19]]}],
    }
    path = tmp_path / "box.json"
    path.write_text(json.dumps(content))
    labels = rasterise(load_polygons(path))
    assert labels.shape == (30, 40)
    assert (labels == 8).sum() == 6 * 6  # 10x10 less two pixels on every side
    assert (labels == VOID).sum() == 14 * 14 - 6 * 6  # two pixels outwards, two inwards
    assert (labels == 0).sum() == 30 * 40 - 14 * 14


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class": "cat", "points": [[0, 0], [41, 0], [5, 5]]}, "outside"),
        ({"class": "unicorn", "points": [[0, 0], [4, 0], [5, 5]]}, "not a VOC class"),
        ({"class": "cat", "points": [[0, 0], [4, 0]]}, "at least 3"),
        ({"points": [[0, 0], [4, 0], [5, 5]]}, "not a polygon file"),
    ],
)
def test_bad_polygons_name_their_file(tmp_path, entry, message):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"image": "bad", "size": [40, 30], "polygons": [entry]}))
    with pytest.raises(UserError, match=message) as error:
        load_polygons(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "[" * 100_000, '{"size": [4]}', '{"size": [1000000000, 1000000000], "image": "x", "polygons": []}',
     '{"size": [4, 4], "image": "x", "void_rim": 100000, "polygons": []}',
     '{"size": [4, 4], "image": "x", "polygons": 3}',
     '{"size": [1e400, 4], "image": "x", "polygons": []}', '{"size": "44", "polygons": [[]], "image": 1}'],
)  # fmt: skip
def test_any_other_json_is_one_line(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match="bad.json") as caught:
        load_polygons(path)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UserError, match="gone.json is missing"):
        load_polygons(tmp_path / "gone.json")


# ----------------------------------------------------------------------------------------------------------- VOC


def test_voc_names_and_palette_are_the_published_ones():
    assert len(VOC_CLASSES) == NUM_CLASSES == interface.NUM_CLASSES == 21
    assert VOID == interface.VOID
    assert [VOC_CLASSES[i] for i in (8, 14, 15, 20)] == ["cat", "motorbike", "person", "tvmonitor"]
    palette = voc_palette()
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert len(np.unique(palette, axis=0)) == 256
    assert tuple(colourise(np.array([[15]], dtype=np.uint8))[0, 0]) == (192, 128, 128)


@pytest.fixture
def voc_root(tmp_path):
    """A small VOC tree with two validation pictures and one training picture."""
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number, image_id in enumerate(("2007_000033", "2007_000042", "2008_000001")):
        save(base / "JPEGImages" / f"{image_id}.jpg", 60, 80, number)
        labels = rng.choice([0, 15, VOID], size=(6, 8)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
        mask = Image.fromarray(labels, "P")
        mask.putpalette(voc_palette().ravel().tolist())
        mask.save(base / "SegmentationClass" / f"{image_id}.png")
    (base / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000042\n")
    (base / "ImageSets/Segmentation/train.txt").write_text("2008_000001\n")
    return tmp_path


def voc_labels(root: Path, image_id: str) -> np.ndarray:
    with Image.open(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{image_id}.png") as mask:
        return np.array(mask)


def test_voc_layout_splits_and_masks(voc_root):
    dataset = open_dataset("voc2012", voc_root)
    assert dataset.ids == ("2007_000033", "2007_000042") and dataset.name == "voc2012"
    sample = dataset.load("2007_000042")
    assert sample.image.shape == (3, 224, 224) and dataset.size("2007_000042") == (224, 224)
    labels = voc_labels(voc_root, "2007_000042")
    nearest = labels[(np.arange(224) * 2 + 1) * 60 // 448][:, (np.arange(224) * 2 + 1) * 80 // 448]  # pixel centres
    assert np.array_equal(sample.mask.numpy(), nearest)
    train = open_dataset("voc2012:train", voc_root)
    assert train.ids == ("2008_000001",) and train.name == "voc2012:train"


def test_voc_at_another_size(voc_root):
    sample = open_dataset("voc2012", voc_root, size=(30, 40)).load("2007_000033")
    assert sample.image.shape == (3, 30, 40)
    assert np.array_equal(sample.mask.numpy(), voc_labels(voc_root, "2007_000033")[1::2, 1::2])


def test_class_statistics_count_every_pixel_once(voc_root):
    dataset = open_dataset("voc2012", voc_root, size=(60, 80))
    rows = class_statistics(dataset)
    labels = np.stack([voc_labels(voc_root, image_id) for image_id in dataset.ids])
    assert {row.class_id: row.pixels for row in rows if row.pixels} == dict(
        zip(*(a.tolist() for a in np.unique(labels, return_counts=True)), strict=True)
    )
    assert sum(row.pixels for row in rows) == 2 * 60 * 80
    person = rows[15]
    assert person.name == "person" and person.pictures == sum((one == 15).any() for one in labels)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert person.share == pytest.approx((labels == 15).sum() / (labels != VOID).sum())


def test_statistics_need_masks():
    with pytest.raises(UserError, match="no masks"):
        class_statistics(open_dataset("photos"))


def test_bad_voc_masks_are_named(voc_root):
    folder = voc_root / "VOCdevkit/VOC2012/SegmentationClass"
    dataset = open_dataset("voc2012", voc_root)
    Image.fromarray(np.full((60, 80), 77, dtype=np.uint8)).save(folder / "2007_000033.png")
    with pytest.raises(UserError, match=r"2007_000033.png holds the class ids \[77\]"):
        dataset.load("2007_000033")
    Image.fromarray(np.zeros((60, 81), dtype=np.uint8)).save(folder / "2007_000033.png")
    with pytest.raises(UserError, match="81x60, its picture is 80x60"):
        dataset.load("2007_000033")
    save(folder / "2007_000033.png", 60, 80)
    with pytest.raises(UserError, match="is RGB, not class ids"):
        dataset.load("2007_000033")
    (folder / "2007_000033.png").unlink()
    with pytest.raises(UserError, match="2007_000033.png is missing"):
        dataset.load("2007_000033")


def test_unknown_split_suggests_the_nearest(voc_root):
    with pytest.raises(UserError, match="did you mean voc2012:train"):
        open_dataset("voc2012:trian", voc_root)


# ------------------------------------------------------------------------------------------------------- folders


def test_folder_takes_pictures_of_every_kind_sorted_by_name(tmp_path):
    pixels = {}
    for name in ("b.png", "a.jpg", "d.webp", "c.PPM", "e.tif", "f.bmp", "a.png"):
        pixels[name] = save(tmp_path / name, 20, 30, len(pixels), **({"lossless": True} if name == "d.webp" else {}))
    (tmp_path / "notes.txt").write_text("not a picture")
    save(tmp_path / "deeper" / "z.png", 20, 30)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.ids == ("a.jpg", "a.png", "b", "c", "d", "e", "f")  # two pictures named `a` keep their suffix
    assert dataset.name == f"folder:{tmp_path.name}"
    for image_id, name in (("a.png", "a.png"), ("c", "c.PPM"), ("d", "d.webp"), ("e", "e.tif"), ("f", "f.bmp")):
        assert np.array_equal(dataset.load(image_id).image.permute(1, 2, 0).numpy(), pixels[name])


def test_ten_thousand_pictures_are_planned_without_reading_one(tmp_path):
    for number in range(10_000):  # no file is a real picture: listing and planning must not read any
        (tmp_path / f"{number:05d}.png").write_bytes(b"x")
    start = time.process_time()  # time of this process: other work on the machine must not count
    dataset = open_dataset(f"folder:{tmp_path}")
    planned = dataset.quick_fingerprint()
    elapsed = time.process_time() - start
    assert len(dataset) == 10_000 and dataset.ids[:2] == ("00000", "00001") and len(planned) == 64
    assert elapsed < 2
    assert dataset.take(3).ids == ("00000", "00001", "00002")


def test_iteration_reads_one_picture_at_a_time(tmp_path):
    for number in range(3):
        save(tmp_path / f"{number}.png", 8, 8, number)
    stream = iter(open_dataset(f"folder:{tmp_path}"))
    assert next(stream).image_id == "0"
    (tmp_path / "1.png").unlink()  # a set that had read ahead would not notice the change
    with pytest.raises(UserError, match="1.png is missing"):
        next(stream)


def test_size_reads_the_header_only(tmp_path):
    save(tmp_path / "cut.png", 50, 70)
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:200])
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.size("cut") == (50, 70)
    with pytest.raises(UserError, match="cannot read picture .*cut.png"):
        dataset.load("cut")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "ppm", "tif", "bmp"])
def test_damaged_files_are_one_line_with_the_path(tmp_path, suffix):
    for name, content in (("empty", b""), ("noise", bytes(range(256)) * 4)):
        (tmp_path / f"{name}.{suffix}").write_bytes(content)
    save(tmp_path / f"short.{suffix}", 64, 64)
    whole = (tmp_path / f"short.{suffix}").read_bytes()
    (tmp_path / f"short.{suffix}").write_bytes(whole[: len(whole) // 2])
    dataset = open_dataset(f"folder:{tmp_path}")
    for image_id in ("empty", "noise", "short"):
        with pytest.raises(UserError) as error:
            dataset.load(image_id)
        assert str(tmp_path / f"{image_id}.{suffix}") in str(error.value) and "\n" not in str(error.value)


def test_grey_alpha_and_sixteen_bit_pictures_become_rgb(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    rgba = np.dstack([save(tmp_path / "rgb.png", 8, 8), np.full((8, 8), 7, dtype=np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert np.array_equal(dataset.load("grey").image.numpy(), np.stack([grey] * 3))
    assert torch.equal(dataset.load("alpha").image, dataset.load("rgb").image)
    assert dataset.load("deep").image[:, 0].tolist() == [[0, 1, 128, 255]] * 3
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match="float.tif.*8 bits"):
        open_dataset(f"folder:{tmp_path}").load("float")


def test_a_turned_photograph_is_set_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF: turn by 90 degrees
    pixels = save(tmp_path / "phone.png", 20, 30, exif=exif)
    dataset = open_dataset(f"folder:{tmp_path}")
    image = dataset.load("phone").image
    assert dataset.size("phone") == tuple(image.shape[1:]) == (30, 20)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match="no pictures in"):
        open_dataset(f"folder:{tmp_path}")
    with pytest.raises(UserError, match="there is no such folder"):
        open_dataset(f"folder:{tmp_path}/nowhere")


# --------------------------------------------------------------------------------------------------- fingerprints


def test_one_byte_changes_the_fingerprint_but_not_the_quick_one(tmp_path):
    for number in range(2):
        save(tmp_path / f"{number}.bmp", 8, 8, number)
    before = open_dataset(f"folder:{tmp_path}")
    content = bytearray((tmp_path / "1.bmp").read_bytes())
    assert before.sha256("1") == hashlib.sha256(content).hexdigest()
    first, quick = before.fingerprint(), before.quick_fingerprint()
    content[-1] ^= 1
    (tmp_path / "1.bmp").write_bytes(content)
    after = open_dataset(f"folder:{tmp_path}")
    assert after.fingerprint() != first and after.sha256("0") == before.sha256("0")
    assert after.quick_fingerprint() == quick
    (tmp_path / "1.bmp").write_bytes(bytes(content) + b"\0")
    assert open_dataset(f"folder:{tmp_path}").quick_fingerprint() != quick


def test_fingerprint_covers_ids_masks_and_preprocessing(tmp_path, voc_root):
    native, small = open_dataset("photos"), open_dataset("photos-224")
    assert native.fingerprint() != small.fingerprint() and native.quick_fingerprint() != small.quick_fingerprint()
    assert native.fingerprint() == open_dataset("photos").fingerprint() != native.take(3).fingerprint()
    before = open_dataset("voc2012", voc_root).fingerprint()
    mask = voc_root / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png"
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert open_dataset("voc2012", voc_root).fingerprint() != before
    folder = tmp_path / "pictures"
    save(folder / "one.png", 8, 8)
    named = open_dataset(f"folder:{folder}").fingerprint()
    (folder / "one.png").rename(folder / "two.png")
    assert open_dataset(f"folder:{folder}").fingerprint() != named


def test_a_worker_process_opens_the_same_set(tmp_path):
    save(tmp_path / "one.png", 8, 8)
    dataset = open_dataset(f"folder:{tmp_path}", size=(4, 4))
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint() == dataset.fingerprint()
    assert torch.equal(copy.load("one").image, dataset.load("one").image)


# --------------------------------------------------------------------------------------------- names and the root


def test_unknown_names_suggest_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="did you mean kodak"):
        open_dataset("kodack")
    with pytest.raises(UnknownName, match="did you mean photos-224"):
        open_dataset("photo-224")
    with pytest.raises(UnknownName, match="did you mean folder:"):
        open_dataset(str(tmp_path))
    with pytest.raises(UnknownName):
        open_dataset("kodak:train", tmp_path)


def test_sets_that_are_not_there_say_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match="python -m bench data fetch kodak.*--data-root"):
        open_dataset("kodak", tmp_path)
    with pytest.raises(UserError, match="python -m bench data fetch voc2012"):
        open_dataset("voc2012", tmp_path)
    with pytest.raises(UserError, match="--data-root") as error:
        open_dataset("hires_val", tmp_path)
    assert "fetch" not in str(error.value)  # nothing to fetch it with


def test_data_root_comes_from_the_environment(tmp_path, monkeypatch):
    save(tmp_path / "kodak" / "kodim01.png", 8, 12)
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    assert open_dataset("kodak").ids == ("kodim01",)
    monkeypatch.delenv("BENCH_DATA_ROOT")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_data_root() == tmp_path / "cache" / "semantic-bench"


def test_list_says_what_is_there(tmp_path):
    save(tmp_path / "kodak" / "kodim01.png", 8, 12)
    there = {info.name: info.available(tmp_path) for info in list_datasets()}
    assert there["photos"] and there["voc-demo"] and there["kodak"] and not there["voc2012"]
    assert all(info.licence and info.description and info.tasks for info in list_datasets())


def test_the_middle_of_a_picture_is_cut_and_never_scaled(tmp_path):
    pixels = save(tmp_path / "DIV2K_valid_HR/0801.png", 300, 401)
    dataset = open_dataset("div2k-valid-256", tmp_path)
    assert dataset.size("0801") == (256, 256)
    assert np.array_equal(dataset.load("0801").image.permute(1, 2, 0).numpy(), pixels[22:278, 72:328])
    save(tmp_path / "DIV2K_valid_HR/0802.png", 255, 401)
    with pytest.raises(UserError, match="0802.png is 401x255, smaller than the 256x256 that are cut"):
        open_dataset("div2k-valid-256", tmp_path).load("0802")


def test_other_files_than_those_of_the_reference_run_are_noted(tmp_path):
    save(tmp_path / "kodak/kodim01.png", 8, 12)
    dataset = open_dataset("kodak", tmp_path)
    assert "not the files of the committed reference run" in dataset.reference_note()
    assert dataset.take(1).reference_note() == ""  # with --limit the run is a trial anyway
    assert open_dataset("photos").reference_note() == ""
    known = replace(dataset, reference=dataset.content())
    (tmp_path / "kodak/kodim01.png").rename(tmp_path / "kodak/01.png")
    assert replace(open_dataset("kodak", tmp_path), reference=known.reference).reference_note() == ""


def test_a_third_party_adds_a_set_by_an_entry_point(tmp_path, monkeypatch):
    """A package adds one record. A faulty record, or one with a name of the bench, does not affect the other sets."""
    save(tmp_path / "pictures/a.png", 8, 12)
    (tmp_path / "their_sets.py").write_text(
        "from bench.data import Dataset, DatasetInfo, Item\n"
        "def build(info, root, split):\n"
        f"    items = {{'a': Item(__import__('pathlib').Path({str(tmp_path / 'pictures/a.png')!r}))}}\n"
        "    return Dataset(info.name, info.tasks, info.description, info.licence, items)\n"
        "SET = DatasetInfo('ignored', ('reconstruction',), 'theirs', 'free', build)\n"
        "NONE = 3\n"
        "def ends(info, root, split): raise SystemExit(0)\n"
        "ENDS = DatasetInfo('ignored', ('reconstruction',), 'theirs', 'free', ends)\n"
    )
    info = tmp_path / "their_sets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-sets\nVersion: 1.0\n")
    points = "theirs = their_sets:SET\nkodak = their_sets:SET\nbroken = no_such_module:X\nnone = their_sets:NONE\n"
    points += "ends = their_sets:ENDS\n"
    (info / "entry_points.txt").write_text("[semantic_bench.datasets]\n" + points)
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue._third_parties.cache_clear()
    try:
        assert open_dataset("theirs").load("a").image.shape == (3, 8, 12)
        assert "theirs" in [one.name for one in list_datasets()]
        assert set(catalogue.faulty_plugins()) == {"kodak", "broken", "none"}
        assert open_dataset("photos").ids == RECONSTRUCTION
        with pytest.raises(UnknownName, match="broken.*does not import"):
            open_dataset("broken")
        with pytest.raises(UserError, match="'ends' of an installed package: its `build` failed .SystemExit: 0"):
            open_dataset("ends")
    finally:
        catalogue._third_parties.cache_clear()


def test_cover_keeps_the_centre_and_the_aspect_ratio():
    assert Preprocessing("cover", (224, 224)).box(300, 451) == (75, 0, 375, 300)
    assert Preprocessing("cover", (100, 200)).box(300, 300) == (0, 75, 300, 225)
    assert Preprocessing("stretch", (224, 224)).box(300, 451) == (0, 0, 451, 300)
    with pytest.raises(ValueError):
        Preprocessing("cover")


# ----------------------------------------------------------------------------------------------- the real sets

data = pytest.mark.skipif(not os.environ.get("BENCH_DATA_ROOT"), reason="BENCH_DATA_ROOT names no data")


@data
@pytest.mark.data
@pytest.mark.parametrize(
    ("spec", "count", "size"),
    [("voc2012", 335, (224, 224)), ("div2k_valid256", 100, (224, 224)), ("hires_val", 24, (512, 768))],
)
def test_real_sets_have_their_length_and_size(spec, count, size):
    dataset = open_dataset(spec)
    assert len(dataset) == count
    assert {dataset.size(image_id) for image_id in dataset.ids} == {size}
    sample = dataset.load(dataset.ids[count // 2])
    assert tuple(sample.image.shape) == (3, *size)


@data
@pytest.mark.data
def test_real_voc_masks_hold_every_class_and_nothing_else():
    rows = class_statistics(open_dataset("voc2012"))
    assert all(row.pixels > 0 for row in rows)
    assert sum(row.pixels for row in rows) == 335 * 224 * 224
    assert max(rows[1:21], key=lambda row: row.pictures).name == "person"


@data
@pytest.mark.data
def test_real_splits_share_no_picture_with_the_validation_set():
    validation = set(open_dataset("voc2012").ids)
    for split in ("train", "trainaug", "coco"):
        assert not validation & set(open_dataset(f"voc2012:{split}").ids)


def test_a_set_with_copies_of_a_picture_is_refused(tmp_path):
    """Intervals are over pictures. Twelve copies of one would make a certain verdict of one picture."""
    for index in range(3):
        save(tmp_path / "set" / f"{index}.png", 32, 32, seed=index)
    open_dataset(f"folder:{tmp_path / 'set'}").refuse_copies()
    (tmp_path / "set" / "another.png").write_bytes((tmp_path / "set" / "1.png").read_bytes())
    request = Request(systems=("linear",), dataset=f"folder:{tmp_path / 'set'}", snr="10")
    with pytest.raises(UserError, match="1 and another are the same file|another and 1 are the same file"):
        assert resolve(request).config
