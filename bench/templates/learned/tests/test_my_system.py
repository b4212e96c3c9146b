"""The system keeps to the rules, gradients reach all of it, and a picture of any size comes back in its size."""

import pytest
import torch
from my_system import MySystem
from skimage import data

import bench
from systems import Budget, Link, Received


@pytest.mark.parametrize("size", [(64, 96), (61, 97)])
def test_it_keeps_to_the_rules(size):
    picture = torch.from_numpy(data.astronaut()[: size[0], : size[1]].copy()).permute(2, 0, 1)
    seen = bench.transmit("my-system", picture, snr_db=20, checkpoint="none")  # the audit raises where it is broken
    assert seen.shape == (1, 3, *size)


def test_every_weight_is_trained():
    system = MySystem("my-system", checkpoint="none").train()
    link = Link("reconstruction", 32, 48, Budget.from_cbr(1 / 16, 32, 48), snr_db=torch.tensor([0.0, 20.0]))
    images = torch.rand(2, 3, 32, 48)

    def channel(sent, _link):
        ones = torch.ones(2, 1, dtype=torch.complex64)
        return Received(sent.symbols, ones, torch.full((2,), 0.1), sent.side_info)

    losses = system.training_step(images, images, link, channel)
    sum(losses.values()).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in system.parameters())
