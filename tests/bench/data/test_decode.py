"""Tests of the reader of pictures: each kind of file gives the expected pixels, and any other file gives one line."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import keep_apart, open_dataset, open_source, read_mask, read_picture
from bench.data.decode import FORMATS, PICTURE_SUFFIXES, decode_mask, decode_picture
from bench.data.list_folder import list_pictures, picture_ids
from bench.data.voc import voc_palette
from systems.errors import UserError


def pixels(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


# ------------------------------------------------------------------------------------------------------- formats


def test_what_pillow_opens_is_read_or_left_out_for_a_reason():
    Image.init()
    opened = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    documents = {".eps", ".ps", ".emf", ".wmf", ".psd"}  # Pillow opens the first four with other programs
    films = {".fli", ".flc", ".mpg", ".mpeg"}
    data = {".bufr", ".grib", ".h5", ".hdf", ".fit", ".fits", ".iim"}
    cursors_and_games = {".blp", ".cur", ".dcx", ".ftc", ".ftu", ".gbr", ".icns", ".ico", ".im", ".msp", ".pcd", ".pxr"}
    text = {".xbm", ".xpm"}
    heif = {".heic", ".heics", ".heif", ".heifs", ".hif"}  # opened only where pillow-heif is installed and imported
    left_out = documents | films | data | cursors_and_games | text | heif
    assert opened - set(PICTURE_SUFFIXES) <= left_out
    assert set(FORMATS) <= set(Image.OPEN)
    assert {Image.registered_extensions()[suffix] for suffix in PICTURE_SUFFIXES if suffix in opened} == set(FORMATS)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.avif", "a.jfif", "a.jp2", "a.webp", "a.tif", "a.pgm", "a.qoi"])
def test_each_format_gives_what_pillow_gives(tmp_path, name):
    path = tmp_path / name
    kind = {"gif": "GIF", "jfif": "JPEG", "pgm": "PPM"}.get(name[2:], None)
    picture = Image.fromarray(pixels())
    (picture.convert("L") if name.endswith("pgm") else picture).save(path, kind)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.ids == ("a",) and dataset.skipped == ()
    with Image.open(path) as theirs:
        assert np.array_equal(read_picture(path).permute(1, 2, 0).numpy(), np.array(theirs.convert("RGB")))
    assert torch.equal(dataset.load("a").image, read_picture(path))


def test_every_pixel_format_has_a_defined_answer(tmp_path):
    rgb = pixels()
    grey = rgb[..., 0]
    ramp = np.linspace(0, 65535, grey.size).astype(np.uint16).reshape(grey.shape)
    save(tmp_path / "g16.png", ramp)
    save(tmp_path / "g16.tif", ramp)
    (tmp_path / "g16.pgm").write_bytes(b"P5 16 12 65535\n" + ramp.astype(">u2").tobytes())
    expected = np.rint(ramp / 257).astype(np.uint8)
    for name in ("g16.png", "g16.tif", "g16.pgm"):
        assert np.array_equal(read_picture(tmp_path / name)[0].numpy(), expected), name
    alpha = np.dstack([rgb, np.zeros_like(grey)])
    save(tmp_path / "alpha.png", alpha)
    assert np.array_equal(read_picture(tmp_path / "alpha.png").permute(1, 2, 0).numpy(), rgb)
    Image.fromarray(np.dstack([grey, grey // 2]), "LA").save(tmp_path / "la.png")
    assert np.array_equal(read_picture(tmp_path / "la.png")[2].numpy(), grey)
    indexed = Image.fromarray(rgb).quantize(16)
    indexed.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    colours = np.array(indexed.getpalette()[:48]).reshape(-1, 3)[np.array(indexed)]
    assert np.array_equal(read_picture(tmp_path / "palette.png").permute(1, 2, 0).numpy(), colours)
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    assert np.array_equal(read_picture(tmp_path / "bits.png")[1].numpy(), (grey > 99) * np.uint8(255))
    ink = np.dstack([255 - rgb, np.zeros_like(grey)])
    Image.fromarray(ink, "CMYK").save(tmp_path / "cmyk.tif")
    assert np.array_equal(read_picture(tmp_path / "cmyk.tif").permute(1, 2, 0).numpy(), rgb)
    first, second = Image.fromarray(rgb), Image.fromarray(255 - rgb)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    assert np.array_equal(read_picture(tmp_path / "pages.tif").permute(1, 2, 0).numpy(), rgb)
    for name, array in (("f.tif", grey.astype(np.float32)), ("i.tif", grey.astype(np.int32))):
        save(tmp_path / name, array)
        with pytest.raises(UserError, match=f"{name}: .*8 bits per channel"):
            read_picture(tmp_path / name)
    save(tmp_path / "one.png", rgb[:1, :1])
    assert read_picture(tmp_path / "one.png").shape == (3, 1, 1)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(data)
    for call in (read_picture, open_dataset(f"folder:{tmp_path}").load):
        with pytest.raises(UserError, match=r"huge.png: it has more than 178 million pixels"):
            call(tmp_path / "huge.png" if call is read_picture else "huge")


SEEDS = []
for _kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000", "QOI"):
    _out = io.BytesIO()
    Image.fromarray(pixels()).save(_out, _kind)
    SEEDS.append(_out.getvalue())


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_bytes_are_pixels_or_one_line(seed, changes, data):
    content = bytearray(seed[: data.draw(st.integers(0, len(seed)))] if data.draw(st.booleans()) else seed)
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    for decode in (
        lambda: decode_picture(bytes(content), Path("x.png")),
        lambda: decode_mask(bytes(content), Path("x.png"), (12, 16)),
    ):
        try:
            decode()
        except UserError as error:
            assert "x.png" in str(error) and "\n" not in str(error) and "0x" not in str(error)


# --------------------------------------------------------------------------------------------------------- masks


def indexed(path, labels, palette):
    picture = Image.fromarray(labels, "P")
    picture.putpalette(palette.ravel().tolist())
    picture.save(path)
    return path


def test_masks_are_checked(tmp_path):
    labels = np.zeros((12, 16), dtype=np.uint8)
    labels[2:6], labels[6] = 15, 255
    good = indexed(tmp_path / "m.png", labels, voc_palette())
    assert np.array_equal(read_mask(good, (12, 16)).numpy(), labels)
    assert np.array_equal(read_mask(save(tmp_path / "l.png", labels), (12, 16)).numpy(), labels)
    with pytest.raises(UserError, match="16x12, its picture is 12x16"):
        read_mask(good, (16, 12))
    order = [0, 15, 255]
    moved = np.vstack([voc_palette()[order], np.zeros((253, 3), dtype=np.uint8)])
    path = indexed(tmp_path / "sorted.png", np.searchsorted(order, labels).astype(np.uint8), moved)
    with pytest.raises(UserError, match=r"sorted.png: index 1 has the colour of person \(15\)"):
        read_mask(path, (12, 16))
    plain = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert np.array_equal(read_mask(indexed(tmp_path / "ramp.png", labels, plain), (12, 16)).numpy(), labels)
    for name, array in (("rgb.png", pixels()), ("deep.png", labels.astype(np.uint16)), ("bits.png", labels > 0)):
        with pytest.raises(UserError, match=f"{name} is .*not class ids"):
            read_mask(save(tmp_path / name, array), (12, 16))


# --------------------------------------------------------------------------------------------------------- names


def test_three_files_that_share_parts_of_a_name_are_three_pictures(tmp_path):
    for index, name in enumerate(("a.jpg", "a.png", "a.png.jpg", "b.png")):
        save(tmp_path / name, pixels(seed=index))
    assert open_dataset(f"folder:{tmp_path}").ids == ("a.jpg", "a.png", "a.png.jpg", "b")


@given(st.sets(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8), max_size=12), st.data())
def test_ids_are_different_and_plain_whatever_files_are_called(stems, data):
    suffixes = st.sampled_from([".png", ".jpg", ".PNG", ".png.jpg", ".gif"])
    names = sorted({stem + data.draw(suffixes) for stem in stems} | {stem + ".png" for stem in stems})
    names = [name for name in names if _fits(name)]
    ids = picture_ids(names)
    assert list(ids.values()) == names
    for text in ids:
        text.encode()
        assert len(text.splitlines()) == 1


def _fits(name):
    """Whether the file system takes this file name."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def test_names_that_are_no_text_are_escaped(tmp_path):
    picture = save(tmp_path / "ok.png", pixels()).read_bytes()
    for name in (b"caf\xe9.png", b"car\rriage.png", b"new\nline.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(picture)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert set(dataset.ids) == {"ok", "caf\\xe9", "car\\rriage", "new\\nline"}
    assert all(torch.equal(dataset.load(i).image, dataset.load("ok").image) for i in dataset.ids)
    assert len(dataset.fingerprint()) == 64
    both = picture_ids(["caf\udce9.png", "caf\\xe9.png"])
    assert len(both) == 2 and all(text.startswith("caf\\xe9.png~") for text in both)


def test_what_is_skipped_is_counted_and_named(tmp_path):
    save(tmp_path / "ok.png", pixels())
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "deeper").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._ok.png").write_bytes(b"\0\5")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert dataset.ids == ("ok",)
    assert dataset.skipped == ("folder.png (a folder)", "notes.txt", "pipe.png (a pipe or device)")
    assert dataset.notes == (
        f"folder:{tmp_path.name}: 3 of its files are not read: folder.png (a folder), notes.txt, "
        "pipe.png (a pipe or device)",
    )
    for target in ("loop.png", "gone.png"):
        (tmp_path / "loop.png").unlink(missing_ok=True)
        (tmp_path / "loop.png").symlink_to(target)
        with pytest.raises(UserError, match="loop.png is a link that leads nowhere; repair or remove"):
            list_pictures(tmp_path)
    with pytest.raises(UserError, match="no pictures in .*subfolders are not searched: name one, such as .*deeper"):
        (tmp_path / "up" / "deeper").mkdir(parents=True)
        list_pictures(tmp_path / "up")


