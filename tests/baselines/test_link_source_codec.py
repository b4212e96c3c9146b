"""Largest quality under a byte budget, checked against every quality, on real photographs."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from baselines.link.source_codec import SAVE_OPTIONS, UnreadablePayload, decode, encode_under
from systems import memo
from systems.errors import BudgetTooSmall


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.fromarray(data.astronaut()).resize((96, 80), Image.Resampling.LANCZOS))


def all_sizes(picture, codec):
    sizes = {}
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, quality=quality, **SAVE_OPTIONS[codec])
        sizes[quality] = len(buffer.getvalue())
    return sizes


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_quality_is_the_largest_that_fits_by_exhaustive_check(photo, codec):
    sizes = all_sizes(photo, codec)
    exact = [sizes[quality] for quality in range(1, 101, 3)]  # a budget that a file fills to the byte
    for budget in sorted({*exact, *(size - 1 for size in exact), *range(min(sizes.values()), 6000, 97)}):
        fitting = [quality for quality, size in sizes.items() if size <= budget]
        if not fitting:
            continue
        coded = encode_under(photo, budget, codec)
        assert coded.scale == 1.0
        assert coded.quality == max(fitting)
        assert len(coded.payload) == sizes[coded.quality] <= budget


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_round_trip_delivers_the_files_own_pixels(photo, codec):
    coded = encode_under(photo, 6000, codec)
    pixels = decode(coded.payload, codec, *photo.shape[:2])
    expected = np.asarray(Image.open(io.BytesIO(coded.payload)).convert("RGB"))
    assert np.array_equal(pixels, expected)
    assert np.mean((pixels.astype(float) - photo) ** 2) < 100  # 28 dB: it is the picture, not merely a picture


def test_smaller_scale_only_when_quality_one_does_not_fit(photo):
    smallest = min(all_sizes(photo, "jpeg").values())
    assert encode_under(photo, smallest).scale == 1.0
    coded = encode_under(photo, smallest - 1)
    assert coded.scale == 0.5
    assert Image.open(io.BytesIO(coded.payload)).size == (48, 40)
    assert decode(coded.payload, "jpeg", 80, 96).shape == (80, 96, 3)


def test_odd_sides_round_up_and_come_back():
    picture = np.ascontiguousarray(data.astronaut()[100:201, 50:203])  # 101 x 153
    coded = encode_under(picture, min(all_sizes(picture, "jpeg").values()) - 1)
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
