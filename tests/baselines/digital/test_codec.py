"""Tests of the codecs under a byte budget: size and quality are compared with all possible
files, on real photographs.
"""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from baselines.digital.codec import FORMATS, UnreadablePayload, decode, encode_under
from systems import result_cache
from systems.errors import BudgetTooSmall, MissingDependency


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.fromarray(data.astronaut()).resize((96, 80), Image.Resampling.LANCZOS))


def all_files(picture, codec):
    """Encode at every quality, at every size and in every way to store colour: {(halvings,
    chroma): {quality: file}}.
    """
    files = {}
    for halvings in range(4):
        size = -(-picture.shape[1] // 2**halvings), -(-picture.shape[0] // 2**halvings)
        image = Image.fromarray(picture)
        image = image.resize(size, Image.Resampling.LANCZOS) if halvings else image
        for chroma in FORMATS[codec].chroma:
            files[halvings, chroma] = {
                quality: FORMATS[codec].write(image, quality, chroma) for quality in range(1, 101)
            }
    return files


@pytest.fixture
def each_file_written_once(monkeypatch, codec):
    """The test and the search write the same files: a file of the same pixels, quality and way to store colour is
    written once.
    """
    written, write = {}, FORMATS[codec].write

    def once(image, *how):
        key = (image.size, image.tobytes(), *how)
        if key not in written:
            written[key] = write(image, *how)
        return written[key]

    monkeypatch.setitem(FORMATS, codec, replace(FORMATS[codec], write=once))


def least_size(picture, codec="jpeg"):
    return min(len(FORMATS[codec].write(Image.fromarray(picture), 1, chroma)) for chroma in FORMATS[codec].chroma)


def error(payload, codec, picture):
    return np.mean((decode(payload, codec, *picture.shape[:2]).astype(float) - picture) ** 2)


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
@pytest.mark.usefixtures("each_file_written_once")
def test_size_and_quality_are_the_best_that_fit_by_exhaustive_check(photo, codec):
    files = all_files(photo, codec)
    exact = [len(files[0, "4:2:0"][quality]) for quality in range(1, 101, 6)]  # a budget that a file fills to the byte
    chosen = set()
    for budget in sorted({*exact, *(size - 1 for size in exact), *range(300, 9000, 294)}):
        fitting = {way: [q for q, file in own.items() if len(file) <= budget] for way, own in files.items()}
        largest = {way: files[way][max(own)] for way, own in fitting.items() if own}
        if not largest:
            continue
        errors = {way: error(file, codec, photo) for way, file in largest.items()}
        best = min(errors, key=errors.get)
        coded = encode_under(photo, budget, codec)
        assert (coded.scale, coded.chroma, coded.quality) == (0.5 ** best[0], best[1], max(fitting[best]))
        assert coded.payload == largest[best] and len(coded.payload) <= budget
        chosen.add(best)
    assert {1, 0} <= {halvings for halvings, _ in chosen}  # both cases must occur, or the loop tested only one of them
    assert {chroma for _, chroma in chosen} == set(FORMATS[codec].chroma)


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_round_trip_delivers_the_files_own_pixels(photo, codec):
    coded = encode_under(photo, 6000, codec)
    pixels = decode(coded.payload, codec, *photo.shape[:2])
    expected = np.asarray(Image.open(io.BytesIO(coded.payload)).convert("RGB"))
    assert np.array_equal(pixels, expected)
    assert np.mean((pixels.astype(float) - photo) ** 2) < 100  # 28 dB: the decoded picture is the right one


def test_with_many_bytes_jpeg_keeps_all_colour(photo):
    """The colour that 4:2:0 leaves out is an error that no quality removes. With few bytes it is better to leave it
    out.
    """
    few, many = (encode_under(photo, budget) for budget in (1000, 12000))
    assert (few.chroma, many.chroma) == ("4:2:0", "4:4:4")
    ceiling = error(FORMATS["jpeg"].write(Image.fromarray(photo), 100, "4:2:0"), "jpeg", photo)
    assert error(many.payload, "jpeg", photo) < ceiling / 2


class TestHeic:
    @pytest.fixture(autouse=True)
    def needs_pillow_heif(self):
        pytest.importorskip("pillow_heif")

    def test_under_a_budget_and_back(self, photo):
        coded = encode_under(photo, 2500, "heic")
        assert len(coded.payload) <= 2500 and coded.payload[4:8] == b"ftyp"
        better = encode_under(photo, 6000, "heic")
        assert error(better.payload, "heic", photo) < error(coded.payload, "heic", photo) < 400

    def test_damaged_or_foreign_files_are_refused(self, photo):
        payload = encode_under(photo, 2500, "heic").payload
        jpeg = encode_under(photo, 2500).payload
        for damaged in (b"", payload[:40], payload[: len(payload) // 2], jpeg):
            with pytest.raises(UnreadablePayload):
                decode(damaged, "heic", *photo.shape[:2])
        with pytest.raises(UnreadablePayload, match="96x80 picture where 100x100"):
            decode(payload, "heic", 100, 100)


def test_heic_without_its_package_is_one_line_with_the_cure(photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    result_cache.forget()
    with pytest.raises(MissingDependency, match="pip install pillow-heif"):
        encode_under(photo, 2500, "heic")


def test_where_quality_one_does_not_fit_the_picture_is_made_smaller(photo):
    coded = encode_under(photo, least_size(photo) - 1)
    assert coded.scale < 1.0
    assert Image.open(io.BytesIO(coded.payload)).size == (96 * coded.scale, 80 * coded.scale)
    assert decode(coded.payload, "jpeg", 80, 96).shape == (80, 96, 3)


def test_odd_sides_round_up_and_come_back():
    picture = np.ascontiguousarray(data.astronaut()[100:201, 50:203])  # 101 x 153
    coded = encode_under(picture, least_size(picture) - 1)
    assert coded.scale == 0.5 and Image.open(io.BytesIO(coded.payload)).size == (77, 51)
    assert decode(coded.payload, "jpeg", 101, 153).shape == (101, 153, 3)


def test_a_budget_that_holds_no_file_is_an_error_with_figures(photo):
    with pytest.raises(BudgetTooSmall, match=r"100 bytes are too few for any JPEG of this 96x80 picture.*has \d+"):
        encode_under(photo, 100)


def test_files_carry_no_metadata(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    coded = encode_under(photo, 6000)
    image = Image.open(io.BytesIO(coded.payload))
    assert not image.getexif() and "icc_profile" not in image.info and "comment" not in image.info


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_damaged_files_are_refused(photo, codec):
    payload = encode_under(photo, 6000, codec).payload
    for damaged in (b"", b"\0" * 50, payload[:40], payload[: len(payload) // 2]):
        with pytest.raises(UnreadablePayload):
            decode(damaged, codec, *photo.shape[:2])


def test_a_picture_of_another_size_is_refused(photo):
    payload = encode_under(photo, 6000).payload
    with pytest.raises(UnreadablePayload, match="96x80 picture where 100x100 is expected"):
        decode(payload, "jpeg", 100, 100)


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_files_do_not_depend_on_what_was_coded_before(photo, codec):
    first = encode_under(photo, 2500, codec).payload
    result_cache.forget()
    for budget in (5000, 900):
        encode_under(photo, budget, codec)
    assert encode_under(photo, 2500, codec).payload == first