def test_a_folder_by_any_path_has_its_own_name(tmp_path, monkeypatch):
    save(tmp_path / "val" / "x.png", pixels())
    (tmp_path / "val" / "in").mkdir()
    monkeypatch.chdir(tmp_path / "val" / "in")
    for path in ("..", "../", "../../val", str(tmp_path / "val")):
        assert open_dataset(f"folder:{path}").name == "folder:val"


# ------------------------------------------------------------------------------------------------------ identity


def test_two_folders_of_one_name_keep_apart_by_content(tmp_path):
    save(tmp_path / "a/val/x.png", pixels(seed=1))
    save(tmp_path / "b/val/x.png", pixels(seed=2))
    save(tmp_path / "c/val/x.png", pixels(seed=1))
    sets = {spec: open_dataset(f"folder:{tmp_path}/{spec}/val") for spec in "abc"}
    apart = keep_apart(sets)
    assert apart["a"].name == apart["c"].name != apart["b"].name  # the same content is the same set
    assert all(one.name.startswith("folder:val#") and one.seed_name == "folder:val" for one in apart.values())
    assert keep_apart({k: sets[k] for k in "ab"})["a"].name == apart["a"].name
    assert keep_apart({k: sets[k] for k in "ac"})["a"].name == "folder:val"
    assert apart["a"].fingerprint() == sets["a"].fingerprint()


