"""Tests of intervals and curve distances: intervals cover the truth, comparisons are paired, distances are exact where
the answer is known.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, t

from bench.analysis.bd import bd_psnr, bd_snr
from bench.analysis.compare_numbers import paired_miou
from bench.analysis.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_miou,
    few,
    paired_difference,
    per_image,
    percentiles,
    wilson,
    zero_error_bound,
)
from bench.measure.metrics import segmentation

# ---------------------------------------------------------------- bootstrap


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 24])
def test_bootstrap_covers_the_truth_95_times_in_100(n):
    """The plain percentile interval covers 89 % at n = 7 and fails here; any bootstrap covers at most 50 % at n = 2."""
    trials = 1000
    draws = np.random.default_rng(n).normal(30.0, 3.0, (trials, n))
    intervals = [bootstrap_mean(row, resamples=1000, seed=k) for k, row in enumerate(draws)]
    hits = sum(interval.low <= 30.0 <= interval.high for interval in intervals)
    low, high = binom.interval(0.999, trials, 0.95)
    assert low <= hits <= high


def test_large_samples_give_the_normal_interval():
    values = np.random.default_rng(0).normal(0, 2, 4000)
    interval = bootstrap_mean(values, resamples=4000)
    half = 1.96 * values.std(ddof=1) / math.sqrt(4000)
    assert interval.mean == pytest.approx(values.mean(), abs=1e-12)
    assert interval.std == pytest.approx(values.std(ddof=1), abs=1e-12)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_higher_level_is_wider_and_the_seed_fixes_the_result():
    values = np.random.default_rng(0).normal(0, 1, 20)
    narrow, wide = bootstrap_mean(values, level=0.8), bootstrap_mean(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_repetitions_are_no_extra_pictures():
    values = np.random.default_rng(0).normal(0, 1, 12)
    once, often = bootstrap_mean(values), bootstrap_mean(np.repeat(values[:, None], 50, axis=1))
    assert often.n == 12
    np.testing.assert_allclose([often.low, often.high, often.std], [once.low, once.high, once.std], atol=1e-12)


def test_missing_values_are_left_out_not_counted_as_zero():
    values = np.array([[1.0, 3.0], [4.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(per_image(values), [2.0, 4.0, np.nan])
    interval = bootstrap_mean(values)
    assert (interval.mean, interval.n) == (3.0, 2)


def test_one_picture_gives_a_mean_and_no_interval():
    one, none = bootstrap_mean([5.0]), bootstrap_mean([])
    assert (one.mean, one.n) == (5.0, 1) and math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.std)
    assert none.n == 0 and math.isnan(none.mean)
    assert paired_difference([1.0], [0.0]).decision == "undecided" and paired_difference([1.0], [0.0]).tied


def test_few_pictures_have_students_interval():
    values = np.array([30.0, 31.0, 35.0])
    low, high = t.interval(0.95, 2, values.mean(), values.std(ddof=1) / math.sqrt(3))
    interval = bootstrap_mean(values)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)  # exactly: no draw has a part in it
    draws = np.random.default_rng(1).choice(values, (200_000, 3)).mean(axis=1)
    assert percentiles(draws, 3, 0.95) == pytest.approx((low, high), rel=0.005)  # of any statistic: its spread alone
    with_more = bootstrap_mean(np.repeat(values, 3))
    assert values.min() <= with_more.low < with_more.high <= values.max()
    assert [few(n) for n in (2, 5, 6, 7)] == [True, True, True, False] and few(7, 0.999)


def test_few_pictures_show_a_lead_and_never_a_tie():
    ahead, open_ = paired_difference([3.0, 3.1, 3.05], [0.0] * 3), paired_difference([7.4, 5.0], [0.0] * 2)
    assert (ahead.decision, open_.decision) == ("higher", "undecided")
    assert paired_difference([1.0, -1.0] * 4, [0.0] * 8).decision == "tied"
    assert paired_difference([3.0, 4.0], [3.0, 4.0]).decision == "tied"  # the same results


# ---------------------------------------------------------------- paired comparison


def test_pairing_takes_the_pictures_difficulty_out():
    rng = np.random.default_rng(1)
    difficulty = rng.normal(30, 4, 24)
    a, b = difficulty + 0.3 + rng.normal(0, 0.1, 24), difficulty + rng.normal(0, 0.1, 24)
    paired = paired_difference(a, b)
    assert paired.decision == "higher" and not paired.tied
    assert paired_difference(b, a).decision == "lower"
    alone_a, alone_b = bootstrap_mean(a), bootstrap_mean(b, seed=1)
    # widths of independent means add in quadrature
    unpaired = math.hypot(alone_a.high - alone_a.low, alone_b.high - alone_b.low)
    assert paired.high - paired.low < 0.1 * unpaired
    assert paired.mean == pytest.approx((a - b).mean(), abs=1e-12)


def test_equal_systems_are_tied_95_times_in_100():
    trials, n = 600, 12
    draws = np.random.default_rng(2).normal(0, 1, (trials, 2, n))
    tied = sum(paired_difference(a, b, resamples=1000, seed=k).tied for k, (a, b) in enumerate(draws))
    low, high = binom.interval(0.999, trials, 0.95)
    assert low <= tied <= high


def test_a_picture_that_one_side_lacks_is_left_out():
    interval = paired_difference([1.0, 2.0, np.nan, 9.0], [0.0, 1.0, 5.0, np.nan])
    assert (interval.n, interval.mean) == (2, 1.0)
    with pytest.raises(ValueError, match="same pictures"):
        paired_difference([1.0, 2.0], [1.0])


# ---------------------------------------------------------------- mIoU


def segmented(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersections, unions and labelled pixels (n, 21) of noisy labels; the pictures differ in difficulty."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        target = rng.integers(0, 21, (12, 12))
        pred = np.where(rng.random((12, 12)) < rng.uniform(0.3, 0.95), target, rng.integers(0, 21, (12, 12)))
        matrix = segmentation.confusion(pred, target)
        rows.append((*segmentation.intersections_unions(matrix), matrix.sum(axis=1)))
    inter, union, labelled = np.array(rows).transpose(1, 0, 2)
    return inter, union, labelled


def test_bootstrap_miou_is_that_of_summed_counts():
    inter, union, labelled = segmented(30, 0)
    interval = bootstrap_miou(inter, union, labelled)
    assert interval.mean == pytest.approx(np.mean(inter.sum(0) / union.sum(0)), abs=1e-12)
    assert interval.low < interval.mean < interval.high and interval.n == 30
    # Against a plain loop that resamples pictures and does the sums anew.
    rng = np.random.default_rng(99)
    plain = [np.mean(inter[p].sum(0) / union[p].sum(0)) for p in (rng.integers(0, 30, 30) for _ in range(2000))]
    assert interval.std == pytest.approx(np.std(plain), rel=0.1)
    wider = bootstrap_miou(*(np.concatenate([pixels] * 4) for pixels in (inter, union, labelled)))
    assert wider.std == pytest.approx(interval.std / 2, rel=0.15)  # four times the pictures give half the error


def test_bootstrap_miou_of_few_pictures_and_absent_classes():
    one = bootstrap_miou(*segmented(1, 1))
    assert one.n == 1 and math.isnan(one.low) and 0 < one.mean < 1
    inter, union, labelled = segmented(5, 2)
    inter[:, 15:] = union[:, 15:] = labelled[:, 15:] = 0
    interval = bootstrap_miou(inter, union, labelled)
    unlike = bootstrap_miou(np.array([[0], [10]]), np.array([[10], [10]]), np.array([[10], [10]]))
    assert (unlike.low, unlike.high) == (0.0, 1.0)  # and nothing beyond
    assert interval.mean == pytest.approx(np.mean(inter.sum(0)[:15] / union.sum(0)[:15]), abs=1e-12)
    assert math.isnan(bootstrap_miou(*[np.zeros((3, 21))] * 3).mean)
    assert bootstrap_miou(*[np.zeros((0, 21))] * 3).n == 0


def one_class_each(share: float, stray: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten pictures that show one class each, 1,000 pixels of it. A system finds about a share of them, and takes
    `stray` pixels of each picture for each other class.
    """
    labelled = 1000 * np.eye(10)
    inter = (share + np.linspace(-0.1, 0.1, 10)) * labelled
    return inter, labelled + stray * (1 - np.eye(10)), labelled


