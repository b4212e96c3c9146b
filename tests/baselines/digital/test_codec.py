"""Size and quality under a byte budget, checked against all of them, on real photographs."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from baselines.digital.codec import SAVE_OPTIONS, UnreadablePayload, decode, encode_under
from systems import cache as memo
from systems.errors import BudgetTooSmall


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.fromarray(data.astronaut()).resize((96, 80), Image.Resampling.LANCZOS))


def all_files(picture, codec):
    """Every quality at every size: {halvings: {quality: file}}."""
    files = {}
    for halvings in range(4):
        size = -(-picture.shape[1] // 2**halvings), -(-picture.shape[0] // 2**halvings)
        image = Image.fromarray(picture)
        image = image.resize(size, Image.Resampling.LANCZOS) if halvings else image
        files[halvings] = {}
        for quality in range(1, 101):
            buffer = io.BytesIO()
            image.save(buffer, quality=quality, **SAVE_OPTIONS[codec])
            files[halvings][quality] = buffer.getvalue()
    return files


def least_size(picture, codec="jpeg"):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, quality=1, **SAVE_OPTIONS[codec])
    return len(buffer.getvalue())


def error(payload, codec, picture):
    return np.mean((decode(payload, codec, *picture.shape[:2]).astype(float) - picture) ** 2)


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_size_and_quality_are_the_best_that_fit_by_exhaustive_check(photo, codec):
    files = all_files(photo, codec)
    exact = [len(files[0][quality]) for quality in range(1, 101, 6)]  # a budget that a file fills to the byte
    scales = set()
    for budget in sorted({*exact, *(size - 1 for size in exact), *range(300, 6000, 194)}):
        fitting = {h: [q for q, file in own.items() if len(file) <= budget] for h, own in files.items()}
        largest = {h: files[h][max(own)] for h, own in fitting.items() if own}
        if not largest:
            continue
        errors = {h: error(file, codec, photo) for h, file in largest.items()}
        best = min(errors, key=errors.get)
        coded = encode_under(photo, budget, codec)
        assert (coded.scale, coded.quality) == (0.5**best, max(fitting[best]))
        assert coded.payload == largest[best] and len(coded.payload) <= budget
        scales.add(coded.scale)
    assert {1.0, 0.5} <= scales  # both happen, or half of this was not asked


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_round_trip_delivers_the_files_own_pixels(photo, codec):
    coded = encode_under(photo, 6000, codec)
    pixels = decode(coded.payload, codec, *photo.shape[:2])
    expected = np.asarray(Image.open(io.BytesIO(coded.payload)).convert("RGB"))
    assert np.array_equal(pixels, expected)
    assert np.mean((pixels.astype(float) - photo) ** 2) < 100  # 28 dB: it is the picture, not merely a picture


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


def test_files_do_not_depend_on_what_was_coded_before(photo):
    first = encode_under(photo, 2500).payload
    memo.forget()
    for budget in (5000, 900):
        encode_under(photo, budget)
    assert encode_under(photo, 2500).payload == first
