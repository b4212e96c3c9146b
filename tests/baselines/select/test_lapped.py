"""Tests of the lapped transform: it is orthonormal and invertible, and has no steps at block borders."""

import numpy as np
import pytest
import torch

from baselines.select import lapped
from baselines.select.lapped import Coefficients


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (64, 96), (240, 32)])
def test_the_transform_is_orthonormal_and_whole(size):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 3, *size, generator=generator), torch.rand(2, 3, *size, generator=generator)
    a, b = lapped.analyse(first), lapped.analyse(second)
    assert torch.allclose(lapped.synthesise(a), first, atol=2e-6)
    inner = sum((x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True))
    expected = ((first - 0.5) * (second - 0.5)).sum(dtype=torch.float64)
    assert torch.isclose(inner, expected, rtol=1e-5, atol=1e-3)
    assert sum(part[0].numel() for part in a) == first[0].numel()  # critically sampled: as many coefficients as pixels


def test_a_flat_picture_is_one_number_per_colour_axis():
    found = lapped.analyse(torch.full((1, 3, 64, 64), 0.75))
    assert found.details.abs().max() < 1e-5
    grey = found.means[0, 0].clone()
    assert grey[0, 0] == pytest.approx(0.25 * np.sqrt(3) * 64, rel=1e-5)  # 0.25 of each of 3 x 64 x 64 values
    grey[0, 0] = 0
    assert grey.abs().max() < 1e-4 and found.means[0, 1:].abs().max() < 1e-4


def test_coding_gain_on_a_markov_source_is_that_of_the_lapped_orthogonal_transform():
    """For correlation 0.95 and 16 bands the cosine transform gains 9.46 dB (Malvar 1992, Table 1.2), the lapped one
    9.76 dB.
    """
    count = 16 * 9
    step = torch.arange(count, dtype=torch.float64)
    source = 0.95 ** (step[:, None] - step).abs()
    transform = lapped._forward(torch.eye(count)).T.double()
    variances = (transform @ source @ transform.T).diagonal()[64:80]
    gain = 10 * torch.log10(variances.mean() / variances.log().mean().exp())
    cosine = lapped.cosines(16).double()
    plain = (cosine @ source[:16, :16] @ cosine.T).diagonal()
    assert 10 * torch.log10(plain.mean() / plain.log().mean().exp()) == pytest.approx(9.455, abs=0.005)
    assert gain == pytest.approx(9.76, abs=0.01)


def test_a_basis_function_fades_out_at_both_ends():
    """The lowest basis function of a block reaches over both neighbours and has no step at its ends, so no block
    borders show.
    """
    details = torch.zeros(1, 1, 5, lapped.SIZE - 3)
    details[0, 0, 2, 0] = 1.0  # the lowest horizontal frequency of grey
    picture = lapped.synthesise(Coefficients(torch.zeros(1, 3, 1, 5), details)) - lapped.MIDDLE
    line = picture[0, 0, 8]
    support = torch.nonzero(line.abs() > 1e-6).flatten()
    assert (int(support[0]), int(support[-1])) == (24, 55)
    assert line[24].abs() < 0.3 * line.abs().max() and line[55].abs() < 0.3 * line.abs().max()