def test_a_few_stray_pixels_do_not_move_an_interval_away_from_its_mean():
    """A resample lacks a third of the classes. With stray pixels they would count as 0, but for one system alone."""
    careful, better = one_class_each(0.75, 0), one_class_each(0.80, 1)
    for pixels in (careful, better):
        interval = bootstrap_miou(*pixels)
        assert interval.low < interval.mean - 0.02 and interval.mean + 0.02 < interval.high
    gap = paired_miou(*(tuple(part[None] for part in pixels) for pixels in (careful, better)))[2]
    assert gap.mean < -0.04 and gap.high < -0.04 and gap.decision == "lower"  # classes as 0: +0.04 to +0.42


def test_a_class_that_nowhere_is_true_counts_in_each_resample():
    """False alarms of a class that the data set does not have lower the mean, and every resample of it."""
    inter, union, labelled = (np.hstack([pixels, np.zeros((10, 1))]) for pixels in one_class_each(0.8, 0))
    union[:, 10] = 5
    interval = bootstrap_miou(inter, union, labelled)
    assert interval.mean == pytest.approx(0.8 * 10 / 11) and interval.high < 0.8


def test_an_interval_on_the_other_side_of_0_than_its_mean_decides_nothing():
    assert Interval(-2.6, 9.0, 4.4, 41.3, 10).decision == Interval(0.0, 9.0, -41.3, -4.4, 10).decision == "undecided"
    assert Interval(5.0, 1.0, 4.4, 41.3, 10).decision == "higher"