def test_a_picture_that_changes_after_it_was_hashed_is_refused(tmp_path):
    path = save(tmp_path / "x.png", pixels(seed=1))
    dataset = open_dataset(f"folder:{tmp_path}")
    dataset.load("x")
    dataset.fingerprint()
    save(path, pixels(seed=2))
    with pytest.raises(UserError, match="x.png changed since this command began"):
        dataset.load("x")


# ------------------------------------------------------------------------------------------------------ training


def test_training_reads_the_files_of_the_sweep(tmp_path):
    save(tmp_path / "photos/deep.png", np.full((8, 8), 32768, dtype=np.uint16))
    save(tmp_path / "photos/b.tiff", pixels())
    (tmp_path / "photos/._b.tiff").write_bytes(b"\0\5")
    source = open_source("photos", tmp_path)
    assert source.name == "photos" and source.ids == open_dataset(f"folder:{tmp_path}/photos").ids == ("b", "deep")
    assert int(source.load("deep").image.max()) == 128
    with pytest.raises(UserError, match="no such folder of training pictures; set --data-root"):
        open_source("nowhere", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a 1\nb -1\n", "line 1 holds more than a picture's name"),
        ("a\n".encode("utf-16"), "save it in UTF-8"),
        (b"../../etc/passwd\n", "line 1, ../../etc/passwd, is not a picture's name"),
        (b"\n\n", "names no picture"),
    ],
)
def test_split_lists_are_checked(tmp_path, text, words):
    base = tmp_path / "VOCdevkit/VOC2012"
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_bytes(text)
    for call in (lambda: open_dataset("voc2012", tmp_path), lambda: open_source("voc2012:val", tmp_path)):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "val.txt" in str(caught.value)


def test_a_split_with_a_byte_order_mark_and_a_name_twice(tmp_path):
    base = tmp_path / "VOCdevkit/VOC2012"
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_bytes("a\r\nb\r\na\r\n".encode("utf-8-sig"))
    assert open_dataset("voc2012", tmp_path).ids == ("a", "b")
    for split in ("../val", "nope"):
        with pytest.raises(UserError, match="has no split"):
            open_dataset(f"voc2012:{split}", tmp_path)
