"""Tests of the metrics: against closed forms and against other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import confusion_matrix, jaccard_score

from bench.measure.metrics import image, segmentation
from bench.measure.metrics.ssim import ssim_terms
from systems.pixels import to_uint8


def photo(size: int = 256) -> torch.Tensor:
    """A photograph with a face and fine detail, uint8 (1, 3, size, size)."""
    return torch.from_numpy(data.astronaut()[:size, :size].copy()).permute(2, 0, 1)[None].contiguous()


def noisy(images: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).normal(0, sigma, tuple(images.shape))
    return (images.float() / 255 + torch.from_numpy(noise).float()).clamp(0, 1)


# ---------------------------------------------------------------- PSNR


def test_psnr_by_hand():
    reference = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    output = reference.clone()
    output[0, 0] = 5  # a third of the samples off by 5: MSE 25/3
    output[1] = 255  # the largest possible error
    mse = image.mse_per_image(reference, output)
    np.testing.assert_allclose(mse, [25 / 3, 65025.0], rtol=1e-15)
    np.testing.assert_allclose(image.psnr_db(mse), [10 * math.log10(65025 * 3 / 25), 0.0], atol=1e-12)


def test_psnr_agrees_with_skimage():
    reference, output = photo(), noisy(photo(), 0.08)
    mine = image.psnr_db(image.mse_per_image(reference, output))[0]
    theirs = peak_signal_noise_ratio(reference.numpy(), to_uint8(output).numpy(), data_range=255)
    assert mine == pytest.approx(theirs, abs=1e-10)


def test_pictures_are_rounded_to_eight_bits_first():
    """Both pictures are rounded: an error of 0.4 grey levels becomes 0, one of 0.6 becomes a whole level."""
    levels = torch.arange(1, 255, dtype=torch.float64).reshape(1, 1, 1, -1).expand(1, 3, 2, 254)
    exact = (levels / 255).float()
    small, large = ((levels + 0.4) / 255).float(), ((levels + 0.6) / 255).float()
    assert image.mse_per_image(exact, small) == 0
    assert image.mse_per_image(small, exact) == 0
    assert image.mse_per_image(exact, large) == 1
    assert image.mse_per_image(levels.to(torch.uint8), exact) == 0
    assert to_uint8(torch.tensor([-0.5, 0.0, 1.0, 1.7])).tolist() == [0, 0, 255, 255]


def test_every_grey_level_survives_the_way_to_float_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)


def test_both_reductions_and_jensen():
    mse = np.array([10.0, 1000.0])
    assert image.mean_psnr_db(mse) == pytest.approx((38.13080361 + 18.13080361) / 2, abs=1e-7)
    assert image.psnr_of_mean_mse_db(mse) == pytest.approx(10 * math.log10(65025 / 505), abs=1e-12)
    draws = np.random.default_rng(0).lognormal(4, 1, (200, 12))
    for row in draws:
        assert image.mean_psnr_db(row) > image.psnr_of_mean_mse_db(row)
    equal = np.full(5, 50.0)
    assert image.mean_psnr_db(equal) == pytest.approx(image.psnr_of_mean_mse_db(equal), abs=1e-12)


def test_a_perfect_picture_does_not_poison_a_mean():
    assert image.psnr_db(0.0) == image.PSNR_CAP_DB
    assert image.mean_psnr_db(np.array([0.0, 65025.0])) == 50.0
    assert math.isnan(image.psnr_db(math.nan))  # a row without simulation stays without a value


def test_the_mse_of_a_picture_does_not_depend_on_its_batch():
    reference = photo(64).expand(5, -1, -1, -1)
    output = noisy(reference, 0.1)
    together = image.mse_per_image(reference, output)
    alone = [image.mse_per_image(reference[i : i + 1], output[i : i + 1])[0] for i in range(5)]
    assert together.tolist() == alone and len(set(alone)) == 5


def test_bad_pictures_are_refused():
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="must be equal"):
        image.mse_per_image(photo(64), photo(32))


# ---------------------------------------------------------------- MS-SSIM


def reference_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM of one channel, float (H, W) in 0..255, from skimage's SSIM map and scipy's Gaussian filter."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True)
    product = 1.0
    for scale in range(5):
        _, full = structural_similarity(x, y, **options)
        mean_x, mean_y = (gaussian_filter(z, 1.5, truncate=3.5) for z in (x, y))
        luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        value = (full if scale == 4 else full / luminance)[5:-5, 5:-5].mean()
        product *= max(value, 0) ** weights[scale]
        x, y = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean(axis=(1, 3)) for z in (x, y))
    return product


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_ms_ssim_agrees_with_an_independent_implementation(sigma):
    reference = torch.cat([photo(256), photo(256).flip(-1)])
    output = noisy(reference, sigma)
    x, y = (to_uint8(z).double().numpy() for z in (reference, output))
    expected = [np.mean([reference_ms_ssim(x[i, c], y[i, c]) for c in range(3)]) for i in range(2)]
    np.testing.assert_allclose(image.ms_ssim(reference, output), expected, atol=1e-9)


def test_single_scale_ssim_agrees_with_skimage():
    x, y = photo(100).double(), to_uint8(noisy(photo(100), 0.1)).double()
    mine = [ssim_terms(a, b)[0] for a, b in zip(x[0].numpy(), y[0].numpy())]
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    theirs = [structural_similarity(a, b, **options) for a, b in zip(x[0].numpy(), y[0].numpy())]
    np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_ms_ssim_of_pytorch_msssim():
    """The expected value is from pytorch-msssim 1.0.0, which papers on learned compression use, on this pair in
    float64.

    It was given the Gaussian window in float64 (`win=`). Its own window is float32, sums to 1 - 3e-8, and changes this
    value by 3e-6.
    """
    steps = torch.arange(256)
    reference = ((steps[:, None] * steps[None, :]) % 256).to(torch.uint8).expand(1, 3, 256, 256)
    output = ((steps[:, None] * steps[None, :] + 16 * (steps % 3)) % 256).to(torch.uint8).expand(1, 3, 256, 256)
    assert image.ms_ssim(reference, output)[0] == pytest.approx(0.5964106122826365, abs=1e-9)


def test_ms_ssim_bounds_and_small_pictures():
    assert image.ms_ssim(photo(176), photo(176))[0] == pytest.approx(1, abs=1e-12)
    assert image.ms_ssim(photo(161), noisy(photo(161), 0.1))[0] < 1  # odd sides at every scale
    assert image.ms_ssim(photo(160), photo(160)) is None
    inverted = 255 - photo(256)
    assert 0 <= image.ms_ssim(photo(256), inverted)[0] < 0.1  # anti-correlated pictures: a number, not NaN


# ---------------------------------------------------------------- segmentation


def labels(seed: int, shape=(40, 50), classes: int = 21) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape)


def test_confusion_agrees_with_sklearn_and_leaves_void_out():
    pred, target = labels(0), labels(1)
    target[5:15, 10:30] = 255
    mine = segmentation.confusion(torch.from_numpy(pred), torch.from_numpy(target))
    counted = target != 255
    theirs = confusion_matrix(target[counted], pred[counted], labels=range(21))
    np.testing.assert_array_equal(mine, theirs)
    assert mine.dtype == np.int64 and mine.sum() == 40 * 50 - 200
    expected = jaccard_score(target[counted], pred[counted], labels=range(21), average=None)
    np.testing.assert_allclose(segmentation.iou_from_confusion(mine), expected, atol=1e-12)
    assert segmentation.miou(mine) == pytest.approx(expected.mean(), abs=1e-12)
    assert segmentation.pixel_accuracy(mine) == pytest.approx((pred == target)[counted].mean(), abs=1e-12)


def test_truth_lies_along_the_rows():
    matrix = segmentation.confusion(np.array([[3, 3]]), np.array([[7, 7]]))
    assert matrix[7, 3] == 2 and matrix.sum() == 2


def test_miou_is_of_the_data_set_and_not_a_mean_over_pictures():
    # Class 1 fills picture A and is found; in picture B it is one pixel and missed.
    a = segmentation.confusion(np.ones((10, 10), int), np.ones((10, 10), int))
    target = np.zeros((10, 10), int)
    target[0, 0] = 1
    b = segmentation.confusion(np.zeros((10, 10), int), target)
    whole = segmentation.miou(a + b)
    assert whole == pytest.approx((99 / 100 + 100 / 101) / 2, abs=1e-12)
    assert (segmentation.miou(a) + segmentation.miou(b)) / 2 == pytest.approx((1 + 0.99 / 2) / 2, abs=1e-12)
    parts = [segmentation.intersections_unions(matrix) for matrix in (a, b)]
    summed = segmentation.mean_iou(sum(part[0] for part in parts), sum(part[1] for part in parts))
    assert summed == pytest.approx(whole, abs=1e-15)


def test_only_classes_with_a_union_count():
    target, pred = np.zeros((4, 4), int), np.zeros((4, 4), int)
    assert segmentation.miou(segmentation.confusion(pred, target)) == 1.0  # the 20 absent classes do not count
    pred[0, 0] = 9  # a false alarm: class 9 now has a union and an IoU of 0
    assert segmentation.miou(segmentation.confusion(pred, target)) == pytest.approx((15 / 16 + 0) / 2, abs=1e-12)
    empty = segmentation.confusion(np.zeros((2, 2), int), np.full((2, 2), 255))
    assert math.isnan(segmentation.miou(empty)) and math.isnan(segmentation.pixel_accuracy(empty))


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(ValueError, match="target"):
        segmentation.confusion(np.zeros((2, 2), int), np.full((2, 2), 21))
    with pytest.raises(ValueError, match="prediction"):
        segmentation.confusion(np.full((2, 2), 255), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="shape"):
        segmentation.confusion(np.zeros((2, 2), int), np.zeros((2, 3), int))
