"""Tests of seeds: the same name gives the same draw; every part of the name counts, and nothing else does."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from bench.measure.seeds import draw_seed

BASE = dict(base_seed=1, dataset="photos", image_id="astronaut", channel="awgn", snr_db=10.0, rep=0, stream="channel")


def test_seed_is_the_sha256_of_the_name():
    text = '[1,"photos","astronaut","awgn","10",0,"channel"]'
    assert draw_seed(**BASE) == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)


@pytest.mark.parametrize(
    "change",
    [
        {"base_seed": 2},
        {"dataset": "kodak"},
        {"image_id": "chelsea"},
        {"channel": "rayleigh-block"},
        {"snr_db": 10.5},
        {"snr_db": -10.0},
        {"rep": 1},
        {"stream": "sampler"},
        {"salt": "5eed5a17"},
    ],
)
def test_every_part_of_the_name_counts(change):
    assert draw_seed(**BASE) != draw_seed(**{**BASE, **change})


def test_the_system_has_no_part_in_it():
    assert list(inspect.signature(draw_seed).parameters) == [*BASE, "salt"]


@pytest.mark.parametrize("same", [10, np.float64(10), np.int64(10), np.float32(10), 10.0 + 1e-12])
def test_one_number_has_one_seed_however_it_is_written(same):
    assert draw_seed(**{**BASE, "snr_db": same}) == draw_seed(**BASE)


def test_sums_of_steps_and_negative_zero_keep_their_seed():
    assert draw_seed(**{**BASE, "snr_db": 0.1 * 3}) == draw_seed(**{**BASE, "snr_db": 0.3})
    assert draw_seed(**{**BASE, "snr_db": -0.0}) == draw_seed(**{**BASE, "snr_db": 0.0})


def test_parts_cannot_run_together():
    one = draw_seed(**{**BASE, "dataset": "a|b", "image_id": "c"})
    other = draw_seed(**{**BASE, "dataset": "a", "image_id": "b|c"})
    assert one != other
    quoted = draw_seed(**{**BASE, "dataset": 'a","b', "image_id": "c"})
    assert quoted != draw_seed(**{**BASE, "dataset": "a", "image_id": 'b","c'})


def test_seeds_spread_over_64_bits():
    seeds = {draw_seed(**{**BASE, "rep": rep}) for rep in range(2000)}
    assert len(seeds) == 2000
    ones = np.array([[(seed >> bit) & 1 for bit in range(64)] for seed in seeds]).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


def test_another_process_gives_the_same_seed():
    """A seed from Python's hash() would differ from process to process."""
    code = f"from bench.measure.seeds import draw_seed; print(draw_seed(**{BASE!r}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == draw_seed(**BASE)
