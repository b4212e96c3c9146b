"""The system keeps to the rules, and more SNR gives a better picture."""

import pytest
import torch
from skimage import data

import bench


@pytest.mark.parametrize("size", [(64, 96), (61, 97)])
def test_it_keeps_to_the_rules_and_gains_with_snr(size):
    picture = torch.from_numpy(data.astronaut()[: size[0], : size[1]].copy()).permute(2, 0, 1)
    table = bench.evaluate("my-system", picture, snr_db=[0, 20])  # the audit raises where power or budget are broken
    assert table["psnr_db"].iloc[1] > table["psnr_db"].iloc[0]
    assert bench.transmit("my-system", picture, snr_db=20).shape == (1, 3, *size)
