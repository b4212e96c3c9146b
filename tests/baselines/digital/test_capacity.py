"""Tests of the capacity limits: they agree with published figures and with each other."""

import numpy as np
import pytest
from scipy import special

from baselines.digital.capacity import (
    fading_qam_bits,
    fading_qam_snr_db,
    qam_bits,
    qam_limit_db,
    shannon_bits,
    shannon_limit_db,
)

# Es/N0 limits of each modulation and rate in dB, as the literature tabulates them (to one decimal) for BPG+LDPC.
PUBLISHED = {
    (4, 1 / 3): -2.3, (4, 1 / 2): 0.0,
    (16, 1 / 3): 1.8, (16, 1 / 2): 4.8, (16, 2 / 3): 7.3, (16, 3 / 4): 8.5, (16, 5 / 6): 9.6,
    (64, 1 / 2): 8.5, (64, 2 / 3): 11.8, (64, 3 / 4): 13.4, (64, 5 / 6): 14.9,
}  # fmt: skip


@pytest.mark.parametrize(("scheme", "limit"), PUBLISHED.items())
def test_shannon_limits_match_the_published_table(scheme, limit):
    order, rate = scheme
    # the table is rounded to one decimal
    assert shannon_limit_db(rate * np.log2(order)) == pytest.approx(limit, abs=0.055)


def test_shannon_limit_inverts_capacity():
    for bits in (0.5, 1.0, 3.0, 6.0):
        assert shannon_bits(shannon_limit_db(bits)) == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize("order", [4, 16, 64, 256])
def test_qam_information_lies_below_both_its_bounds_and_rises(order):
    snrs = np.arange(-10, 45, 2.5)
    bits = np.array([qam_bits(order, snr) for snr in snrs])
    assert np.all(bits <= shannon_bits(snrs) + 1e-9)
    assert np.all(bits <= np.log2(order) + 1e-9)
    assert np.all(np.diff(bits) > -1e-9)
    assert bits[0] == pytest.approx(shannon_bits(-10.0), rel=0.01)  # at low SNR QAM is as good as Gaussian
    assert bits[-1] == pytest.approx(np.log2(order), abs=1e-6)


@pytest.mark.parametrize(("order", "snr_db"), [(4, 3.0), (16, 8.0), (64, 15.0)])
def test_qam_information_agrees_with_monte_carlo_over_the_whole_constellation(order, snr_db):
    """E[log2 p(y|x)/p(y)] is simulated in two dimensions; the simulation does not use the split
    of QAM into two PAMs.
    """
    rng = np.random.default_rng(1)
    side = int(order**0.5)
    levels = np.arange(-side + 1, side, 2)
    points = (levels[:, None] + 1j * levels[None, :]).reshape(-1)
    points = points / np.sqrt(np.mean(np.abs(points) ** 2))
    noise_var, draws = 10 ** (-snr_db / 10), 40_000
    sent = rng.integers(order, size=draws)
    received = points[sent] + np.sqrt(noise_var / 2) * (rng.standard_normal(draws) + 1j * rng.standard_normal(draws))
    likelihood = np.exp(-(np.abs(received[:, None] - points) ** 2) / noise_var)
    samples = np.log2(likelihood[np.arange(draws), sent] / likelihood.mean(axis=1))
    assert abs(samples.mean() - qam_bits(order, snr_db)) < 4 * samples.std() / np.sqrt(draws)


@pytest.mark.parametrize("order", [16, 64])
def test_constellation_limit_is_above_shannons(order):
    for rate in (1 / 3, 1 / 2, 5 / 6):
        limit = qam_limit_db(order, rate)
        assert limit > shannon_limit_db(rate * np.log2(order))
        assert qam_bits(order, limit) == pytest.approx(rate * np.log2(order), abs=1e-6)


@pytest.mark.parametrize(("order", "snr_db"), [(4, 2.0), (16, 9.0), (64, 18.0), (256, 30.0)])
def test_information_under_fading_agrees_with_monte_carlo_and_lies_below_the_ergodic_capacity(order, snr_db):
    """The ergodic capacity of Gaussian inputs is exp(1/s) E1(1/s) / ln 2 (Alouini and Goldsmith 1999, Eq. 34)."""
    powers = np.random.default_rng(1).exponential(size=4000)
    drawn = [qam_bits(order, snr_db + 10 * np.log10(power)) for power in powers]
    mean, error = np.mean(drawn), np.std(drawn) / np.sqrt(len(drawn))
    inverse = 10 ** (-snr_db / 10)
    assert abs(fading_qam_bits(order, snr_db) - mean) < 4 * error
    assert fading_qam_bits(order, snr_db) < np.exp(inverse) * special.exp1(inverse) / np.log(2)
    assert fading_qam_bits(order, fading_qam_snr_db(order, snr_db)) == pytest.approx(qam_bits(order, snr_db), abs=1e-6)
