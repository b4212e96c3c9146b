"""Tests of a training set in one file, and of the one reader that all sources use."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_ground import HEAD, photos, voc, voc_folders

from bench.cli import main
from bench.data import open_dataset
from bench.training.crops import Album
from bench.training.make_pack import pack_training_set
from bench.training.pack_format import read_pack, write_pack
from bench.training.picture import Picture
from bench.training.run import run_training
from bench.training.sources import Library
from systems.errors import UserError
from systems.sidecars import read_facts


@pytest.fixture
def ground(tmp_path):
    photos(tmp_path, 3)
    voc(tmp_path, 3, 60)
    return tmp_path


def pack(root: Path, name: str = "set.pack", **options) -> Path:
    values = {"sources": "photos,voc:train", "max_mib": 0.5, "data_root": str(root), "say": lambda text: None}
    return pack_training_set(str(root / name), **{**values, **options})


def test_pictures_return_near_and_masks_to_the_bit(ground):
    read = Library(ground).read
    stored = [*read("photos"), *read("voc2012:train")]
    back = read_pack(pack(ground))
    assert [picture.name for picture in back] == [picture.name for picture in stored]
    assert [picture.source for picture in back] == ["photos"] * 3 + ["voc2012:train"] * 3
    for one, other in zip(stored, back, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).mean() < 2  # smooth pictures at a high quality
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or np.array_equal(one.mask, other.mask)


def test_labels_travel_to_the_bit(tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.zeros((20, 30, 3), np.uint8)
    given = [
        Picture("p/a", pixels, None, rng.integers(0, 21, (9, 9), dtype=np.uint8), "deeplab"),
        Picture("p/b", pixels, np.full((20, 30), 255, np.uint8)),
    ]
    write_pack(tmp_path / "x.pack", given, ["p"], 10**6, say=lambda text: None)
    back = read_pack(tmp_path / "x.pack")
    assert np.array_equal(back[0].labels, given[0].labels) and back[0].teacher == "deeplab"
    assert back[1].labels is None and back[1].teacher == "" and np.array_equal(back[1].mask, given[1].mask)


def test_the_same_pictures_give_the_same_bytes(ground):
    assert pack(ground, "a.pack").read_bytes() == pack(ground, "b.pack").read_bytes()


def test_the_size_is_kept_and_what_cannot_fit_is_refused(ground):
    large, small = pack(ground, "large.pack"), pack(ground, "small.pack", max_mib=0.02)
    assert small.stat().st_size <= 0.02 * 2**20 < large.stat().st_size <= 0.5 * 2**20
    with pytest.raises(UserError, match="raise --max-mib or name fewer sources"):
        pack(ground, "tiny.pack", max_mib=0.005)
    assert not (ground / "tiny.pack").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": None}, "either --sources"),
        ({"config": "light"}, "either --sources"),
        ({"sources": "nothing"}, "no such folder of training pictures"),
        ({"sources": "voc:nothing"}, "has no split 'nothing'"),
        ({"sources": " , "}, "names no source"),
        ({"teacher": "teacher/none.tflite"}, "no such teacher"),
        ({"teacher": "resnet"}, "unknown teacher"),
    ],
)
def test_a_request_that_cannot_be_met_writes_nothing(ground, options, words):
    with pytest.raises(UserError, match=words):
        pack(ground, **options)
    assert not (ground / "set.pack").exists()


def test_a_file_is_replaced_only_when_asked(ground):
    path = pack(ground)
    with pytest.raises(UserError, match="--force replaces it"):
        pack(ground, sources="photos")
    assert len(read_pack(path)) == 6
    pack(ground, sources="photos", force=True)
    assert len(read_pack(path)) == 3


def test_a_damaged_pack_is_one_line(ground):
    path = pack(ground, sources="voc:train")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    index = json.loads(parts["index.json"])

    def altered(**changes) -> bytes:
        return json.dumps({**index, **changes}).encode()

    cases = [
        {"index.json": b"{}"},
        {"index.json": b"[" * 10_000},
        {"index.json": altered(pictures=[])},
        {"index.json": altered(pictures=3)},
        {"index.json": altered(pictures=[{"name": "x", "picture": "../../evil.webp"}])},
        {"index.json": altered(pictures=[{"name": "x"}])},
        {"index.json": altered(pictures=[{**index["pictures"][0], "name": name} for name in ("\ud800", "b")])},
        {"index.json": altered(pictures=[{**index["pictures"][0], "name": name} for name in ("a", "b", "a")])},
        {"index.json": altered(pictures=[{**row, "name": n} for n, row in enumerate(index["pictures"])])},
        {"index.json": altered(teacher="\ud800")},
        {"p/00000.webp": b"no picture"},
        {"m/00000.png": parts["m/00000.png"][:40]},
    ]
    for change in cases:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**parts, **change}.items():
                archive.writestr(name, data)
        with pytest.raises(UserError) as caught:
            read_pack(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="not a whole training pack"):
            read_pack(path)
    with pytest.raises(UserError, match="no such pack"):
        read_pack(ground / "absent.pack")


def test_training_reads_it_as_a_source_and_in_place_of_the_data_root(ground, tmp_path):
    """As a source and as the data root it gives the same pictures, and the same pictures are held out."""
    path = pack(ground)
    there = tmp_path / "elsewhere"
    there.mkdir()
    part = Library(there, path).read("photos")
    whole = Library(there).read(f"pack:{path}")
    assert [p.name for p in part] == [p.name for p in whole[:3]]
    assert Album(part, "photos", 1, 32).digest == Album(whole[:3], "photos", 1, 32).digest
    with pytest.raises(UserError, match="holds no pictures of cid22, only photos, voc2012:train"):
        Library(there, path).check("cid22")
    protocol = there / "p.toml"
    protocol.write_text(
        HEAD
        + """[tasks.reconstruction]
