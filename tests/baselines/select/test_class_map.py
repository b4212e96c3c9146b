"""Tests of the class map: decoding gives what was coded, the length is what the probabilities predict, and bits are
spent where they help most.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.select import class_map
from baselines.select.class_map import TOTAL, ContextTables


def smooth_map(rng, rows, columns, classes):
    """A map in which neighbours tend to be equal, as in pictures."""
    field = np.cumsum(np.cumsum(rng.standard_normal((rows, columns)), axis=0), axis=1)
    ranks = field.ravel().argsort().argsort().reshape(rows, columns)
    return ranks * classes // (rows * columns)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 48), st.integers(0, 2**31))
def test_every_map_comes_back_whatever_follows_it(rows, columns, classes, seed):
    rng = np.random.default_rng(seed)
    tables = ContextTables.fit([smooth_map(rng, 8, 8, classes)], classes)
    chosen = rng.integers(0, classes, (rows, columns))
    bits = class_map.encode(chosen, tables, 100_000)
    for tail in (np.zeros(0, np.uint8), rng.integers(0, 2, 40).astype(np.uint8), np.ones(40, np.uint8)):
        assert np.array_equal(class_map.decode(np.concatenate([bits, tail]), chosen.shape, tables), chosen)


def test_powers_of_two_are_exact_to_their_last_place():
    expected = 2.0 ** (16 - np.arange(class_map.UNIT) / class_map.UNIT)
    assert np.abs(class_map._POWERS - expected).max() <= 1.0


def test_length_is_what_the_frequencies_say_and_context_pays():
    rng = np.random.default_rng(3)
    maps = [smooth_map(rng, 32, 48, 16) for _ in range(6)]
    tables = ContextTables.fit(maps[:5], 16)
    share = ContextTables(tables.share, *(np.repeat(tables.share[None], 17, axis=0) for _ in range(2)))
    chosen, spent = class_map.choose(1e9 * (np.arange(16) != maps[5].reshape(-1, 1)), 1.0, maps[5].shape, tables)
    assert np.array_equal(chosen, maps[5])
    bits = len(class_map.encode(chosen, tables, 10**6))
    assert spent <= bits <= spent + 4
    assert bits < 0.75 * len(class_map.encode(chosen, share, 10**6))
    counts = np.bincount(chosen.ravel(), minlength=16) / chosen.size
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum() * chosen.size
    assert bits < entropy  # knowing the neighbours saves bits compared with the counts alone


def test_frequencies_are_a_whole_and_none_is_zero():
    rng = np.random.default_rng(0)
    tables = ContextTables.fit([smooth_map(rng, 20, 20, 48)], 48)
    used, expected = np.zeros(48, np.int64), np.zeros(48, np.int64)
    out = np.empty(48, np.int64)
    for _ in range(5000):
        left, above, own = rng.integers(0, 49), rng.integers(0, 49), rng.integers(0, 3)
        class_map._frequencies(
            left, above, used, expected, tables.share, tables.left, tables.above, class_map._POWERS, out
        )
        assert out.sum() == TOTAL and out.min() >= 1
        used[own] += 1


def test_dear_bits_make_calm_maps():
    rng = np.random.default_rng(5)
    tables = ContextTables.fit([smooth_map(rng, 32, 32, 16)], 16)
    costs = rng.random((1024, 16))
    spent, error = [], []
    for price in (0.0, 0.05, 0.5, 1e6):
        chosen, bits = class_map.choose(costs, price, (32, 32), tables)
        spent.append(bits)
        error.append(costs[np.arange(1024), chosen.ravel()].sum())
    assert spent == sorted(spent, reverse=True) and error == sorted(error)
    assert error[0] == pytest.approx(costs.min(axis=1).sum())
    assert spent[-1] < 0.2 * 1024  # nearly all blocks are in one class


def test_what_does_not_fit_is_refused():
    chosen = np.random.default_rng(0).integers(0, 16, (10, 10))
    tables = ContextTables.flat(16)
    need = len(class_map.encode(chosen, tables, 10**6))
    assert len(class_map.encode(chosen, tables, need)) == need
    for room in (need - 1, 3, 0, -5):
        assert class_map.encode(chosen, tables, room) is None