# ---------------------------------------------------------------- rates


@pytest.mark.parametrize("successes, n", [(0, 10), (1, 10), (5, 10), (263, 263), (3, 2000)])
def test_wilson_agrees_with_scipy(successes, n):
    theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    mine = wilson(successes, n)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert mine.low <= mine.mean <= mine.high and mine.mean == successes / n


def test_wilson_by_hand_and_zero_errors():
    assert wilson(8, 10).low == pytest.approx(0.4902, abs=5e-5)  # Newcombe 1998 gives the same formula
    assert wilson(8, 10).high == pytest.approx(0.9433, abs=5e-5)
    assert zero_error_bound(1000) == 0.003
    assert 1 - 0.05 ** (1 / 1000) == pytest.approx(zero_error_bound(1000), rel=0.01)  # exact bound of a binomial
    assert math.isnan(zero_error_bound(0)) and math.isnan(wilson(0, 0).low)
    with pytest.raises(ValueError, match="not a rate"):
        wilson(3, 2)


# ---------------------------------------------------------------- curves

SNR = np.arange(0.0, 21.0, 2.0)
CURVE = 34 - 12 * np.exp(-SNR / 6)  # rises and saturates, like curves of JSCC systems


def test_a_curve_shifted_by_one_db_is_one_db_apart():
    assert bd_snr(SNR, CURVE, SNR - 1, CURVE) == pytest.approx(1.0, abs=1e-12)
    assert bd_snr(SNR, CURVE, SNR + 1, CURVE) == pytest.approx(-1.0, abs=1e-12)
    assert bd_psnr(SNR, CURVE, SNR, CURVE + 1) == pytest.approx(1.0, abs=1e-12)
    assert bd_psnr(SNR, CURVE, SNR, CURVE) == 0 == bd_snr(SNR, CURVE, SNR, CURVE)


