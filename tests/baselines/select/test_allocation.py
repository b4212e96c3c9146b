"""Tests of allocation and power: against brute force, and against the conditions of the optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from baselines.select.allocation import STEPS, allocate, cost_of_square, deviation, level


def left_over(variances, amplitudes, noise):
    return variances * noise / (amplitudes**2 * variances + noise)


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
def test_power_is_the_least_squared_error_of_a_numerical_search(snr_db):
    variances = np.array([4.0, 1.0, 0.5, 0.06, 0.01])
    noise, uses = 10 ** (-snr_db / 10) / 2, 3
    given = allocate(level(variances), uses, noise)
    exact = np.exp2(level(variances) / STEPS)

    def error(shares):  # power per coefficient; the sum is `uses`
        power = uses * np.exp(shares) / np.exp(shares).sum()
        return left_over(exact, np.sqrt(power / exact), noise).sum()

    options = {"maxiter": 8000, "fatol": 1e-12, "xatol": 1e-9}
    starts = np.zeros(5), np.log(np.sqrt(exact))
    best = min(minimize(error, start, method="Nelder-Mead", options=options).fun for start in starts)
    amplitudes = np.zeros(5)
    amplitudes[given.places] = given.amplitudes
    assert (amplitudes**2 * exact).sum() == pytest.approx(uses)
    assert left_over(exact, amplitudes, noise).sum() == pytest.approx(best, rel=2e-4)


def test_the_strongest_get_the_uses_and_ties_go_to_the_first():
    levels = np.array([3, 90, 40, 90, -200, 40, 91], np.int16)
    given = allocate(levels, 2, 1e-4)
    assert given.places.tolist() == [6, 1, 3, 2]
    assert given.prices.least == pytest.approx(deviation(np.array(40)))


def test_left_over_error_and_prices_are_derivatives():
    rng = np.random.default_rng(0)
    levels = level(rng.exponential(1.0, 8000) ** 3)
    noise, uses = 0.05, 1600
    given = allocate(levels, uses, noise)
    exact = np.exp2(levels / STEPS)

    def total(power, symbols):
        s = np.sort(deviation(levels))[::-1][:symbols]
        water = noise * s.sum() / (power + noise * len(s))
        assert s[-1] > water
        return (exact.sum() - (s**2).sum()) + (water * s).sum()

    sent = np.square(given.amplitudes * given.deviations)
    error = exact[given.places] * noise / (sent + noise)
    assert np.allclose(error, given.prices.water * given.deviations)
    step = 1e-4
    slope = (total(uses - step, 2 * uses) - total(uses + step, 2 * uses)) / (2 * step)
    assert given.prices.water**2 / noise == pytest.approx(slope, rel=1e-4)
    gained = total(uses, 2 * uses) - total(uses, 2 * uses + 1)
    assert given.prices.symbol == pytest.approx(gained, rel=0.05)


def test_costs_are_error_power_and_symbols_at_their_prices():
    rng = np.random.default_rng(1)
    levels = level(rng.exponential(1.0, 60) ** 2)
    noise, uses = 0.1, 12
    given = allocate(levels, uses, noise)
    x = rng.standard_normal(60)
    amplitudes, sent = np.zeros(60), np.zeros(60, bool)
    amplitudes[given.places], sent[given.places] = given.amplitudes, True
    variances = np.exp2(levels / STEPS)
    gain = amplitudes * variances / (amplitudes**2 * variances + noise)
    error = (1 - gain * amplitudes) ** 2 * x**2 + gain**2 * noise
    prices = given.prices
    power = prices.water**2 / noise * amplitudes**2 * x**2
    expected = error.sum() + power.sum() + prices.symbol * sent.sum()
    weight, fixed = cost_of_square(deviation(levels), prices)
    assert (weight * x**2 + fixed).sum() == pytest.approx(expected)


def test_little_power_is_not_spread_over_what_it_cannot_lift():
    given = allocate(level(np.array([1.0, 1e-6, 1e-6, 1e-6])), 2, 10.0)
    assert given.places.tolist() == [0]
