"""Tests of the crops of a batch: their pixels are the pictures' pixels, masks follow them, and
samples are independent.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from training_ground import pictures

from bench.training import draws
from bench.training.crops import Album, Window, centre
from bench.training.picture import Picture
from systems.errors import UserError
from systems.interface import VOID


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return draws.sample_keys(seed, torch.arange(count))


def made(**options) -> Album:
    return Album(pictures(**options), "made", holdout=1, least_side=32, with_masks=options.get("mask", False))


def windows(album: Album, crop: int) -> dict[bytes, tuple[int, bool]]:
    """Every window of every training picture and its mirror image: bytes -> (picture, mirrored)."""
    found = {}
    for index, picture in enumerate(album.training):
        height, width = picture.pixels.shape[:2]
        for top in range(height - crop + 1):
            for left in range(width - crop + 1):
                part = picture.pixels[top : top + crop, left : left + crop]
                found[part.tobytes()] = index, False
                found[part[:, ::-1].tobytes()] = index, True
    return found


def test_plain_crops_are_windows_of_the_pictures():
    """All windows and their mirror images occur, each picture equally often, and every pixel agrees."""
    album = made(count=4, height=34, width=37)
    images = album.cut(keys(600), Window(32)).images
    assert images.shape == (600, 3, 32, 32) and images.is_contiguous(memory_format=torch.channels_last)
    possible = windows(album, 32)
    assert len(possible) == 3 * 3 * 6 * 2
    drawn = [possible[(image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy().tobytes()] for image in images]
    assert len({id(window) for window in drawn}) > 90  # 600 draws from 108 windows are expected to miss less than one
    counts = np.bincount([index for index, _ in drawn], minlength=3)
    assert abs(counts - 200).max() < 5 * np.sqrt(600 * 2 / 9)
    assert abs(sum(mirrored for _, mirrored in drawn) - 300) < 5 * np.sqrt(150)


def test_half_a_batch_is_half_of_the_whole():
    album = made(mask=True)
    window = Window(24, lowest_scale=0.5, balance=True)
    whole = album.cut(keys(16), window)
    half = album.cut(draws.sample_keys(0, torch.arange(1, 16, 2)), window)
    for name in ("images", "mask", "snr"):
        assert torch.equal(getattr(half, name), getattr(whole, name)[1::2])


def test_a_whole_picture_is_its_area_average():
    """At exactly 2:1 each pixel is the mean of four, also in a mirrored picture, and each mask pixel is one of the
    four.
    """
    album = Album(pictures(count=2, height=64, width=64, mask=True), "made", 1, 32, with_masks=True)
    picture = album.training[0]
    crops = album.cut(keys(8), Window(32, lowest_scale=0.9, whole=1.0))
    mean = picture.pixels.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)) / 255
    corners = picture.mask.reshape(32, 2, 32, 2).transpose(0, 2, 1, 3).reshape(32, 32, 4)
    mirrored = 0
    for image, mask in zip(crops.images, crops.mask):
        flipped = abs(image[:, 0, 0].numpy() - mean[0, 0]).max() > 1e-5
        mirrored += flipped
        expected, possible = (mean[:, ::-1], corners[:, ::-1]) if flipped else (mean, corners)
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-6)
        assert (possible == mask.numpy()[..., None]).any(axis=-1).all()
    assert 0 < mirrored < 8


def test_masks_and_labels_follow_the_picture():
    """Each class has one plain colour. The mask of every crop, and its labels at half the size,
    agree with the colours.
    """
    rng = np.random.default_rng(1)
    classes = np.kron(rng.integers(1, 21, (3, 4), dtype=np.uint8), np.ones((32, 32), np.uint8))
    picture = Picture("made/0", np.repeat(classes[..., None], 3, axis=2) * 10, classes, classes[::2, ::2], "t")
    album = Album([picture, picture], "other", 0, 32, with_masks=True)
    plain = album.cut(keys(20), Window(48))
    assert torch.equal((plain.images[:, 0] * 25.5).round().long(), plain.mask)
    assert torch.equal(plain.labels, plain.mask)
    scaled = album.cut(keys(20), Window(32, lowest_scale=0.4))
    inner = same_around(scaled.mask)  # not at the borders of classes, where colours are mixed
    assert inner.float().mean() > 0.2
    assert ((scaled.images[:, 0] * 25.5 - scaled.mask)[inner].abs() < 1e-3).all()
    assert torch.equal(scaled.labels[inner], scaled.mask[inner])


def same_around(mask: torch.Tensor) -> torch.Tensor:
    """Where all of a pixel's 5 x 5 neighbours have its class."""
    values = mask[:, None].float()
    largest = torch.nn.functional.max_pool2d(values, 5, 1, 2)
    least = -torch.nn.functional.max_pool2d(-values, 5, 1, 2)
    return (largest == least)[:, 0]