def test_a_curve_shifted_on_its_own_grid():
    """The grid is the same and the function is moved by 1 dB, so only interpolation between the knots can find the
    shift.
    """
    shifted = 34 - 12 * np.exp(-(SNR + 1) / 6)
    assert bd_snr(SNR, CURVE, SNR, shifted) == pytest.approx(1.0, abs=0.02)
    line = 20 + 0.7 * SNR
    assert bd_psnr(SNR, line, SNR, 20 + 0.7 * (SNR + 1)) == pytest.approx(0.7, abs=1e-12)
    assert bd_snr(SNR, line, SNR, 20 + 0.7 * (SNR + 1)) == pytest.approx(1.0, abs=1e-12)


def test_area_against_an_integral_in_closed_form():
    fine = np.linspace(0, 20, 401)
    gap = bd_psnr(fine, np.zeros(401), fine, 12 * np.exp(-fine / 6))
    assert gap == pytest.approx(12 * 6 * (1 - math.exp(-20 / 6)) / 20, abs=1e-4)


def test_digital_curves_with_a_cliff_a_plateau_and_holes():
    digital = np.where(SNR < 12, np.nan, 31.0)
    assert bd_psnr(SNR, CURVE, SNR, digital) == pytest.approx(
        31 - np.mean(34 - 12 * np.exp(-np.linspace(12, 20, 10_001) / 6)), abs=0.01
    )
    assert math.isnan(bd_snr(SNR, CURVE, SNR, digital))  # one PSNR only: no range of PSNR to compare over
    assert math.isnan(bd_psnr(SNR, CURVE, SNR, np.where(SNR < 20, np.nan, 31.0)))
    assert math.isnan(bd_psnr(SNR, CURVE, SNR + 40, CURVE))
    stairs = np.array([20.0, 20.0, 26.0, 26.0])
    assert np.isfinite(bd_snr(SNR, CURVE, np.array([0.0, 4.0, 8.0, 12.0]), stairs + 2))
    shuffled = np.random.default_rng(0).permutation(len(SNR))
    assert bd_snr(SNR, CURVE, (SNR - 1)[shuffled], CURVE[shuffled]) == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(ValueError, match="two values"):
        bd_psnr(SNR, CURVE, np.array([1.0, 1.0, 2.0]), np.array([20.0, 21.0, 22.0]))


def test_a_rate_is_over_pictures_whatever_the_repetitions():
    from bench.analysis.intervals import rate_over_images

    once = np.array([1.0, 0, 0, 1, 0, 0, 0])
    single, method = rate_over_images(once)
    assert method == "Wilson" and single == wilson(2, 7)
    assert rate_over_images(np.repeat(once[:, None], 9, axis=1))[0] == single  # equal repetitions give no more evidence
    lost = np.random.default_rng(0).integers(0, 2, (7, 3)).astype(float)
    mixed, method = rate_over_images(lost)
    assert method == "bootstrap over images" and mixed == bootstrap_mean(lost) and mixed.n == 7


def test_summary_counts_lost_pictures_not_rows():
    from bench.analysis.summary import PointRows, summarise
    from bench.results.schema import CELL_COLUMNS

    point = PointRows({"task": "reconstruction"})
    for i in range(7):
        for rep in range(3):
            status = "outage" if i < 2 and rep < 3 - i else "ok"
            row = dict.fromkeys(CELL_COLUMNS, "") | {"image_id": f"i{i}", "rep": str(rep), "status": status}
            point.add([list(row.values())])
    row = {r["metric"]: r for r in summarise([point], "run", False)}["outage_rate"]
    assert row["mean"] == pytest.approx(5 / 21) and (row["n_outage"], row["n_images"], row["n_reps"]) == (2, 7, 3)
    assert row["ci_method"] == "bootstrap over images"
