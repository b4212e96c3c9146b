"""Tests of the counter-based draws: the published generator, independent of batch, order and number of processes."""

import numpy as np
import pytest
import torch

from bench.training import draws

#: The first values of SplitMix64 seeded with 1234567, as its authors' C program prints them.
PUBLISHED = (6457827717110365317, 3203168211198807973, 9817491932198370423)


def splitmix64(key: int, index: int) -> int:
    """The generator in Python's integers, written from the paper."""
    z = (key + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_values_are_those_of_the_published_generator():
    words = draws.words(torch.tensor([1234567]), torch.arange(3))[0]
    assert tuple(word % 2**64 for word in words.tolist()) == PUBLISHED
    keys, index = torch.tensor([-1, 0, 2**63 - 1, 987654321]), torch.tensor([0, 7, 10**9])
    expected = [[splitmix64(key % 2**64, i) for i in index.tolist()] for key in keys.tolist()]
    assert [[word % 2**64 for word in row] for row in draws.words(keys, index).tolist()] == expected


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_sample_has_its_draws_whoever_holds_it(world):
    whole = draws.complex_normals(draws.sample_keys(5, torch.arange(8)), 50)
    for rank in range(world):
        part = draws.complex_normals(draws.sample_keys(5, torch.arange(rank, 8, world)), 50)
        assert torch.equal(part, whole[rank::world])


def test_a_shorter_draw_is_a_prefix_and_streams_are_apart():
    keys = draws.sample_keys(1, torch.arange(4))
    assert torch.equal(draws.complex_normals(keys, 9), draws.complex_normals(keys, 30)[:, :9])
    streams = [draws.stream(keys, number) for number in (draws.WINDOW, draws.NOISE, draws.FADING)]
    assert len(torch.cat([keys, *streams]).unique()) == 16


def test_uniforms_are_uniform_and_normals_are_normal():
    """Means, variances and correlations agree within five standard errors; the tails are those expected of 400,000
    draws.
    """
    keys, count = draws.sample_keys(3, torch.arange(40)), 10_000
    u = draws.uniforms(keys, count)
    n = u.numel()
    assert 0 <= u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / n) and abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / n)
    assert abs(((u[:, 1:] - 0.5) * (u[:, :-1] - 0.5)).mean()) < 5 / 12 / np.sqrt(n)
    assert abs(((u[1:] - 0.5) * (u[:-1] - 0.5)).mean()) < 5 / 12 / np.sqrt(n)
    z = draws.complex_normals(keys, count)
    power = z.abs().square()
    assert abs(power.mean() - 1) < 5 / np.sqrt(n) and abs(power.square().mean() - 2) < 5 * np.sqrt(20 / n)
    assert abs(z.mean()) < 5 / np.sqrt(n) and abs((z * z).mean()) < 5 * np.sqrt(2 / n)
    assert abs((z.real**4).mean() - 0.75) < 5 * np.sqrt(6 / n)
    assert 10 < power.max() < 25  # the largest of n exponential draws is about log n = 12.9


def test_a_step_seed_names_its_parts():
    assert draws.step_seed(0, "reconstruction", 5) != draws.step_seed(0, "reconstruction", 6)
    assert draws.step_seed("a") == 0xCA978112CA1BBDCA >> 1  # sha256 of "a" begins ca978112ca1bbdca