def test_held_out_pictures_are_never_drawn():
    album = Album(pictures(count=8), "made", holdout=3, least_side=32)
    assert len(album.held_out) == 3 and len(album) == 5
    assert not {p.name for p in album.held_out} & {p.name for p in album.training}
    again = Album(pictures(count=8)[::-1], "made", holdout=3, least_side=32)
    assert {p.name for p in again.held_out} == {p.name for p in album.held_out}
    with pytest.raises(UserError, match="3 are held out"):
        Album(pictures(count=3), "made", holdout=3, least_side=32)


def plain_classes(count: int) -> list[Picture]:
    """`count` pictures of class 1, except the last, which is of class 2."""
    classes = [2 if index == count - 1 else 1 for index in range(count)]
    return [
        Picture(f"p/{i}", np.zeros((40, 40, 3), np.uint8), np.full((40, 40), c, np.uint8))
        for i, c in enumerate(classes)
    ]


def test_classes_are_drawn_evenly():
    """There are 9 pictures of class 1 and 1 of class 2. Balanced draws show class 2 in half of the crops."""
    album = Album(plain_classes(10), "p", holdout=0, least_side=32, with_masks=True)
    for balance, share in ((True, 0.5), (False, 0.1)):
        mask = album.cut(keys(2000), Window(32, lowest_scale=0.6, balance=balance)).mask
        assert abs((mask[:, 0, 0] == 2).float().mean() - share) < 5 * np.sqrt(share * (1 - share) / 2000)


def test_a_picture_without_a_mask_needs_labels():
    bare = Picture("p/bare", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(UserError, match="p/bare: segmentation is trained on pictures with masks"):
        Album([*plain_classes(3), bare], "p", 0, 32, with_masks=True)
    taught = Picture("p/bare", bare.pixels, None, np.full((8, 8), 3, np.uint8), "t")
    album = Album([taught], "p", 0, 32, with_masks=True)
    crops = album.cut(keys(3), Window(32, balance=True))
    assert (crops.mask == VOID).all() and (crops.labels == 3).all()


def test_small_pictures_are_enlarged_with_their_masks():
    album = Album(plain_classes(2), "p", holdout=0, least_side=64, with_masks=True)
    assert album.training[0].pixels.shape == (64, 64, 3) and album.training[0].mask.shape == (64, 64)


def test_the_digest_covers_pixels_masks_and_labels():
    first = pictures(count=3, mask=True)
    digests = {Album(first, "x", 0, 32, True).digest}
    for change in ("pixels", "mask"):
        other = pictures(count=3, mask=True)
        getattr(other[1], change)[0, 0] = 1 + getattr(other[1], change)[0, 0] % 2
        digests.add(Album(other, "x", 0, 32, True).digest)
    assert len(digests) == 3


def test_what_is_watched_is_the_centre_or_the_whole():
    picture = pictures(count=1, height=50, width=70, mask=True)[0]
    image, mask = centre(picture, 32, whole=False)
    assert np.array_equal((image.permute(1, 2, 0).numpy() * 255).round(), picture.pixels[9:41, 19:51])
    assert np.array_equal(mask.numpy(), picture.mask[9:41, 19:51])
    whole, _ = centre(picture, 32, whole=True)
    lanczos = Image.fromarray(picture.pixels).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal((whole.permute(1, 2, 0).numpy() * 255).round(), np.asarray(lanczos))