images_seen = 4
stages = [{ until = 1.0, crop = 32, batch = 4 }]
sources = ["photos"]
cbr = "1/16"
"""
    )
    (weights,) = run_training(["deepjscc"], protocol, there, there / "out", pack=path, say=lambda text: None)
    told = read_facts(weights)["data"]["reconstruction"]
    assert told["sources"] == ["photos"] and told["packs"] == [hashlib.sha256(path.read_bytes()).hexdigest()]
    assert [p.pack for p in whole] == 6 * told["packs"]


# ---------------------------------------------------------------- the same rules as the sweep


def test_training_sees_the_pixels_of_the_sweep(tmp_path):
    """16-bit grey, palettes, alpha, EXIF: training reads each kind as the sweep does."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 2**16, (40, 50), dtype=np.uint16)
    Image.fromarray(grey).save(folder / "grey16.png")
    colour = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    colour.convert("P").save(folder / "palette.png")
    colour.convert("RGBA").save(folder / "alpha.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(folder / "turned.jpg", exif=exif)
    (folder / "._hidden.png").write_bytes(b"\0\5\26\7")
    (folder / "folder.png").mkdir()
    (folder / "notes.txt").write_text("no picture")
    seen = {picture.name: picture.pixels for picture in Library(tmp_path).read("photos")}
    swept = open_dataset(f"folder:{folder}")
    assert set(seen) == {f"photos/{image_id}" for image_id in swept.ids} and len(seen) == 4
    for image_id in swept.ids:
        assert np.array_equal(seen[f"photos/{image_id}"], swept.load(image_id).image.permute(1, 2, 0).numpy())


def bad_masks():
    good = np.ones((40, 50), np.uint8)
    return {
        "another size": Image.fromarray(good.T.copy()),
        "colour": Image.fromarray(np.repeat(good[..., None], 3, axis=2)),
        "class 33": Image.fromarray(good * 33),
        "one bit": Image.fromarray(good * 255).convert("1"),
        "16 bits": Image.fromarray(good.astype(np.uint16)),
    }


@pytest.mark.parametrize("kind", bad_masks())
def test_training_refuses_the_masks_that_the_sweep_refuses(tmp_path, kind, capsys):
    base = voc_folders(tmp_path)
    Image.new("RGB", (50, 40)).save(base / "JPEGImages" / "a.jpg")
    bad_masks()[kind].save(base / "SegmentationClass" / "a.png")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("a")
    with pytest.raises(UserError) as swept:
        open_dataset("voc2012", tmp_path).load("a")
    with pytest.raises(UserError) as trained:
        Library(tmp_path).read("voc2012:val")
    assert str(trained.value) == str(swept.value) and "a.png" in str(trained.value)
    protocol = tmp_path / "p.toml"
    protocol.write_text(
        HEAD
        + """[tasks.segmentation]
images_seen = 4
stages = [{ until = 1.0, crop = 32, batch = 4 }]
sources = ["voc2012:val"]
kbits = 20
"""
    )
    command = ["train", "--systems", "deeplab-jscc", "--config", str(protocol), "--data-root", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert stop.value.code == 2 and capsys.readouterr().err.strip() == f"error: {swept.value}"
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_refused_by_name(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("1", (20000, 20000)).save(tmp_path / "photos" / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png"):
        Library(tmp_path).read("photos")


def test_masks_keep_the_stored_orientation(tmp_path):
    voc(tmp_path, count=2, side=40)
    read = Library(tmp_path).read("voc:train")
    assert [p.name for p in read] == ["voc2012:train/0", "voc2012:train/1"]
    assert all(p.mask.shape == p.pixels.shape[:2] == (40, 40) for p in read)
    assert replace(read[0], mask=None).digest == read[0].digest
